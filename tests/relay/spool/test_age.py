"""How old the oldest mail is, apart for mail that somebody waits for and for campaigns, over files and restarts."""

from __future__ import annotations

import pytest

from relay.spool.files import QueueFiles
from relay.spool.item import Item
from tests.fakes.queues import Files, message

pytestmark = pytest.mark.anyio
URGENT, BULK = 0, 1


async def add(queue: QueueFiles, stream: str, **changes: object) -> Item:
    queue.clock.advance(1.0)  # type: ignore[attr-defined]  # the fake clock
    item = message(queue, stream=stream, **changes)
    await queue.commit(item)
    return item


async def test_each_rank_has_its_own_oldest(rig: Files) -> None:
    queue = await rig.open()
    assert await queue.shelf.oldest() == [0, 0]
    held = await add(queue, "personal", held="recipients.ask")
    campaign = [await add(queue, "marketing") for _ in range(3)]
    reset = await add(queue, "transactional")
    parked = await add(queue, "personal", due=4e9)
    assert await queue.shelf.oldest() == [reset.id, campaign[0].id]
    for item in (reset, campaign[0]):
        await rig.finish(queue, item)
    assert await queue.shelf.oldest() == [parked.id, campaign[1].id]
    held.state.update(held="")
    await queue.record(held)
    assert await queue.shelf.oldest() == [held.id, campaign[1].id], "what was released waits again"


async def test_the_oldest_is_found_behind_files_of_the_other_rank(rig: Files) -> None:
    first = await rig.open()
    campaign = [await add(first, "marketing") for _ in range(2)]
    await rig.stop(first)
    queue = await rig.open()
    reset = await add(queue, "transactional")
    assert len(queue.shelf.segments) > 1
    assert await queue.shelf.oldest() == [reset.id, campaign[0].id]
    await rig.finish(queue, reset)
    assert await queue.shelf.oldest() == [0, campaign[0].id]
    again = await add(queue, "personal")
    assert await queue.shelf.oldest() == [again.id, campaign[0].id]
