"""What goes on for days is told on each of them, however often the gateway comes upon it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
import structlog

from relay.observe import events, metrics
from tests.fakes.clock import START
from tests.stories.story import DAY
from tests.stories.world import HOUR, World


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    made = await World(folder, START).open()
    yield made
    await made.close()


async def test_a_login_whose_mail_is_held_all_week_is_told_of_each_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """THROTTLE-7, THROTTLE-3: the sign, the letter to the contact, and the day of the warm-up that must not double."""
    said = structlog.testing.LogCapture()
    monkeypatch.setattr("relay.serve.watch.log", structlog.wrap_logger(None, processors=[said]))
    world.clock.advance(HOUR / 2)
    world.owner.call("credential.add", {"name": "fresh", "tenant": "shop", "stream": "transactional"})
    for _ in range(7 * 24):
        await world.watch._alarm(world.account("fresh"), "throttle.sudden")
        world.clock.advance(HOUR)
    await world.deliver()
    assert [line["event"] for line in said.entries] == [events.SIGN_NOTICED] * 7
    assert world.letters["beheer@shop.example"] == 7
    assert world.account("fresh").credential.warmup_behind == 7


async def test_an_attack_that_goes_on_keeps_ringing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """THROTTLE-10: `increase(zegel_login_attacks_total[15m])` stays above nothing for as long as it lasts."""
    monkeypatch.setattr("relay.smtp.desk.MAX_LOGIN_DELAY_SECONDS", 0.0)
    rang: list[float] = []
    for minute in range(120):
        before = metrics.LOGIN_ATTACKS.values[()]
        await asyncio.gather(*(world.login("app", "nonsense", f"10.0.{minute}.{n}") for n in range(8)))
        rang += [minute] * int(metrics.LOGIN_ATTACKS.values[()] - before)
        world.clock.advance(60.0)
    assert rang[0] <= 4 and rang[-1] >= 110
    assert max(later - earlier for earlier, later in pairwise(rang)) <= 11
    assert len(rang) <= 13, "once in ten minutes"


async def test_a_few_wrong_passwords_never_ring(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.smtp.desk.MAX_LOGIN_DELAY_SECONDS", 0.0)
    before = metrics.LOGIN_ATTACKS.values[()]
    for n in range(60):
        await world.login("app", "nonsense", f"10.0.0.{n}")
        world.clock.advance(30.0)
    assert metrics.LOGIN_ATTACKS.values[()] == before


def test_the_clock_of_these_tests_begins_a_day() -> None:
    assert START % DAY == 0 and datetime.fromtimestamp(START, UTC).hour == 0
