"""A gateway with embedded storage in a folder of its own: tenants, logins and consents made by the owner before it starts.

Delivery goes to a sink on loopback. The supervisor is a process of its own with real workers; what a test wants to
know of it, it asks as an operator would: over SMTP, over the control socket, by signals, and from what the sink got.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from relay.keyring import Keyring
from relay.owner import Owner
from relay.serve.boot import control_path
from relay.settings.checks import clashes
from relay.settings.model import Settings
from tests.harness.certificates import write_pair
from tests.harness.client import Client
from tests.harness.ports import free_port
from tests.harness.privacy import require_no_address
from tests.harness.sink import PATIENCE_SECONDS, Sink
from tests.harness.stable import STABLE, Forked

START_SECONDS = 60.0
DATABASE = "zegel.db"
SENDER = "info@sender.example"
AGREED = ("ann@dest.example", "bob@dest.example")
UNCONFIRMED = "hans@dest.de"  # agreed as well, where that must be confirmed (CONSENT-8)
PACE = {f"{scope}_messages_per_minute": 1_000_000 for scope in ("personal", "transactional", "marketing")} | {
    f"{scope}_messages_per_minute": 1_000_000 for scope in ("stream", "tenant", "domain", "client")
}
PACE["warmup_recipients"] = 0

Table = dict[str, Any]


class Door:
    """One listener: how to reach it."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", tls: bool = False, proxy: bool = False) -> None:
        self.port = port
        self.host = host
        self.tls = tls
        self.proxy = proxy


def next_look(waited: float) -> float:
    """Seconds until one looks again: each look costs the gateway some milliseconds, which whoever is waited for needs."""
    return min(0.05, 0.01 + waited / 10)


class Gateway:
    """Build, then `start`; `stop` ends it. `logins` holds `(username, password)` by name."""

    def __init__(self, folder: Path, *, workers: int = 2, **changes: Table) -> None:
        """`changes` are whole tables of the config by name, laid over what the tests use."""
        self.folder = folder
        self.sink = Sink()
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        write_pair(self.certificate, self.key)
        self.doors: dict[str, Door] = {}
        self.logins: dict[str, tuple[str, str]] = {}
        self.process: Forked | None = None
        self.descriptors = 0  # that its processes may have, each; 0 is as many as the tests
        self.settings = self._settings(workers, changes)
        assert not clashes(self.settings), clashes(self.settings)
        self._found()

    # -- before the start -----------------------------------------------------------------------------------------

    def _settings(self, workers: int, changes: Mapping[str, Table]) -> Settings:
        web = free_port()
        table: dict[str, Any] = {
            "server": {
                "hostname": "gw.test",
                "data_dir": str(self.folder / "data"),
                "keys_dir": str(self.folder / "keys"),
                "workers": workers,
                "language": "en",
                "drain_timeout_seconds": 5.0,
            },
            "listener": self._listeners(),
            "web": {"address": f"127.0.0.1:{web}", "public_url": f"http://127.0.0.1:{web}"},
            "delivery": {"mode": "smarthost", "smarthosts": [f"smtp://127.0.0.1:{self.sink.port}"], "tls": "off"},
            "policies": {"throttle": PACE},
            "limits": {"bare_line_end_networks": ["198.51.100.9/32"]},
        }
        for name, change in changes.items():
            table[name] = {**table.get(name, {}), **change}
        return Settings.model_validate_json(json.dumps(table))

    def _listeners(self) -> list[Table]:
        pair = {"certificate": str(self.certificate), "key": str(self.key)}
        kinds: dict[str, Table] = {
            "plain": {"tls": "off"},
            "starttls": pair,
            "implicit": {"kind": "submissions", **pair},
            "proxy": {"tls": "off", "proxy_protocol": True, "proxy_tls": True},
            "proxy-implicit": {"kind": "submissions", "proxy_protocol": True, **pair},
            "ipv6": {"tls": "off"},
            "feedback": {"kind": "feedback", "tls": "opportunistic", **pair},
        }
        for name in kinds:
            host = "::1" if name == "ipv6" else "127.0.0.1"
            proxied = "proxy" in name
            self.doors[name] = Door(free_port(host), host=host, tls="implicit" in name, proxy=proxied)
        return [
            {"address": f"[::1]:{door.port}" if door.host == "::1" else f"{door.host}:{door.port}", **kinds[name]}
            for name, door in self.doors.items()
        ]

    def _found(self) -> None:
        """What `founded` made, where these settings want it."""
        place, logins = founded()
        self.logins = dict(logins)
        server, database = self.settings.server, self.settings.database_path
        shutil.copytree(place / "keys", server.keys_dir, dirs_exist_ok=True)
        shutil.copytree(place / "data", server.data_dir, dirs_exist_ok=True)
        if database != server.data_dir / DATABASE:
            shutil.move(server.data_dir / DATABASE, database)

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> Gateway:
        """Returns when every worker and the web process serve."""
        log = (self.folder / "gateway.log").open("ab")
        with log:
            self.process = STABLE.start(log.fileno())
        if self.descriptors:  # it waits for its settings and has begun nothing
            limits = (self.descriptors // 2, self.descriptors)
            resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, limits)
        self.process.stdin.write(self.settings.model_dump_json().encode() + b"\n")
        self.process.stdin.close()
        watchdog = threading.Timer(START_SECONDS, self.process.kill)
        watchdog.start()
        said = self.process.stdout.readline()
        watchdog.cancel()
        assert said == b"ready\n", (self.folder / "gateway.log").read_text()[-4000:]
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code, when it has ended."""
        assert self.process is not None
        code = self.process.wait(seconds)
        self.process.stdout.close()
        return code

    def stop(self) -> None:
        """SIGTERM, wait; the sink goes too. Whatever the test was about: what it said to machines names nobody."""
        numbers = b""
        if self.process is not None:
            if self.process.poll() is None:
                with contextlib.suppress(
                    OSError, ValueError, AssertionError
                ):  # it is ending, or was left without a socket
                    numbers = str(self.op("metrics.text")).encode()
                self.process.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
        self.sink.close()
        require_no_address("the metrics", numbers)
        log = self.folder / "gateway.log"
        if log.exists():
            require_no_address("the log", log.read_bytes())

    # -- asking ---------------------------------------------------------------------------------------------------

    def connect(self, door: str = "plain", *, address: str = "192.0.2.1", seconds: float = 15.0) -> Client:
        """A connection to a listener; `address` is the client's where a PROXY header says it."""
        there = self.doors[door]
        kind = "TCP6" if ":" in address else "TCP4"
        first = f"PROXY {kind} {address} {address} 40000 25\r\n".encode() if there.proxy else b""
        return Client(there.port, there.host, first=first, tls=there.tls, seconds=seconds)

    def op(self, op: str, **args: Any) -> Any:
        """One operation over the control socket."""
        answer = self._ask(op, args)
        assert "error" not in answer, answer
        return answer.get("result")

    def attempt(self, op: str, **args: Any) -> Any:
        """The same, or None where it is refused."""
        return self._ask(op, args).get("result")

    def _ask(self, op: str, args: Table) -> Table:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20.0)
            sock.connect(str(control_path(self.settings)))
            sock.sendall(json.dumps({"id": 1, "op": op, "args": args, "actor": "operator:test"}).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer: Table = json.loads(lines.readline())
        return answer

    def queued(self) -> int:
        """Messages in the queue, held ones included."""
        stats = self.op("queue.stats")
        return int(sum(stats[name] for name in ("ready", "waiting", "in_flight", "frozen", "held")))

    def settle(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until nothing is queued any more."""
        self.until(lambda: self.queued() == 0, seconds, "the queue did not become empty")

    def until(self, is_so: Any, seconds: float, otherwise: str) -> None:
        """Ask again and again until `is_so()`. No promise is held against the clock: a machine may be slow."""
        self.within(is_so, max(seconds, PATIENCE_SECONDS), otherwise)

    def within(self, is_so: Any, seconds: float, otherwise: str) -> None:
        """The same for what is promised: what was asked after `seconds` must be so, however long that one question takes."""
        start = time.monotonic()
        while True:
            waited = time.monotonic() - start
            if is_so():
                return
            assert waited < seconds, otherwise
            time.sleep(next_look(waited))

    def metric(self, name: str) -> float:
        """The value of one sample, `name{label="value"}` as it is printed; 0.0 when there is none yet."""
        for line in self.op("metrics.text").splitlines():
            sample, _, value = line.rpartition(" ")
            if sample == name:
                return float(value)
        return 0.0


@cache
def founded() -> tuple[Path, dict[str, tuple[str, str]]]:
    """The folder with `data` and `keys` that every gateway begins with a copy of, and its logins: made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="zegel-founded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = SimpleNamespace(data_dir=folder / "data", keys_dir=folder / "keys")
    storage = SimpleNamespace(database=f"sqlite:///{server.data_dir / DATABASE}")
    logins: dict[str, tuple[str, str]] = {}

    keyring = Keyring.open(server.keys_dir, create=True)
    with Owner.open(SimpleNamespace(server=server, storage=storage), keyring) as owner:
        shop = {"name": "shop", "legal_name": "Shop BV", "contact": SENDER, "language": "en"}
        # Tests count what arrives; those about letters on refusals switch them on.
        owner.call("tenant.add", {**shop, "refusal_letters": False})
        owner.call("domain.add", {"tenant": "shop", "domain": "sender.example", "vouched": True})
        owner.call("dkim.add", {"domain": "sender.example", "vouched": True})
        for name, dutch, english in (("newsletter", "Nieuws", "News"), ("offers", "Aanbiedingen", "Offers")):
            owner.call("purpose.add", {"tenant": "shop", "name": name, "title_nl": dutch, "title_en": english})
        for name, properties in {
            "personal": {"stream": "personal"},
            "marketing": {"stream": "marketing", "purpose": "newsletter"},
            "offers": {"stream": "marketing", "purpose": "offers"},  # to which nobody agreed
            "transactional": {"stream": "transactional"},
            "mailserver": {"stream": "personal", "null_sender": True},
        }.items():
            logins[name] = add_login(owner, name, tenant="shop", **properties)
        owner.call("tenant.add", {"name": "gone", "legal_name": "Gone BV", "language": "en"})
        logins["suspended"] = add_login(owner, "suspended", tenant="gone", stream="personal")
        owner.call("tenant.suspend", {"name": "gone"})
        rows = [consent_row(address) for address in (*AGREED, UNCONFIRMED)]
        result = owner.call("consent.import_rows", {"tenant": "shop", "rows": rows})
        assert not result["refused"], result
    return folder, logins


def add_login(owner: Owner, name: str, **properties: Any) -> tuple[str, str]:
    """A credential of that name: its username and password."""
    made = owner.call("credential.add", {"name": name, **properties})
    return made["username"], made["password"]


class _Places:
    """The part of the settings that the owner reads, with the database's path made whole."""

    class _Storage:
        def __init__(self, database: str) -> None:
            self.database = database

    def __init__(self, settings: Settings) -> None:
        self.server = settings.server
        self.storage = self._Storage(f"sqlite:///{settings.database_path}")


def consent_row(email: str) -> Table:
    """A good row of a consent import."""
    return {
        "email": email,
        "purpose": "newsletter",
        "basis": "consent",
        "method": "web_form",
        "source": "https://shop.example/join",
        "given_at": "2026-01-02T10:00:00Z",
        "text": "Ja, stuur mij de nieuwsbrief",
        "text_language": "nl",
        "policy_url": "https://shop.example/privacy",
        "jurisdiction": "NL",
        "provenance": "own",
        "sensitive_audience": "no",
    }


MESSAGE = b"From: Shop <info@sender.example>\r\nTo: ann@dest.example\r\nSubject: Order\r\n\r\nIt is on its way.\r\n"
"""A small personal mail that every stream but marketing may send."""
