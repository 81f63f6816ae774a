"""What Redis does wrong on purpose or by accident: wrong answers, silence, a login that may too little, a damaged key."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.cli.shared_counters import counters as doctor
from relay.counters.contract import DAY, MINUTE, WARM_UP_HORIZON_SECONDS, CountersUnavailable, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import ManyNodes, open_shared
from relay.counters.remote import RedisCounters
from relay.observe import metrics
from relay.settings.model import Settings
from relay.settings.storage import Storage
from tests.fakes.clock import START
from tests.harness.counters import wire_to
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer, stop_all, watched_pair

LIMIT = Limit("messages_per_minute", "tenant", "t:7", 6000, MINUTE, 6000, 7)
DAILY = Limit("recipients_per_day", "tenant", "t:7", 1000, DAY, 0, 7)
OTHER = Limit("messages_per_minute", "tenant", "t:8", 6000, MINUTE, 6000, 8)
LATEST = START + WARM_UP_HORIZON_SECONDS
RIGHTS = ("~zegel:*", "+@read", "+@write", "+@connection", "+info")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


def open_node(folder: Path, url: str, seconds: float = 5.0) -> ManyNodes:
    made = open_shared(Storage(counters=url, counters_timeout_seconds=seconds), EmbeddedCounters(folder))
    assert isinstance(made, ManyNodes)
    return made


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(64)
        yield door.getsockname()[1]


class Liar:
    """A server that answers every script with `says`, and everything else well. `announced`: so many octets, and streams them."""

    def __init__(self) -> None:
        self.says = b""
        self.announced = 0
        self.sent = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        self._server.close()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while line := await reader.readline():
                command = [await self._word(reader) for _ in range(int(line[1:]))]
                is_script = command[0].startswith(b"EVAL")
                if is_script and self.announced:
                    writer.write(b"$%d\r\n" % self.announced)
                    while True:
                        writer.write(bytes(1 << 20))
                        await writer.drain()
                        self.sent += 1 << 20
                writer.write(b"$%d\r\n%s\r\n" % (len(self.says), self.says) if is_script else b"+OK\r\n")
        writer.close()

    @staticmethod
    async def _word(reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2]


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    made = Liar()
    yield made
    await made.stop()


async def test_an_answer_that_the_script_never_gives_is_none(liar: Liar) -> None:
    wire = wire_to(await liar.start(), 5.0)
    remote, charges = RedisCounters(wire), [(LIMIT, 1)]
    good = [b"1 0 0 0", b"1 %d 1 5" % LATEST, b"0 %d 1 0" % (START + 9), b"0 inf 1 0"]
    lies = [b"1 nan 1 0", b"1 1e300 1 0", b"1 inf 1 0", b"1 -inf 1 0", b"1 %d 1 5" % (LATEST + 3600), b"1 0 0 -7"]
    lies += [b"1 -5 1 0", b"0 -5 1 0", b"0 0 0 0", b"0 nan 1 0", b"0 1e300 1 0", b"0 %d 0 0" % (START + 9)]
    lies += [b"1 0 1 0", b"1 %d 0 0" % (START + 9), b"0 0 1 0", b"1 0 0 " + b"9" * 400, b"2 0 0 0", b"", b"1 0 0"]
    try:
        for liar.says in good:
            liar.says += b" 0 0"  # nothing sudden, nothing that waits elsewhere
            await remote.peek(charges, START, park=True)
        for lie in (*lies, b"1 0 0 0", b"1 0 0 0 0", b"1 0 0 0 -2 0", b"1 0 0 0 x 0", b"1 0 0 0 0 3"):
            liar.says = lie + b" 0 0" if lie in lies else lie
            with pytest.raises(CountersUnavailable, match="WrongAnswer"):
                await remote.take(charges, START, once="1", park=True)
    finally:
        await wire.close()


@pytest.mark.parametrize("announced", [4_000_000_000, 5_000_000])
async def test_an_endless_answer_is_not_read(liar: Liar, announced: int) -> None:
    """It was, for as long as an answer may take: half a gigabyte in each process."""
    wire = wire_to(await liar.start(), 5.0)
    liar.announced = announced
    try:
        began = asyncio.get_running_loop().time()
        with pytest.raises(CountersUnavailable):
            await RedisCounters(wire).take([(LIMIT, 1)], START, once="1", park=True)
        assert asyncio.get_running_loop().time() - began < 4.0 and liar.sent < 64 << 20
    finally:
        await wire.close()


async def test_who_waits_behind_a_batch_without_an_answer_does_not_wait_again(tmp_path: Path) -> None:
    """600 sessions are five batches, which once waited for a time-out each."""
    loop = asyncio.get_running_loop()
    with silent() as port:
        node = open_node(tmp_path, f"redis://127.0.0.1:{port}/0", 1.0)
        began = loop.time()
        answers = await asyncio.gather(*(node.take([(LIMIT, 1)], START, once=n, park=False) for n in range(600)))
        assert loop.time() - began < 2.0
        assert all(answer.granted for answer in answers) and node.is_degraded
        await node.close()


@pytest.mark.parametrize("place", [0, 2])
async def test_a_sentinel_that_is_silent_holds_up_nobody(tmp_path: Path, place: int) -> None:
    servers, sentinels = await asyncio.to_thread(watched_pair, tmp_path, "counters")
    try:
        with silent() as port:
            hosts = [f"127.0.0.1:{sentinel.port}" for sentinel in sentinels]
            hosts[place] = f"127.0.0.1:{port}"
            node = open_node(tmp_path, f"redis+sentinel://{','.join(hosts)}/counters", 2.0)
            await node.look()
            assert not node.is_degraded, node.note
            assert (await node.take([(LIMIT, 1)], START, once=1, park=False)).granted and not node.is_degraded
            await node.close()
            nobody = open_node(tmp_path, f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{port}/counters", 0.5)
            await nobody.look()
            assert nobody.is_degraded
            await nobody.close()
    finally:
        await asyncio.to_thread(stop_all, [*sentinels, *servers])


def may(server: RedisServer, *rights: str) -> str:
    """The address for a login with these rights alone."""
    server.ask("ACL", "SETUSER", "zegel", "reset", "on", ">geheim", *rights)
    return f"redis://zegel:geheim@127.0.0.1:{server.port}/0"


async def test_a_login_that_may_write_but_run_no_script_is_found_and_does_not_flap(
    tmp_path: Path, server: RedisServer
) -> None:
    url = may(server, *RIGHTS)
    node = open_node(tmp_path, url)
    await node.look()
    assert node.is_degraded and "NoPermissionError" in node.note
    for _ in range(3):
        assert not await node._is_back()
    (said,) = [await asyncio.to_thread(_doctor, url)]
    assert "NoPermissionError" in said and "run scripts" in said
    may(server, *RIGHTS, "+@scripting")
    assert await node._is_back()
    assert (await RedisCounters(node._remote._wire).take([(LIMIT, 1), (DAILY, 2)], START, once="x", park=True)).granted
    assert "takes charges" in await asyncio.to_thread(_doctor, url)
    await node.close()


def _doctor(url: str) -> str:
    settings = Settings.model_validate({"storage": {"counters": url}})
    return "\n".join(f"{each}" for each in doctor(settings))


@pytest.mark.parametrize("damage", [("LPUSH", "x"), ("SET", "neither nor"), ("HSET", "7", "x")])
async def test_a_damaged_key_concerns_what_it_counts_and_nobody_else(
    tmp_path: Path, server: RedisServer, damage: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    node, before = open_node(tmp_path, server.url), metrics.LIMITS_DEGRADATIONS.values[()]
    assert (await node.take([(LIMIT, 1), (DAILY, 1)], START, once=1, park=True)).granted
    for key in [key.decode() for key in server.ask("KEYS", "zegel:{t7}*") if b"once" not in key]:
        server.ask("DEL", key)
        server.ask(damage[0], key, *damage[1:])
    for number in range(2, 22):
        assert (await node.take([(LIMIT, 1), (DAILY, 1)], START, once=number, park=True)).granted
        assert not node.is_degraded, node.note
        assert (await node.take([(OTHER, 1)], START, once=100 + number, park=True)).granted
    assert server.client().exists(*_keys(server, "zegel:{t8}:*")), "the other one is counted by Redis"
    assert capfd.readouterr().err.count("limits.damaged") == 1
    assert metrics.LIMITS_DEGRADATIONS.values[()] == before
    await node.reset(LIMIT, DAILY)
    assert (await node.take([(LIMIT, 1), (DAILY, 1)], START, once=99, park=True)).granted
    assert server.ask("EXISTS", *[key.decode() for key in _keys(server, "zegel:{t7}:*")]) >= 2, (
        "and after a reset again"
    )
    await node.close()


def _keys(server: RedisServer, pattern: str) -> list[Any]:
    return list(server.ask("KEYS", pattern))


async def test_each_time_that_redis_is_lost_is_counted(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", free_ports(1)[0], "--save", "")
    node, before = open_node(tmp_path, server.url), metrics.LIMITS_DEGRADATIONS.values[()]
    await node.look()
    await node.look()
    assert metrics.LIMITS_DEGRADATIONS.values[()] == before + 1
    await node.close()
