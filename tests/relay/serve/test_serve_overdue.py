"""What a look at mail that nobody can try costs: only what could leave now is opened, and so many messages at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.delivery.retry import RetryPlan
from relay.serve import overdue
from relay.serve.overdue import Overdue
from relay.spool.item import Item
from relay.spool.loader import Loader
from tests.fakes.clock import FakeClock
from tests.relay.delivery.test_scheduler import DOWN, PLAN, Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "queue", FakeClock())
    await made.open()
    yield made
    await made.stop()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """References that were opened for the look."""
    refs: list[int] = []
    real = Loader.open

    def counted(loader: Loader, ref: int, **how: Any) -> Item | None:
        refs.append(ref)
        return real(loader, ref, **how)

    monkeypatch.setattr(Loader, "open", counted)
    return refs


def looker(desk: Desk, plans: Any = lambda item: PLAN) -> Overdue:
    return Overdue(desk.queue, desk.scheduler, desk.clock, plans=plans, first_seconds=PLAN.warn_seconds)


async def park(desk: Desk, number: int) -> None:
    """So many messages of a login that wait for their turn, for longer than a sender is left without a word."""
    for _ in range(number):
        model = (await desk.commit()).meta
        await desk.queue.commit(Item(desk.queue.next_id(), model, b"A: b\r\n\r\n", due=desk.clock.now() + 86_400))


async def test_mail_that_is_not_due_is_not_opened(desk: Desk, opened: list[int]) -> None:
    """THROTTLE-1: parked mail costs no rescans, also while no host answers."""
    await park(desk, 20)
    desk.clock.advance(PLAN.warn_seconds + 1)
    assert desk.queue.backlog.later == 20
    assert await looker(desk).sweep(DOWN) == 20, "the others are due"
    assert len(opened) == 20
    await desk.settle()


async def test_a_sweep_opens_so_many_and_the_next_goes_on_there(
    desk: Desk, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "MOST_OPENED", 3)
    first = [(await desk.commit()).id for _ in range(5)]
    for _ in range(3):
        await desk.commit()
    patient = RetryPlan(warn_seconds=10 * PLAN.warn_seconds)
    look = looker(desk, lambda item: patient if item.id in first else PLAN)
    desk.clock.advance(PLAN.warn_seconds + 1)
    told = []
    for _ in range(4):
        before = len(opened)
        told.append(await look.sweep(DOWN))
        assert len(opened) - before <= 3
        await desk.settle()
    assert sum(told) == 3 and told[0] == 0


async def test_no_more_than_a_number_are_concluded_at_once_and_none_is_passed_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "MOST_AT_ONCE", 2)
    for _ in range(5):
        await desk.commit()
    look = looker(desk)
    desk.clock.advance(PLAN.warn_seconds + 1)
    told = []
    for _ in range(4):
        told.append(await look.sweep(DOWN))
        await desk.settle()
    assert told == [2, 2, 1, 0]
