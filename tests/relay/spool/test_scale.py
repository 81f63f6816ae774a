"""Many queued messages: what adoption costs, and that a message costs the same however many wait (issue 2, Done-when 8).

ZEGEL_TEST_QUEUED says how many; 30,000 by default, 1,000,000 for the full run. The figures are printed with `-s`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from relay.spool.box import Box
from relay.spool.files import SEGMENT_BYTES, QueueFiles
from relay.spool.item import IdSource, encode_id
from relay.spool.segment import MESSAGE, Row, Segment
from tests.fakes.queues import Files, message

pytestmark = pytest.mark.anyio

QUEUED = int(os.environ.get("ZEGEL_TEST_QUEUED", "30000"))
SIZE = 1000


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no resident size")


def lay_down(rig: Files, queue: QueueFiles, number: int) -> None:
    """Queue files of a worker that is gone, with `number` messages; half of them parked over five days."""
    box, ids = Box(rig.cipher), IdSource(4095)
    folder = rig.folder
    segment, rows = None, []
    for index in range(number):
        item = message(queue, b"x" * SIZE, tenant=index % 50)
        item.id = ids.next(rig.clock.now())
        due = 0.0 if index % 2 else rig.clock.now() + index * 432_000 / number
        rows.append(Row(index + 1, item.id, MESSAGE, due, item.tenant, item.rank, 0, box.message(item)))
        if len(rows) == 64 or index == number - 1:
            if segment is None or segment.bytes > SEGMENT_BYTES:
                if segment is not None:
                    segment.close()
                segment = Segment.create(folder / f"{encode_id(item.id)}.queue", 1)
                segment._writing().execute("PRAGMA synchronous=OFF")
            segment.append(rows)
            segment.bytes += sum(len(row.data or b"") for row in rows)
            rows = []
    assert segment is not None
    segment.close()


async def cost(rig: Files, queue: QueueFiles, number: int) -> float:
    """CPU seconds to take and record one message, the best of three rounds."""
    rounds = []
    for _ in range(3):
        began = time.process_time()
        items = [await rig.take(queue) for _ in range(number)]
        for item in items:
            item.due = rig.clock.now() + 90_000
            future = queue.record(item)
        await future
        rounds.append((time.process_time() - began) / number)
    return min(rounds)


async def test_many_queued_messages(rig: Files, capsys: pytest.CaptureFixture[str]) -> None:
    first = await rig.open()
    lay_down(rig, first, 3000)
    assert await first.adopt_orphans() == 3000
    few = await cost(rig, first, 400)
    await rig.stop(first)
    for path in rig.folder.glob("*.queue*"):
        path.unlink()
    queue = await rig.open()
    lay_down(rig, queue, QUEUED)
    before, began = resident_bytes(), time.process_time()
    assert await queue.adopt_orphans() == QUEUED
    elapsed, grown = time.process_time() - began, resident_bytes() - before
    many = await cost(rig, queue, 400)
    with capsys.disabled():
        sys.stderr.write(
            f"\n{QUEUED} queued in {len(queue.shelf.segments) - 1} files: adopted in {elapsed:.1f} s of CPU, "
            f"{grown / 1e6:.0f} MB more; take and record {many * 1e6:.0f} us, with 3000 queued {few * 1e6:.0f} us\n"
        )
    assert elapsed < 5 + 20 * QUEUED / 1e6
    assert grown < 60e6 + 300 * QUEUED
    assert many < 3 * few + 100e-6
