"""The stories of tests/cases/standing.toml, on both kinds of counters; and what the interval means."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.counters.embedded import EmbeddedCounters
from relay.counters.ring import BOUNCED, DELIVERED, REFUSED, UNKNOWN, News, Tally
from relay.counters.windows import Windows
from relay.reputation.book import Book, Change, Sender, place_of, seats_of
from relay.reputation.judge import Bounds, Level, judge, proven
from tests.fakes.clock import START
from tests.harness.counters import wire_to
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer

CASES = tomllib.loads((Path(__file__).parents[2] / "cases" / "standing.toml").read_text())["case"]
CODES = {"delivered": DELIVERED, "bounced": BOUNCED, "unknown": UNKNOWN, "refused": REFUSED}
DAY = 86_400.0


def sender(stream: str) -> Sender:
    return Sender(7, f"shop-{stream}", stream, "shop.example")


async def told(book: Book, story: list[str]) -> list[Change]:
    """Play a story; answers every change."""
    now, changes = START, []
    for line in story:
        first, *rest = line.split()
        if first == "days":
            now += float(rest[0]) * DAY
        elif first == "release":
            places = [seat.place for seat in seats_of(sender(rest[0]))]
            assert await book.release(places, now)
        else:
            changes += await book.add(sender(first), news(int(rest[0]), rest[1], later=rest[2:] == ["later"]), now)
    # What time alone takes is only seen by who looks: any delivery does.
    if story and story[-1].startswith("days"):
        changes += await book.add(sender(story[0].split()[0]), News(), now)
    return changes


def news(count: int, what: str, *, later: bool) -> News:
    if what == "complaints":
        return News(complaints=count)
    codes = bytes([CODES[what]]) * count
    return News(late=codes) if later else News(ended=codes)


async def stands(book: Book, case: dict[str, Any]) -> dict[str, str]:
    await book.windows.look()
    return {stream: Level(book.stands(sender(stream)).level).word for stream in case["expect"]}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_ports(1)[0]).start()
    yield server
    server.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["why"]))
def test_the_story_ends_so_on_one_node(case: dict[str, Any], tmp_path: Path) -> None:
    async def play() -> dict[str, str]:
        counters = EmbeddedCounters(tmp_path)
        book = Book(counters.windows, Bounds())
        await told(book, case["story"])
        found = await stands(Book(EmbeddedCounters(tmp_path).windows, Bounds()), case)
        counters.close()
        return found

    assert asyncio.run(play()) == case["expect"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["why"]))
def test_the_story_ends_so_on_redis(case: dict[str, Any], redis: RedisServer) -> None:
    if any(line.startswith("days") for line in case["story"]):
        pytest.skip("Redis lets keys go by its own clock")
    redis.ask("FLUSHALL")

    async def play() -> dict[str, str]:
        from relay.counters.remote_windows import SharedWindows

        wire, other = wire_to(redis.url), wire_to(redis.url)
        windows: Windows = SharedWindows(wire)
        await told(Book(windows, Bounds()), case["story"])
        found = await stands(Book(SharedWindows(other), Bounds()), case)
        await wire.close()
        await other.close()
        return found

    assert asyncio.run(play()) == case["expect"]


def test_a_change_is_told_once_to_one(tmp_path: Path) -> None:
    async def play() -> list[Change]:
        books = [Book(EmbeddedCounters(tmp_path).windows, Bounds()) for _ in range(4)]
        changes: list[Change] = []
        for number in range(100):
            book = books[number % 4]
            changes += await book.add(sender("transactional"), news(9, "delivered", later=False), START)
            changes += await book.add(sender("transactional"), news(1, "bounced", later=False), START)
        return changes

    changes = asyncio.run(play())
    by_scope = [(change.before.word, change.after.word) for change in changes if change.scope == "stream"]
    assert by_scope[-1][1] == "paused" and len(set(by_scope)) == len(by_scope)
    assert [before for before, _ in by_scope[1:]] == [after for _, after in by_scope[:-1]]
    assert all(change.rule == "REP-1" for change in changes)


def test_more_mail_with_the_same_share_is_more_proof() -> None:
    shares = [proven(part * 0.1, part) for part in (50, 100, 200, 500, 1000)]
    assert shares == sorted(shares) and shares[-1] < 0.1
    assert [proven(count, 1000) for count in range(1001)] == sorted(proven(count, 1000) for count in range(1001))
    assert proven(0, 1000) == 0.0 and proven(5, 0) == 0.0


def test_levels_that_only_a_person_may_lift_are_never_judged_again() -> None:
    assert judge(Tally(total=5000, deliveries=1000), Level.PAUSED, Bounds(), bulk=True).level is Level.PAUSED


def test_a_tenant_is_its_own_place() -> None:
    assert place_of(1, "stream", "marketing") != place_of(2, "stream", "marketing")
    assert len({seat.place for seat in seats_of(sender("marketing"))}) == 4
