"""What one gateway's counters do with a Redis that others use too, and without it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.counters.contract import DAY, MINUTE, CountersUnavailable, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import ManyNodes, open_shared, share_of
from relay.policy.facts import Allowance
from relay.settings.storage import Storage
from tests.fakes.clock import START
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer

LIMIT = Limit("messages_per_minute", "tenant", "t:7", 100, MINUTE, 100, 7)
KEY = "login:192.0.2.1"


@pytest.fixture(params=[pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop")])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": request.param})


class Pair:
    """Two gateways."""

    def __init__(self, folder: Path, **storage: Any) -> None:
        self.nodes: list[ManyNodes] = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            made = open_shared(Storage(counters_timeout_seconds=5.0, **storage), EmbeddedCounters(folder / name))
            assert isinstance(made, ManyNodes)
            self.nodes.append(made)

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()


@pytest.fixture
async def pair(tmp_path: Path, server: RedisServer) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, counters=server.url, counters_degraded_share=0.3)
    yield made
    await made.close()


async def test_the_same_queue_id_of_two_machines_is_charged_twice(pair: Pair) -> None:
    """Ids are unique on a machine, and there may be several."""
    for node in pair.nodes:
        assert (await node.take([(LIMIT, 60)], START, once=1, park=True)).granted
    assert (await pair.nodes[0].peek([(LIMIT, 1)], START, park=False)).granted is False


async def test_blocks_and_failed_logins_are_known_everywhere(pair: Pair) -> None:
    one, two = pair.nodes
    assert await one.hit([KEY, f"{KEY}:ann"], 600, START) == [1, 1]
    assert await two.hit([KEY, f"{KEY}:bob"], 600, START) == [2, 1]
    await one.block(KEY, START + 900, START)
    assert await two.blocked_until([f"{KEY}:bob", KEY], START) == START + 900
    await one.reset(KEY)
    assert await two.blocked_until([KEY], START) == 0.0


async def test_a_block_that_is_known_holds_on_without_redis(pair: Pair, tmp_path: Path) -> None:
    one, two = pair.nodes
    await one.block(KEY, START + 900, START)
    assert await two.blocked_until([KEY], START) == START + 900, "asked once, as by every login"
    await one.block("never asked for", START + 900, START)
    for node in pair.nodes:
        node._degrade(CountersUnavailable("ConnectionError"), [KEY])
    assert await two.blocked_until([KEY], START) == START + 900
    assert await two.blocked_until(["never asked for"], START) == 0.0


async def test_a_text_that_goes_out_over_two_gateways_is_one_fan_out(pair: Pair) -> None:
    one, two = pair.nodes
    for number in range(1, 50):
        assert one.seen(["text"], 86_400, START) == [number]
        await one.hit(["something that is answered after it"], 86_400, START)
    assert two.seen(["text"], 86_400, START) == [1], "nobody has told it yet"
    await two.hit(["something that is answered after it"], 86_400, START)
    assert two.seen(["text"], 86_400, START) == [51]
    assert two.seen(["text"], 86_400, START + 2 * 3600) == [3], "what was told two hours ago says little of now"


async def test_each_worker_keeps_to_the_share_and_a_small_limit_to_one(pair: Pair) -> None:
    daily = Limit("recipients_per_day", "tenant", "t:7", 3, DAY, 0, 7)
    for node in pair.nodes:
        node._degrade(CountersUnavailable("ConnectionError"), [LIMIT])
        granted = [(await node.take([(LIMIT, 1)], START, once=n, park=False)).granted for n in range(100)]
        assert sum(granted) == 30
        granted = [(await node.take([(daily, 1)], START, once=n, park=False)).granted for n in range(3)]
        assert granted == [True, False, False]
    assert share_of(LIMIT._replace(amount=0), 0.3).amount == 0, "a limit of nothing stays one"


async def test_a_node_alone_counts_messages_and_shows_as_many(pair: Pair) -> None:
    """By its share, another pace; what it has let through is shown in messages of the whole limit, and counts in any share."""
    one = pair.nodes[0]
    one._degrade(CountersUnavailable("ConnectionError"), [LIMIT])
    for number in range(20):
        assert (await one.take([(LIMIT, 1)], START, once=number, park=True)).granted
    assert await one.used(LIMIT, START) == 20 and await one.waiting(LIMIT, START) == 0
    one._share = 0.1
    told = await one.take([(LIMIT, 1)], START, once=20, park=True)
    assert told.granted and told.due == pytest.approx(START + 11 * 6) and told.backlog == 11
    assert await one.used(LIMIT, START) == 21 and await one.waiting(LIMIT, START) == 11
    raised = LIMIT._replace(amount=1000, burst=1000)
    assert not (await one.take([(raised, 79)], START, once=21, park=True)).due, "a tenth of a thousand"
    assert (await one.take([(raised, 1)], START, once=22, park=True)).due > START


async def test_who_is_over_the_share_and_not_over_the_limit_is_put_off_for_a_while(pair: Pair) -> None:
    """Neither told that there is no room for days, nor parked for them."""
    daily, one = Limit("recipients_per_day", "credential", "c:7", 40, DAY, 0, 7), pair.nodes[0]
    one._degrade(CountersUnavailable("ConnectionError"), [LIMIT])
    for park in (False, True):
        told = await one.take([(LIMIT, 1), (daily, 15)], START, once=1, park=park)
        assert told == Allowance(False, limit=daily.name, scope="credential", allowed=12, is_share=True)
    assert (await one.take([(daily, 12)], START, once=2, park=False)).granted, "what was put off has cost nothing"
    told = await one.take([(daily, 1)], START, once=3, park=False)
    assert told.is_share and told.due == START + 86_400
    told = await one.peek([(daily, 41)], START, park=False)
    assert (told.granted, told.allowed, told.is_share) == (False, 40, False), "the whole limit has no room for it"


async def test_a_node_alone_knows_nobody_so_only_what_an_operator_set_holds(pair: Pair) -> None:
    """No lawful sender stops because his correspondents are known to Redis only; a number of the operator is shared out."""
    one, people = pair.nodes[0], b"".join(number.to_bytes(4, "big") for number in range(1, 16))
    ours = Limit("first_time_recipients_per_day", "credential", "c:7", 40, DAY, 0, 7, behind=14, people=people)
    assert (await one.take([(ours, 15)], START, once=1, park=False)).granted
    one._degrade(CountersUnavailable("ConnectionError"), [LIMIT])
    assert (await one.take([(ours, 15)], START, once=2, park=False)).granted
    told = await one.take([(ours._replace(key="c:8", behind=0), 15)], START, once=3, park=False)
    assert (told.granted, told.allowed, told.limit) == (False, 12, ours.name)


async def test_a_redis_that_is_away_at_the_start_is_found_when_it_comes(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", free_ports(1)[0], "--save", "")
    pair = Pair(tmp_path, counters=server.url)
    one = pair.nodes[0]
    await one.look()
    assert one.is_degraded and "ConnectionError" in one.note
    watching = asyncio.ensure_future(one.watch())
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        while one.is_degraded:
            await asyncio.sleep(0)
    assert one.note == ""
    server.kill()
    async with asyncio.timeout(20):  # nobody asks for anything, and it is noticed all the same
        while not one.is_degraded:
            await asyncio.sleep(0)
    watching.cancel()
    await pair.close()


async def test_a_login_of_its_own_over_tls_that_is_checked(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("ca.pem", "ca.key")}
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-out",
        str(paths["ca.pem"]),
        "-keyout",
        str(paths["ca.key"]),
    ]
    subprocess.run(command, check=True, capture_output=True)
    port = free_ports(1)[0]
    options = ["--tls-port", str(port), "--tls-cert-file", str(paths["ca.pem"]), "--tls-key-file", str(paths["ca.key"])]
    options += ["--tls-auth-clients", "no", "--user", "zegel", "on", ">s%/cret", "~zegel:*", "+@all"]
    server = RedisServer(tmp_path / "redis", free_ports(2)[1], *options).start()
    url = f"rediss://zegel:s%25%2Fcret@localhost:{port}"
    trusting = Pair(_folder(tmp_path, "trusting"), counters=url, counters_ca_file=paths["ca.pem"])
    wary = Pair(_folder(tmp_path, "wary"), counters=url)
    named = Pair(
        _folder(tmp_path, "named"), counters=url.replace("localhost", "127.0.0.1"), counters_ca_file=paths["ca.pem"]
    )
    try:
        for made, is_taken in ((trusting, True), (wary, False), (named, False)):
            await made.nodes[0].look()
            assert made.nodes[0].is_degraded is not is_taken, made.nodes[0].note
    finally:
        for made in (trusting, wary, named):
            await made.close()
        server.kill()


def _folder(above: Path, name: str) -> Path:
    (above / name).mkdir()
    return above / name
