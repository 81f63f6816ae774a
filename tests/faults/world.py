"""A gateway of real processes to be killed, a sink that remembers, and clients that know what they were promised."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from relay.keyring import Keyring
from relay.owner import Owner
from relay.settings.model import Settings
from tests.harness import processes
from tests.harness.ports import free_port
from tests.harness.stable import STABLE, Forked

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60.0
DOUBT_SECONDS = 3.0
"""A delivery is in doubt while its outcome is on the way to the disk: much less, but machines stall."""
_UNLIMITED = dict.fromkeys(
    (
        "transactional_messages_per_minute",
        "transactional_recipients_per_day",
        "stream_messages_per_minute",
        "tenant_messages_per_minute",
        "tenant_recipients_per_day",
        "domain_messages_per_minute",
        "client_messages_per_minute",
        "warmup_recipients",
    ),
    1_000_000_000,
)


class _Places(NamedTuple):
    """What relay.owner wants to know of the settings."""

    server: Any
    storage: Any


class _Storage(NamedTuple):
    database: str


class World:
    """One gateway over `data`, restarted as often as needed, each time with as many workers as asked."""

    def __init__(self, folder: Path, sink_port: int, *, data: Path | None = None, min_free_bytes: int = 0) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.port, self.web, self.sink_port = free_port(), free_port(), sink_port
        self.min_free_bytes = min_free_bytes
        self.process: Forked | None = None
        self.login = self._set_up()

    def settings(self, workers: int) -> Settings:
        values = {
            "server": {
                "hostname": "gateway.example",
                "data_dir": str(self.data),
                "keys_dir": str(self.folder / "keys"),
                "workers": workers,
                "drain_timeout_seconds": 10.0,
            },
            "listener": [{"address": f"127.0.0.1:{self.port}", "tls": "off"}],
            "web": {"address": f"127.0.0.1:{self.web}"},
            "delivery": {"mode": "smarthost", "smarthosts": [f"smtp://127.0.0.1:{self.sink_port}"], "tls": "off"},
            "limits": {"min_free_disk_bytes": self.min_free_bytes},
            "policies": {"throttle": _UNLIMITED},
        }
        return Settings.model_validate_json(json.dumps(values))

    def _set_up(self) -> bytes:
        """Tenant, domain, key and a login; the argument of AUTH PLAIN."""
        settings = self.settings(1)
        keyring = Keyring.open(settings.server.keys_dir, create=True)
        places = _Places(settings.server, _Storage(f"sqlite:///{settings.database_path}"))
        with Owner.open(places, keyring) as owner:
            owner.call(
                "tenant.add",
                {"name": "shop", "legal_name": "Shop BV", "contact": "info@sender.example", "refusal_letters": False},
            )
            owner.call("domain.add", {"tenant": "shop", "domain": "sender.example", "vouched": True})
            owner.call("dkim.add", {"domain": "sender.example", "selector": "g1", "vouched": True})
            made = owner.call("credential.add", {"tenant": "shop", "name": "app", "stream": "transactional"})
        return base64.b64encode(f"\0{made['username']}\0{made['password']}".encode())

    async def start(self, workers: int) -> None:
        """Returns when every process is ready; AssertionError when it does not come up."""
        with (self.folder / "log").open("ab") as log:
            self.process = STABLE.start(log.fileno())
        self.process.stdin.write(self.settings(workers).model_dump_json().encode() + b"\n")
        self.process.stdin.close()
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), START_SECONDS)
        assert line == b"ready\n", f"the gateway did not start: {self.log()[-3000:]}"

    def reasons(self) -> list[str]:
        """Why it is not ready, as it says itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.web, timeout=20.0)
        connection.request("GET", "/readyz")
        with contextlib.closing(connection), connection.getresponse() as answer:
            found: list[str] = json.loads(answer.read())["reasons"]
        return found

    def children(self) -> list[int]:
        """Workers and the web process."""
        assert self.process is not None
        return processes.children(self.process.pid)

    def every_child(self) -> list[int]:
        """The zygote too."""
        assert self.process is not None
        return self.children() + processes.zygotes(self.process.pid)

    def kill_supervisor(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    async def stop(self) -> None:
        """SIGTERM, and the drain."""
        if self.process is None:
            return
        process = self.process
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60.0)
        process.stdout.close()
        self.process = None

    async def freeze(self) -> None:
        """Stop every process where it stands, as a power cut does; returns when none of its threads runs any more."""
        assert self.process is not None
        pids = [self.process.pid, *self.every_child()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(20.0):
            while not all(map(is_stopped, pids)):
                await asyncio.sleep(0.002)

    def crash(self) -> list[int]:
        """Kill everything at once; the numbers of what was killed."""
        killed = self.every_child()
        self.kill_supervisor()
        for pid in killed:
            kill(pid)
        return killed

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """It has a thread that has not ended. The first one may be a zombie while another still holds the files open."""
    return not _states(pid) <= set("ZX")


def is_stopped(pid: int) -> bool:
    """No thread of it is running or waiting for the disk."""
    return _states(pid) <= set("TtZX")


def _states(pid: int) -> set[str]:
    """Of its threads; none where the process is gone."""
    states = set()
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError, IndexError):  # it ended meanwhile
            states.add(path.read_text().rpartition(")")[2].split()[0])
    return states


async def gone(pids: list[int], seconds: float = 40.0) -> None:
    """Returns when none of the processes is there any more."""
    async with asyncio.timeout(seconds):
        while any(map(is_alive, pids)):
            await asyncio.sleep(0.05)


class Sink:
    """Takes every message and remembers when, by its number. `answers` False: it takes nothing, mail waits."""

    def __init__(self) -> None:
        self.arrived: dict[int, list[float]] = defaultdict(list)
        self.more = asyncio.Event()
        self.port = 0
        self.answers = True
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._session, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b"220 sink.example ESMTP\r\n" if self.answers else b"421 not now\r\n")
            while self.answers and (line := await reader.readline()):
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    number = int(content.partition(b"\r\nX-Number: ")[2].partition(b"\r\n")[0])
                    self.arrived[number].append(time.monotonic())
                    self.more.set()
                    writer.write(b"250 2.0.0 taken\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
        writer.close()

    def twice(self) -> dict[int, list[float]]:
        return {number: times for number, times in self.arrived.items() if len(times) > 1}

    def unexplained(self, moments: list[float], *, slack: float) -> list[int]:
        """Duplicates of which an earlier copy was not under way at one of the `moments`: it may come `slack` seconds after it."""
        return [
            number
            for number, times in self.twice().items()
            if not all(any(-slack <= moment - at <= DOUBT_SECONDS for moment in moments) for at in times[:-1])
        ]

    async def wait_for(self, numbers: set[int], seconds: float) -> set[int]:
        """What of `numbers` has not arrived within `seconds` of quiet."""
        while missing := numbers - self.arrived.keys():
            self.more.clear()
            try:
                await asyncio.wait_for(self.more.wait(), seconds)
            except TimeoutError:
                return missing
        return set()


class Clients:
    """Sessions that send one message after the other; each number is sent once, whatever becomes of it."""

    def __init__(self, world: World, sessions: int = 8, pace: float = 0.0) -> None:
        self.acknowledged: set[int] = set()
        self.in_doubt: set[int] = set()  # the connection broke after the final dot
        self.refusals: list[str] = []
        self._world = world
        self._pace = pace
        self._number = 0
        self._stopping = False
        self._sessions = sessions
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._stopping = False
        self._tasks = [asyncio.ensure_future(self._run()) for _ in range(self._sessions)]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 120.0)

    async def acknowledge(self, more: int) -> None:
        """Returns when `more` further messages have been acknowledged."""
        goal = len(self.acknowledged) + more
        async with asyncio.timeout(120.0):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.02)

    async def be_refused(self, more: int) -> list[str]:
        """The next `more` refusals."""
        seen = len(self.refusals)
        async with asyncio.timeout(60.0):
            while len(self.refusals) < seen + more:
                await asyncio.sleep(0.02)
        return self.refusals[seen:]

    async def _run(self) -> None:
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._world.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, _Refused):
                await self._session(reader, writer)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reply(reader, b"220")
        for command in (b"EHLO client.example", b"AUTH PLAIN " + self._world.login):
            writer.write(command + b"\r\n")
            await _reply(reader, b"2")
        while not self._stopping:
            self._number += 1
            number = self._number
            for command, wanted in (
                (b"MAIL FROM:<app@sender.example>", b"250"),
                (b"RCPT TO:<ann%d@example.net>" % number, b"250"),
                (b"DATA", b"354"),
            ):
                writer.write(command + b"\r\n")
                await _reply(reader, wanted)
            writer.write(_CONTENT % (number, number, b"x" * (number * 37 % 6000)) + b".\r\n")
            self.in_doubt.add(number)
            try:
                await _reply(reader, b"250")
            except _Refused as refusal:
                self.in_doubt.discard(number)
                self.refusals.append(str(refusal))
                await asyncio.sleep(0.05)
                continue
            self.in_doubt.discard(number)
            self.acknowledged.add(number)
            if self._pace:
                await asyncio.sleep(self._pace)
        writer.write(b"QUIT\r\n")


_CONTENT = (
    b"From: app@sender.example\r\nTo: ann%d@example.net\r\nSubject: Your order\r\nX-Number: %d\r\n"
    b"Date: Fri, 02 Jan 2026 10:00:00 +0000\r\n\r\nYour order is on its way. %s\r\n"
)


class _Refused(Exception):
    """The gateway said no."""


async def _reply(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line:
            raise ConnectionResetError
        if line[3:4] != b"-":
            break
    if not line.startswith(wanted):
        raise _Refused(line.decode().rstrip())
