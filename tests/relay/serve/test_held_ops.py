"""Held mail of one tenant among that of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.delivery.report import Reporter
from relay.serve.held_ops import HeldOps
from relay.spool.item import Item
from tests.fakes.queues import Files, message

pytestmark = pytest.mark.anyio
MANY = 3_000


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Files]:
    files = Files(tmp_path / "queue")
    yield files
    await files.close()


async def test_a_page_costs_what_is_on_it_and_not_what_others_have_waiting(rig: Files) -> None:
    queue = await rig.open()
    ops = HeldOps(
        queue,
        wake=lambda: None,
        reporter=Reporter("gw.example", queue.next_id, queue.clock),
        say=lambda *args, **data: None,
        hold_seconds=lambda reason: 3600.0,
    )

    async def hold(tenant: int) -> Item:
        item = message(queue, tenant=tenant, held="recipients.ask")
        await queue.commit(item)
        return item

    await asyncio.gather(*(hold(1) for _ in range(MANY)))
    mine = [await hold(2) for _ in range(3)]
    ask = {"tenant_id": 2, "limit": 100}

    async def page() -> tuple[list[str], float]:
        begun = time.process_time()
        rows = await ops.run("held.page", ask)
        return [row["id"] for row in rows], time.process_time() - begun

    first, whole = await page()
    later = [await page() for _ in range(3)]
    assert all(ids == first == [item.queue_id for item in mine] for ids, _ in later)
    assert min(cost for _, cost in later) < whole / 5, "the mail of others is opened each time"
    late = await hold(2)
    await ops.run("held.refuse", {"id": mine[0].queue_id})
    assert (await page())[0] == [mine[1].queue_id, mine[2].queue_id, late.queue_id]
    assert len(await ops.run("held.page", {"tenant_id": 1, "limit": 100})) == 100


async def test_how_much_a_release_lets_leave_at_once_and_how_much_in_its_turn(rig: Files) -> None:
    """Mail of the login shop-app from sender.example, three of marketing and one transactional, two of them parked."""
    queue = await rig.open()
    ops = HeldOps(
        queue,
        wake=lambda: None,
        reporter=Reporter("gw.example", queue.next_id, queue.clock),
        say=lambda *args, **data: None,
        hold_seconds=lambda reason: 3600.0,
    )
    now, paused = queue.clock.now(), "reputation.paused"
    for item in (
        message(queue, held=paused),
        message(queue, held=paused, turn=now + 60),
        message(queue, held=paused, turn=now + 120),
        message(queue, held=paused, stream="transactional"),
        message(queue, held="recipients.ask"),
        message(queue, held=paused, tenant=2),
        message(queue),
    ):
        await queue.commit(item)

    async def told(*freed: str, still: tuple[tuple[str, str], ...] = ()) -> tuple[int, int]:
        found = await ops.run("held.paused", {"tenant": "shop1", "freed": freed, "still": still})
        return found["at_once"], found["in_turn"]

    assert await told("", "") == (2, 2)
    assert await told("stream", "marketing") == (1, 2)
    assert await told("credential", "shop-app") == (2, 2)
    assert await told("credential", "another") == (0, 0)
    assert await told("domain", "sender.example") == await told("tenant", "") == (1, 2)
    assert await told("", "", still=(("stream", "marketing"),)) == (1, 0)
    assert await told("", "", still=(("tenant", ""),)) == (1, 0)
    rig.clock.advance(61)
    assert await told("", "") == (3, 1)
