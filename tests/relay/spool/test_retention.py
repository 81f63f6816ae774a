"""GDPR-3: nothing of a message is on the disk some minutes after its final outcome, whatever its neighbours do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item
from relay.spool.shelf import RETENTION_SECONDS
from tests.fakes.queues import Files, message, sealed_rows

pytestmark = pytest.mark.anyio


def sealed_bytes(queue: QueueFiles, items: list[Item]) -> list[bytes]:
    """A piece of what lies on the disk for each of the messages, from its middle."""
    pieces = []
    for item in items:
        row = item.segment.load(item.first)
        assert row is not None and row.data is not None
        pieces.append(row.data[len(row.data) // 2 :][:24])
    return pieces


async def filled(rig: Files, number: int, size: int = 3000) -> tuple[QueueFiles, list[Item]]:
    queue = await rig.open()
    items = [message(queue, os.urandom(size // 2).hex().encode()) for _ in range(number)]
    await asyncio.gather(*map(queue.commit, items))
    return queue, items


async def defer(rig: Files, queue: QueueFiles, item: Item, seconds: float) -> None:
    item.due = rig.clock.now() + seconds
    await rig.finish(queue, item, Fate.WAITING)


@pytest.mark.parametrize("stragglers", [0, 1, 20, 150])
async def test_final_messages_leave_the_disk(rig: Files, stragglers: int) -> None:
    queue, items = await filled(rig, 200)
    pieces = sealed_bytes(queue, items)
    before = sealed_rows(rig.folder)
    assert all(piece in before for piece in pieces), "the test looks for the right octets"
    taken = await rig.drain(queue, 200)
    for item in taken[:stragglers]:
        await defer(rig, queue, item, 86_400)
    for item in taken[stragglers:]:
        await rig.finish(queue, item)
    await rig.pass_time(queue, RETENTION_SECONDS, step=0.9 * 30)
    after = sealed_rows(rig.folder)
    assert not any(piece in after for piece in pieces[stragglers:])
    assert all(piece in after for piece in pieces[:stragglers])
    live = {row.id for segment in queue.shelf.segments.values() for row in segment.newest_rows()}
    assert live == {item.id for item in taken[:stragglers]}


async def test_rows_of_final_messages_are_gone_from_the_files(rig: Files) -> None:
    queue, _items = await filled(rig, 50)
    taken = await rig.drain(queue, 50)
    await defer(rig, queue, taken[0], 86_400)
    await asyncio.gather(*(rig.finish(queue, item) for item in taken[1:]))
    await rig.pass_time(queue, RETENTION_SECONDS)
    await rig.stop(queue)
    rows = []
    for path in rig.folder.glob("*.queue"):
        db = sqlite3.connect(path)
        rows += db.execute("SELECT DISTINCT id FROM log").fetchall()
        db.close()
    assert rows == [(taken[0].id,)]


async def test_a_purged_file_gives_its_space_back(rig: Files) -> None:
    queue, _ = await filled(rig, 300, size=8000)
    taken = await rig.drain(queue, 300)
    await defer(rig, queue, taken[0], 86_400)
    await asyncio.gather(*(rig.finish(queue, item) for item in taken[1:]))
    await rig.pass_time(queue, RETENTION_SECONDS)
    assert sum(path.stat().st_size for path in rig.folder.glob("*.queue*")) < 300_000


@pytest.mark.parametrize("stragglers", [1, 150])
async def test_stragglers_are_whole_after_a_purge_and_a_power_cut(rig: Files, stragglers: int) -> None:
    queue, items = await filled(rig, 200)
    bodies = {item.id: item.raw for item in items}
    taken = await rig.drain(queue, 200)
    for item in taken[:stragglers]:
        item.state["tries"] = 3
        await defer(rig, queue, item, 3600)
    await asyncio.gather(*(rig.finish(queue, item) for item in taken[stragglers:]))
    await rig.pass_time(queue, RETENTION_SECONDS)
    again = await rig.after_power_cut()
    for which in (queue, again):
        rig.clock.jump(3700.0 if which is queue else 0.0)
        which.tick()
        found = await rig.drain(which, stragglers)
        assert {item.id: item.raw for item in found} == {item.id: bodies[item.id] for item in taken[:stragglers]}
        assert all(item.state["tries"] == 3 for item in found)


async def test_an_outcome_during_a_purge_is_kept(rig: Files) -> None:
    """The writer does not wait for the purge; the row does."""
    queue, _ = await filled(rig, 100)
    taken = await rig.drain(queue, 100)
    await asyncio.gather(*(rig.finish(queue, item) for item in taken[2:]))
    await rig.pass_time(queue, 200)  # soon the current segment is given up and purged
    late = None
    for _ in range(40):
        rig.clock.advance(30)
        queue.tick()
        if queue.shelf.away:
            taken[0].fates = [Fate.DELIVERED]
            late = queue.record(taken[0])
            assert not late.done()
            await queue.commit(message(queue))  # others go on
            break
        await queue.writer.drain()
    assert late is not None, "no purge began"
    await late
    again = await rig.after_power_cut()
    assert {item.id for item in await rig.drain(again, 2)} > {taken[1].id}


async def test_what_a_crash_left_final_is_purged_by_the_next_owner(rig: Files) -> None:
    queue, _items = await filled(rig, 40)
    taken = await rig.drain(queue, 40)
    pieces = sealed_bytes(queue, taken)
    await asyncio.gather(*(rig.finish(queue, item) for item in taken[1:]))
    again = await rig.after_power_cut()
    assert pieces[5] in sealed_rows(again.folder)
    await rig.pass_time(again, 60)
    after = sealed_rows(again.folder)
    assert pieces[0] in after and not any(piece in after for piece in pieces[1:])


async def test_a_quiet_gateway_keeps_one_file(rig: Files) -> None:
    queue = await rig.open()
    for _ in range(20):
        await queue.commit(message(queue))
        await rig.finish(queue, await rig.take(queue))
        await rig.pass_time(queue, 60)
    await queue.shelf.drain()
    assert len(list(rig.folder.glob("*.queue"))) == 1


async def test_files_of_few_stragglers_cost_one_descriptor(rig: Files) -> None:
    queue = await rig.open()
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        await asyncio.gather(queue.commit(message(queue)), queue.commit(message(queue)))
        await defer(rig, queue, await rig.take(queue), 86_400)
        await rig.finish(queue, await rig.take(queue))
        await rig.pass_time(queue, 300, step=100)
    await rig.pass_time(queue, 600)
    assert len(queue.shelf.segments) > 40
    assert len(os.listdir("/proc/self/fd")) - opened < len(queue.shelf.segments) + 20


@pytest.mark.parametrize("suffix", [".lock", ".queue-wal", ".bodies"])
async def test_remains_of_a_file_that_is_gone_are_swept(rig: Files, suffix: str) -> None:
    """A crash between the steps of a deletion."""
    rig.folder.mkdir()
    remains = rig.folder / f"0AAAAAAAAAAAA{suffix}"
    if suffix == ".bodies":
        remains.mkdir()
        (remains / "0000000000000001").write_bytes(b"sealed")
    else:
        remains.write_bytes(b"")
    await rig.open()
    assert not remains.exists() and not Path(f"{remains.with_suffix('')}.lock").exists()


async def test_a_body_without_a_row_is_swept(rig: Files) -> None:
    """A crash between the large body and the row that names it."""
    queue = await rig.open()
    await queue.commit(message(queue))
    await asyncio.to_thread(queue.shelf.current.write_body, 77, (b"sealed",))
    again = await rig.after_power_cut()
    assert not list(again.folder.glob("*.bodies/*"))
