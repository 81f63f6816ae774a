"""Gateways that tell each other who is suspended, over a real Redis: whatever is lost, late or forged (THROTTLE-9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.counters.many_nodes import wire_of
from relay.counters.suspensions import KEY, SharedSuspensions
from relay.keyring import Keyring
from relay.owner import Owner
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.suspensions import Suspensions
from relay.settings.model import Settings
from relay.store.generation import DIRECTORY, Generation
from tests.fakes.clock import FakeClock
from tests.harness.gateway import _Places
from tests.harness.redis import RedisServer, free_ports

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_ports(1)[0]).start()
    yield server
    server.stop()


class Node:
    """One gateway as far as this goes: an owner, and the task that looks."""

    def __init__(self, folder: Path, url: str, clock: FakeClock) -> None:
        self.clock = clock
        self.letters: list[dict[str, Any]] = []
        self.is_full = self.is_barred = False
        data, keys = folder / "data", folder / "keys"
        table = {"server": {"data_dir": str(data), "keys_dir": str(keys)}, "storage": {"counters": url}}
        settings = Settings.model_validate(table)
        self.owner = Owner.open(_Places(settings), Keyring.open(keys, create=True), now=clock.now)
        contact = {"contact": "ann@shop.example", "language": "nl"}
        self.owner.call("tenant.add", {"name": "shop", **contact})
        self.owner.call("credential.add", {"tenant": "shop", "stream": "personal", "name": "office"})
        generation = Generation.open(data)
        self.wire = wire_of(settings.storage)
        self.task = Suspensions(
            settings,
            self.op,
            self.submit,
            lambda: generation.read(DIRECTORY),
            clock=clock,
            shared=SharedSuspensions(self.wire),
        )

    async def op(self, name: str, args: dict[str, Any]) -> Any:
        if self.is_barred and name == "suspension.told":
            raise OpUnavailable("store")
        return self.owner.call(name, args)

    async def submit(self, args: dict[str, Any]) -> None:
        if self.is_full:
            raise OpRefused("storage", "full")
        self.letters.append(args)

    def say(self, op: str, name: str, reason: str = "") -> None:
        self.owner.call(op, {"name": name, "reason": reason})

    @property
    def suspended(self) -> set[str]:
        return {row["name"] for row in self.owner.call("suspension.list", {}) if row["suspended"]}  # type: ignore[call-overload]


@pytest.fixture
async def nodes(tmp_path: Path, redis: RedisServer) -> AsyncIterator[list[Node]]:
    redis.ask("FLUSHALL")
    clock = FakeClock()
    made = [Node(tmp_path / name, redis.url, clock) for name in ("one", "two")]
    yield made
    for node in made:
        await node.wire.close()
        node.owner.close()


async def settle(*nodes: Node) -> None:
    """Each looks until nobody has news."""
    for _ in range(3):
        for node in nodes:
            await node.task.look()


async def test_what_is_said_at_one_holds_at_the_other(nodes: list[Node]) -> None:
    one, two = nodes
    one.say("credential.suspend", "office", "wachtwoord gestolen")
    await settle(one, two)
    assert one.suspended == two.suspended == {"office"}
    two.say("credential.resume", "office")
    two.say("tenant.suspend", "shop")
    await settle(one, two)
    assert one.suspended == two.suspended == {"shop"}


async def test_the_contact_is_told_once_in_his_language(nodes: list[Node]) -> None:
    one, two = nodes
    one.is_full = True
    one.say("tenant.suspend", "shop", "gekochte lijst")
    with pytest.raises(OpRefused):
        await one.task.look()
    one.is_full = False
    one.task._seen = -1  # as `watch` does
    await settle(one, two)
    assert len(one.letters) == 1 and not two.letters
    letter = one.letters[0]
    assert letter["recipient"] == "ann@shop.example"
    assert "gekochte lijst" in letter["raw"] and "stilgezet" in letter["raw"] and "72 uur" in letter["raw"]
    one.say("tenant.resume", "shop")
    one.say("tenant.suspend", "shop", "weer")
    await settle(one, two)
    assert len(one.letters) == 2, "another suspension is another letter"


async def test_a_database_that_cannot_be_written_sends_no_second_letter(nodes: list[Node]) -> None:
    """It was four letters a second, for as long as that lasted."""
    one, _ = nodes
    one.say("tenant.suspend", "shop")
    one.is_barred = True
    for _ in range(3):
        with pytest.raises(OpUnavailable):
            await one.task.look()
        one.task._seen = -1  # as `watch` does
    assert len(one.letters) == 1
    one.is_barred = False
    await settle(one)
    one.say("tenant.resume", "shop")
    one.say("tenant.suspend", "shop", "weer")
    await settle(one)
    assert len(one.letters) == 2


async def test_the_later_word_counts_whatever_the_clocks_say(nodes: list[Node]) -> None:
    """The gateway that suspends is five minutes ahead of the one that releases."""
    one, two = nodes
    one.clock = one.task._clock = FakeClock(two.clock.now() + 300.0)
    one.owner._now = one.clock.now
    one.say("tenant.suspend", "shop")
    await settle(one, two)
    two.say("tenant.resume", "shop")
    await settle(one, two)
    assert not one.suspended and not two.suspended


async def test_a_redis_that_is_away_or_forgets_releases_nobody_and_hears_of_it_later(
    nodes: list[Node], redis: RedisServer
) -> None:
    one, two = nodes
    one.say("tenant.suspend", "shop")
    await settle(one, two)
    redis.kill()
    await settle(one, two)
    one.say("tenant.resume", "shop")
    two.say("credential.suspend", "office")
    await settle(one, two)
    assert (one.suspended, two.suspended) == (set(), {"shop", "office"})
    redis.start()
    await settle(one, two)
    assert one.suspended == two.suspended == {"office"}
    redis.ask("FLUSHALL")
    await settle(one, two)
    assert len(redis.ask("HKEYS", KEY)) == 3, "the tenant, the login, and the word"


@pytest.mark.parametrize(
    "forged", ["0 99999999999", "0 nan", "0 1e99", "-1 5", "0", "", "0 1", "1 0", "0 1790000000 x", "x" * 10_000]
)
async def test_what_is_no_record_of_ours_releases_nobody(nodes: list[Node], redis: RedisServer, forged: str) -> None:
    one, two = nodes
    one.say("tenant.suspend", "shop")
    await settle(one, two)
    (field,) = (name for name in redis.ask("HKEYS", KEY) if name != b"v")
    redis.ask("HSET", KEY, field, forged, "nobody", "1 1790000000", "v", "forged")
    await settle(one, two)
    assert one.suspended == two.suspended == {"shop"}
    two.say("tenant.resume", "shop")
    await settle(one, two)
    assert not one.suspended and not two.suspended, "a person is still heard"


async def test_a_key_that_holds_what_no_gateway_wrote_is_deleted_and_all_is_told_again(
    nodes: list[Node], redis: RedisServer
) -> None:
    one, two = nodes
    one.say("credential.suspend", "office", "stolen")
    await one.task.look()
    redis.ask("SET", KEY, "foo")
    one.say("tenant.suspend", "shop", "stolen")
    for _ in range(2):  # the first finds it, the second tells
        await one.task.look()
        await two.task.look()
    await two.task.look()
    assert two.suspended == one.suspended == {"office", "shop"}


async def test_who_is_not_heard_is_told_of_once(
    nodes: list[Node], redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    one, _ = nodes
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        one.say("credential.suspend", "office", "stolen")
        for _ in range(3):
            await one.task.look()
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", "0")
    await one.task.look()
    said = capsys.readouterr().err
    assert (said.count("suspensions.isolated"), said.count("suspensions.rejoined")) == (1, 1), said
