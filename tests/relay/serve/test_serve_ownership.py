"""Who goes first at the owner, and what never waits for what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.keyring import Keyring
from relay.observe import events
from relay.owner import Reader
from relay.serve.ownership import MAX_TOGETHER, Ownership, Waiting, next_batch
from relay.settings.model import Settings
from tests.fakes.clock import FakeClock

START = 1_767_348_000.0


@pytest.fixture
async def ownership(tmp_path: Path) -> AsyncIterator[Ownership]:
    """Of a folder with one tenant, shop."""
    settings = Settings.model_validate(
        {"server": {"hostname": "gw.test", "data_dir": str(tmp_path / "data"), "keys_dir": str(tmp_path / "keys")}}
    )
    Keyring.open(settings.server.keys_dir, create=True)
    made = Ownership(settings)
    made.take()
    await made.call("tenant.add", {"name": "shop"})
    yield made
    made.release()


def waiting(*ops: str) -> list[Waiting]:
    return [(op, {"number": number}, asyncio.Future(), "gateway") for number, op in enumerate(ops)]


async def test_who_leaves_goes_first_and_one_chunk_of_an_import_along() -> None:
    calls = waiting("consent.import_rows", "consent.import_rows", "tenant.add", "optout", "consent.import_rows")
    batch, rest = next_batch(calls)
    assert [op for op, *_ in batch] == ["optout", "consent.import_rows", "tenant.add"]
    assert rest == [calls[1], calls[4]]


async def test_a_flood_of_those_who_leave_is_taken_in_its_order() -> None:
    calls = waiting(*["optout"] * (MAX_TOGETHER + 3), "tenant.add")
    batch, rest = next_batch(calls)
    assert batch == calls[:MAX_TOGETHER]
    assert rest == calls[MAX_TOGETHER:]


async def test_the_heads_of_the_chains_are_in_the_log_once_a_day(
    ownership: Ownership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONSENT-14: who rewrites a ledger afterwards meets its hash there."""
    await ownership.call("suppression.add", {"tenant": "shop", "address": "ann@dest.example"})
    (head,) = await ownership.call("consent.heads", {})
    said = structlog.testing.LogCapture()  # a logger of our own: the shared one is cached by whoever logged first
    monkeypatch.setattr("relay.serve.ownership.log", structlog.wrap_logger(None, processors=[said]))
    for now in (START, START + 3600.0, START + 90_000.0):
        await ownership._anchor(now)
    anchors = [line for line in said.entries if line["event"] == events.LEDGER_ANCHORED]
    assert [(line["tenant"], line["seq"], line["hash"]) for line in anchors] == [("shop", 1, head["hash"])] * 2


async def test_an_anchor_that_is_asked_for_each_hour_is_there_each_day(
    ownership: Ownership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONSENT-14: as upkeep asks, for a week; and over a restart."""
    await ownership.call("suppression.add", {"tenant": "shop", "address": "ann@dest.example"})
    said = structlog.testing.LogCapture()
    monkeypatch.setattr("relay.serve.ownership.log", structlog.wrap_logger(None, processors=[said]))
    days = []
    for hour in range(7 * 24):
        before = len(said.entries)
        await ownership._anchor(START + hour * 3600.0)
        days += [int((START + hour * 3600.0) // 86_400)] * (len(said.entries) - before)
    assert days == sorted(set(days)) and len(days) == 8, "ten in the morning to nine: eight days of the calendar"


async def test_a_sender_is_told_once_each_day_however_often_somebody_asks(ownership: Ownership) -> None:
    """CC-18, THROTTLE-7."""
    ownership._clock = clock = FakeClock()
    told = []
    for hour in range(7 * 24):
        if await ownership.call("notice.once", {"key": "1:ann"}):
            told.append(hour)
        assert (await ownership.call("notice.once", {"key": "1:bob"})) is (hour % 24 == 0), "of each for itself"
        clock.advance(3600.0)
    assert told == list(range(0, 7 * 24, 24))


HOUR, DAY = 3_600, 86_400


@pytest.mark.parametrize(
    ("limit", "seconds"), [(20, HOUR), (10, DAY)], ids=["the form of a list", "mails to one address"]
)
async def test_who_waits_as_long_as_he_is_told_gets_in(ownership: Ownership, limit: int, seconds: int) -> None:
    """An office of one address, or a form behind one: it came in twenty times, and then never again."""
    ownership._clock = clock = FakeClock()
    question = {"key": "optin:192.0.2.7", "limit": limit, "window_seconds": seconds}
    clock.advance(seconds / 7)
    assert [await ownership.call("web.enter", question) for _ in range(limit)] == [0.0] * limit
    for _ in range(5):
        wait = await ownership.call("web.enter", question)
        assert seconds * 23 / 24 <= wait <= seconds
        clock.advance(wait - 1.0)
        assert await ownership.call("web.enter", question) == pytest.approx(1.0, abs=0.001), "not a second sooner"
        clock.advance(1.0)
        assert [await ownership.call("web.enter", question) for _ in range(limit)] == [0.0] * limit


async def test_who_hammers_at_the_door_gets_in_as_often_as_it_lets_in(ownership: Ownership) -> None:
    """And the wait that he is told of is never too short, spread as the others came."""
    ownership._clock = clock = FakeClock()
    question = {"key": "my:192.0.2.7", "limit": 20, "window_seconds": HOUR}
    inside: list[float] = []
    may_at = 0.0
    for _ in range(3 * HOUR // 10):
        wait = await ownership.call("web.enter", question)
        if wait == 0.0:
            assert clock.now() >= may_at - 0.001
            inside.append(clock.now())
        else:
            may_at = clock.now() + wait
        clock.advance(10.0)
    most = max(sum(start <= at < start + HOUR * 23 / 24 for at in inside) for start in inside)
    assert most == 20 and 60 <= len(inside) <= 64


async def test_who_leaves_does_not_wait_for_who_reads(ownership: Ownership, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk of a long chain takes minutes; a withdrawal in it takes effect at once (CONSENT-11)."""
    reads, goes_on = threading.Event(), threading.Event()
    real = Reader.call

    def slow(reader: Reader, op: str, args: dict[str, Any]) -> Any:
        reads.set()
        assert goes_on.wait(20.0)
        return real(reader, op, args)

    monkeypatch.setattr(Reader, "call", slow)
    walk = asyncio.create_task(ownership.call("consent.verify", {"tenant": "shop"}))
    assert await asyncio.to_thread(reads.wait, 10.0)
    left = await ownership.call("suppression.add", {"tenant": "shop", "address": "ann@dest.example"})
    assert left["changed"] is True
    assert not walk.done()
    goes_on.set()
    assert (await walk)["ok"] is True


async def test_a_short_question_does_not_wait_for_long_ones(
    ownership: Ownership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two walks took both threads, and `zegel tenant list` stood behind them."""
    goes_on = threading.Event()
    real = Reader.call

    def slow(reader: Reader, op: str, args: dict[str, Any]) -> Any:
        assert op != "consent.verify" or goes_on.wait(20.0)
        return real(reader, op, args)

    monkeypatch.setattr(Reader, "call", slow)
    walks = [asyncio.create_task(ownership.call("consent.verify", {"tenant": "shop"})) for _ in range(5)]
    try:
        async with asyncio.timeout(10.0):
            rows = await ownership.call("tenant.list", {})
    finally:
        goes_on.set()
    assert [row["name"] for row in rows] == ["shop"]
    assert [(await walk)["ok"] for walk in walks] == [True] * 5
