"""What is delivered of a message under way is written down while the attempt goes on (OUT-10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.spool.item import Fate
from tests.fakes.queues import Files, message

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Files]:
    files = Files(tmp_path)
    yield files
    await files.close()


async def test_a_crash_in_the_middle_of_a_split_repeats_no_copy_that_was_written_down(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue, recipients=5))
    item = await rig.take(queue)
    for index in range(3):
        item.fates[index] = Fate.DELIVERED
        queue.progress(item)
    while queue.writer.busy:
        await queue.writer.drain()
    again = await rig.after_power_cut()
    back = await rig.take(again)
    assert back.fates == [Fate.DELIVERED] * 3 + [Fate.WAITING] * 2


async def test_progress_leaves_the_message_with_its_attempt(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue, recipients=2))
    item = await rig.take(queue)
    item.fates[0] = Fate.DELIVERED
    queue.progress(item)
    while queue.writer.busy:
        await queue.writer.drain()
    assert queue.take() is None, "nobody else gets it meanwhile"
    await rig.finish(queue, item, Fate.DELIVERED, Fate.DELIVERED)
    again = await rig.after_power_cut()
    assert again.take() is None and not len(again.backlog)


async def test_no_progress_is_written_behind_the_end(rig: Files) -> None:
    """What was delivered while the row before was on its way to the disk is told by the end itself."""
    queue = await rig.open()
    await queue.commit(message(queue, recipients=2))
    item = await rig.take(queue)
    for index in range(2):
        item.fates[index] = Fate.DELIVERED
        queue.progress(item)
    await queue.record(item)
    while queue.writer.busy:
        await queue.writer.drain()
    assert item.segment.newest(item.id) is None
    again = await rig.after_power_cut()
    assert again.take() is None and not len(again.backlog)
