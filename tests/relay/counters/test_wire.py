"""The way to Redis, with somebody on it who cuts, delays and garbles: no answer is another's, nothing is charged twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from relay.counters.contract import DAY, MINUTE, CountersUnavailable, Limit
from relay.counters.remote import RedisCounters
from relay.counters.wire import Wire
from tests.fakes.clock import START
from tests.harness.counters import wire_to
from tests.harness.redis import RedisServer

MINUTELY = Limit("messages_per_minute", "tenant", "t:7", 1000, MINUTE, 1000, 7)
DAILY = Limit("recipients_per_day", "tenant", "t:7", 100_000, DAY, 0, 7)


@pytest.fixture(params=[pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop")])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": request.param})


CHARGES = [(MINUTELY, 1), (DAILY, 3)]


class Between:
    """A man in the middle: passes octets on until a test tells him otherwise."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.answers_held = asyncio.Event()  # set: answers pass
        self.answers_held.set()
        self.connections = 0
        self.lose_answers = 0  # so many answers are lost, with their connection
        self.garble = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        self.answers_held.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back_writer]
        for work in (self._pass(reader, back_writer, False), self._pass(back_reader, writer, True)):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while octets := await reader.read(65536):
                if is_answer:
                    await self.answers_held.wait()
                    if self.lose_answers and b" " in octets:  # an answer of a script, not of the greeting
                        self.lose_answers -= 1
                        break
                    octets = self.garble or octets
                writer.write(octets)
                await writer.drain()
            writer.close()


@pytest.fixture
async def between(server: RedisServer) -> AsyncIterator[Between]:
    man = Between(server.port)
    yield man
    await man.stop()


@pytest.fixture
async def wire(between: Between) -> AsyncIterator[Wire]:
    wire = wire_to(await between.start(), 5.0)
    yield wire
    await wire.close()


@pytest.fixture
async def counters(wire: Wire) -> RedisCounters:
    return RedisCounters(wire)


async def test_sessions_share_round_trips(counters: RedisCounters, wire: Wire, between: Between) -> None:
    await counters.peek(CHARGES, START)
    before = wire.round_trips
    granted = await asyncio.gather(*(counters.take(CHARGES, START, once=str(n), park=False) for n in range(100)))
    assert all(allowance.granted for allowance in granted)
    assert wire.round_trips - before <= 3, "100 charges"
    assert between.connections == 1
    assert await counters.used(DAILY, START) == 300


async def test_the_same_id_is_charged_once(counters: RedisCounters) -> None:
    parked = [(MINUTELY, 1001), (DAILY, 3)]
    answers = [await counters.take(parked, START, once="a", park=True) for _ in range(3)]
    assert answers[0].due > START and answers[1] == answers[0] == answers[2]
    assert await counters.used(MINUTELY, START) == 1001 and await counters.used(DAILY, START) == 3
    assert (await counters.take(parked, START, once="b", park=True)).due > answers[0].due


async def test_a_refusal_is_not_remembered(counters: RedisCounters) -> None:
    assert not (await counters.take([(MINUTELY, 1001)], START, once="a", park=False)).granted
    assert (await counters.take([(MINUTELY, 1)], START, once="a", park=False)).granted


async def test_an_answer_that_is_lost_with_its_connection_charges_once(
    counters: RedisCounters, between: Between
) -> None:
    await counters.peek(CHARGES, START)
    between.lose_answers = 1
    answers = await asyncio.gather(*(counters.take(CHARGES, START, once=str(n), park=False) for n in range(10)))
    assert all(answer.granted for answer in answers) and between.lose_answers == 0
    assert await counters.used(MINUTELY, START) == 10 and await counters.used(DAILY, START) == 30


async def test_an_answer_that_is_lost_twice_is_no_answer(counters: RedisCounters, between: Between) -> None:
    await counters.peek(CHARGES, START)
    between.lose_answers = 2
    with pytest.raises(CountersUnavailable):
        await counters.take(CHARGES, START, once="a", park=False)
    assert (await counters.take(CHARGES, START, once="a", park=False)).granted
    assert await counters.used(MINUTELY, START) == 1


async def test_a_late_answer_is_never_somebody_elses(between: Between) -> None:
    wire = wire_to(await between.start(), 0.2)
    counters = RedisCounters(wire)
    await counters.hit("a", 600, START, 41)
    between.answers_held.clear()
    with pytest.raises(CountersUnavailable) as caught:
        await counters.hit("a", 600, START)
    assert "Timeout" in caught.value.kind
    between.answers_held.set()
    assert await counters.count("b", 600, START) == 0
    assert await counters.count("a", 600, START) == 42, "it was counted, only late"
    await wire.close()


async def test_who_gives_up_waiting_takes_nobodys_answer(counters: RedisCounters, between: Between) -> None:
    await counters.hit("a", 600, START)
    between.answers_held.clear()
    leaver = asyncio.ensure_future(counters.hit("a", 600, START))
    stayer = asyncio.ensure_future(counters.hit("b", 600, START, 5))
    await asyncio.sleep(0)
    leaver.cancel()
    between.answers_held.set()
    assert await stayer == 5
    assert await counters.hit("b", 600, START) == 6
    with pytest.raises(asyncio.CancelledError):
        await leaver


@pytest.mark.parametrize(
    "octets", [b"+OK\r\n", b"$3\r\nyes\r\n", b":1\r\n", b"-ERR no\r\n", b"HTTP/1.1 400 Bad\r\n", b"*1\r\n$-1\r\n"]
)
async def test_a_wrong_answer_is_no_answer(counters: RedisCounters, between: Between, octets: bytes) -> None:
    await counters.peek(CHARGES, START)
    between.garble = octets
    with pytest.raises(CountersUnavailable):
        await counters.take(CHARGES, START, once="a", park=False)
    between.garble = b""
    assert (await counters.take(CHARGES, START, once="b", park=False)).granted


async def test_a_server_that_forgot_the_scripts_is_taught_again(counters: RedisCounters, server: RedisServer) -> None:
    await counters.take(CHARGES, START, once="a", park=False)
    server.ask("SCRIPT", "FLUSH")
    assert (await counters.take(CHARGES, START, once="b", park=False)).granted
    assert await counters.used(MINUTELY, START) == 2


async def test_a_connection_that_was_idle_and_cut_is_made_again_unnoticed(
    counters: RedisCounters, between: Between
) -> None:
    await counters.take(CHARGES, START, once="a", park=False)
    between.cut()
    assert (await counters.take(CHARGES, START, once="b", park=False)).granted
    assert between.connections == 2


async def test_a_key_of_another_kind_is_no_answer_and_harms_nobody_else(
    counters: RedisCounters, server: RedisServer
) -> None:
    await counters.take(CHARGES, START, once="a", park=False)
    for key in server.ask("KEYS", "zegel:{t7}:*"):
        if b"once" not in key:
            server.ask("DEL", key)
            server.ask("LPUSH", key, "x")
    with pytest.raises(CountersUnavailable) as caught:
        await counters.take(CHARGES, START, once="b", park=False)
    assert "zegel" not in caught.value.kind and "t7" not in caught.value.kind
    assert await counters.hit("a", 600, START) == 1


async def test_redis_holds_no_name_and_no_address(counters: RedisCounters, server: RedisServer) -> None:
    client = Limit("messages_per_minute", "client", "i:192.0.2.55", 10, MINUTE, 10)
    domain = Limit("messages_per_minute", "domain", "d:shop.example", 10, MINUTE, 10)
    for limit in (client, domain):
        await counters.take([(limit, 1)], START, once="x", park=False)
    await counters.hit("login:192.0.2.55:ann", 600, START)
    await counters.block("login:192.0.2.55", START + 60, START)
    text = b" ".join(server.ask("KEYS", "*"))
    assert b"192.0.2" not in text and b"shop" not in text and b"ann" not in text
    assert all(server.ask("TTL", key.decode()) > 0 for key in text.split()), "everything ends by itself"
