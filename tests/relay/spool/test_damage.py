"""Damaged rows and files: the rest goes on, it is counted and said, and nothing of it is sent."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from relay.serve.channel import OpRefused
from relay.serve.queue_ops import QueueOps
from relay.spool.files import QueueFiles
from relay.spool.segment import LARGE_BYTES
from tests.fakes.queues import Files, message

pytestmark = pytest.mark.anyio


async def left_behind(rig: Files, number: int, body: bytes = b"hello") -> list[int]:
    """Ids of messages in a queue file without an owner."""
    queue = await rig.open()
    items = [message(queue, body) for _ in range(number)]
    await asyncio.gather(*map(queue.commit, items))
    await rig.stop(queue)
    return [item.id for item in items]


def only_file(rig: Files) -> Path:
    (path,) = rig.folder.glob("*.queue")
    return path


def change_row(path: Path, number: int, data: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"UPDATE log SET data={data} WHERE id=?", (number,))
    db.close()


FLIPPED = (  # one octet, always to another
    "CAST(substr(data,1,40) || CASE substr(data,41,1) WHEN x'ff' THEN x'00' ELSE x'ff' END || substr(data,42) AS BLOB)"
)


@pytest.mark.parametrize("data", [FLIPPED, "x''", "NULL", "x'00000009'", "substr(data,1,20)", "'text'"])
async def test_a_damaged_row_stops_nothing(rig: Files, data: str) -> None:
    ids = await left_behind(rig, 10)
    change_row(only_file(rig), ids[4], data)
    queue = await rig.open()
    found = await rig.drain(queue, 9)
    assert [item.id for item in found] == [number for number in ids if number != ids[4]]
    assert queue.corrupt == 1


async def test_a_damaged_row_is_kept_for_a_person_who_may_delete_it(rig: Files) -> None:
    ids = await left_behind(rig, 2)
    change_row(only_file(rig), ids[0], FLIPPED)
    queue = await rig.open()
    await rig.finish(queue, *await rig.drain(queue, 1))
    ops = operations(queue)
    shown = message_id(ids[0])
    for op in ("queue.show", "queue.retry", "queue.hold"):
        with pytest.raises(OpRefused) as refused:
            await ops.run(op, {"id": shown})
        assert refused.value.code == "damaged"
    assert await ops.run("queue.delete", {"id": shown}) == {"id": shown, "state": "deleted"}
    assert queue.corrupt == 0
    await rig.pass_time(queue, 60)
    again = await rig.after_power_cut()
    assert len(again.backlog) == 0 and again.take() is None


async def test_a_damaged_state_is_not_taken_for_no_state(rig: Files) -> None:
    """Else who has the mail would get it again."""
    queue = await rig.open()
    await queue.commit(message(queue, recipients=2))
    item = await rig.take(queue)
    await queue.record(item)
    await rig.stop(queue)
    db = sqlite3.connect(only_file(rig), isolation_level=None)
    db.execute(f"UPDATE log SET data={FLIPPED} WHERE kind=1")
    db.close()
    again = await rig.open()
    await again.loader.idle()
    assert again.take() is None and again.corrupt == 1


@pytest.mark.parametrize("damage", ["flip", "gone"])
async def test_a_large_body_that_is_damaged_is_not_sent_empty(rig: Files, damage: str) -> None:
    await left_behind(rig, 1, b"x" * (2 * LARGE_BYTES))
    (body,) = rig.folder.glob("*.bodies/*")
    if damage == "gone":
        body.unlink()
    else:
        octets = bytearray(body.read_bytes())
        octets[1000] ^= 1
        body.write_bytes(octets)
    queue = await rig.open()
    await queue.loader.idle()
    assert queue.take() is None and queue.corrupt == 1


@pytest.mark.parametrize("damage", ["truncated", "no database", "page"])
async def test_a_damaged_file_is_put_aside_and_the_others_are_adopted(rig: Files, damage: str) -> None:
    await left_behind(rig, 200, b"x" * 2000)
    bad = only_file(rig)
    good = await left_behind_beside(rig)
    octets = bytearray(bad.read_bytes())
    if damage == "truncated":
        octets = octets[: len(octets) // 2]
    elif damage == "no database":
        octets[:100] = b"\0" * 100
    else:
        octets[8192 : 8192 * 3] = b"\xff" * 8192 * 2
    bad.write_bytes(octets)
    queue = await rig.open()
    assert {item.id for item in await rig.drain(queue, len(good))} == set(good)
    assert queue.corrupt == 1 and not bad.exists() and bad.with_suffix(".damaged").exists()
    assert await queue.adopt_orphans() == 0
    assert queue.corrupt == 1, "counted once"
    assert (await rig.open()).corrupt == 1, "and by those who come later"


async def left_behind_beside(rig: Files) -> list[int]:
    """Messages in a second file; the first stays as it is."""
    hidden = [(path, path.with_suffix(".aside")) for path in rig.folder.glob("*.queue")]
    for path, aside in hidden:
        path.rename(aside)
    ids = await left_behind(rig, 5)
    for path, aside in hidden:
        aside.rename(path)
    return ids


async def test_an_empty_file_is_no_damage(rig: Files) -> None:
    """A crash between the file and its table."""
    rig.folder.mkdir()
    (rig.folder / "0AAAAAAAAAAAA.queue").write_bytes(b"")
    queue = await rig.open()
    await queue.shelf.drain()
    assert queue.corrupt == 0
    assert [path.stem for path in rig.folder.glob("*.queue")] == [queue.shelf.current.path.stem]


async def test_a_message_is_not_opened_under_another_number(rig: Files) -> None:
    ids = await left_behind(rig, 2)
    db = sqlite3.connect(only_file(rig), isolation_level=None)
    db.execute("UPDATE log SET id=? WHERE id=?", (ids[1] + 1, ids[1]))
    db.close()
    queue = await rig.open()
    assert [item.id for item in await rig.drain(queue, 1)] == ids[:1]
    assert queue.corrupt == 1


def operations(queue: QueueFiles) -> QueueOps:
    from relay.delivery.report import Reporter

    def say(number: int, word: str, at: float, **data: object) -> None:
        """Nobody reads it here."""

    return QueueOps(queue, wake=lambda: None, reporter=Reporter("gw.example", queue.next_id, queue.clock), say=say)


def message_id(number: int) -> str:
    from relay.spool.item import encode_id

    return encode_id(number)
