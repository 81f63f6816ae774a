"""The queue is seen as of one moment, while it is written, and a backup that is killed leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.spool import adopt
from relay.spool.cipher import Cipher
from relay.spool.cut import Cut, release, waiting, write_segment
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item
from relay.spool.segment import FINAL, LARGE_BYTES, MESSAGE, STATE, PagesInUse, Row, Segment

ROOT = Path(__file__).parents[3]
KEY = bytes(32)


def nothing() -> None:
    """Nobody looks meanwhile."""


def row(seq: int, number: int, kind: int = MESSAGE) -> Row:
    return Row(seq, number, kind, 0.0, 1, 0, 0, None if kind == FINAL else b"sealed")


def made(folder: Path, name: str, number: int) -> Segment:
    return Segment.create(folder / f"{name}.queue", number)


def test_a_report_and_the_failure_that_it_tells_of_are_never_both_missing(tmp_path: Path) -> None:
    """The report is durable in one file before the failure is forgotten in another; every cut holds one of them."""
    old, new = made(tmp_path, "A", 1), made(tmp_path, "B", 2)
    count = 400
    old.append([row(seq, seq) for seq in range(1, count + 1)])
    stop = threading.Event()

    def work() -> None:
        for number in range(1, count + 1):
            new.append([row(number, 1000 + number)])
            old.append([row(count + number, number, FINAL)])
        stop.set()

    writer = threading.Thread(target=work)
    writer.start()
    cuts = 0
    while not stop.is_set():
        with closing(Cut(tmp_path)) as cut:
            cut.take(nothing)
            found = {segment.name: {r.id for r in segment.rows()} for segment in cut.segments}
        failures, reports = found["A.queue"], {number - 1000 for number in found["B.queue"]}
        assert failures | reports == set(range(1, count + 1))
        assert len(failures & reports) <= 1, "one may be in both: its report was written, and it was not yet forgotten"
        cuts += 1
    writer.join()
    assert cuts > 3
    old.close()
    new.close()


def test_only_what_is_live_is_in_a_cut(tmp_path: Path) -> None:
    segment = made(tmp_path, "A", 1)
    segment.append([row(1, 11), row(2, 12), row(3, 11, STATE), row(4, 13), row(5, 11, STATE), row(6, 12, FINAL)])
    segment.write_body(11, [b"large"])
    segment.write_body(12, [b"final"])
    with closing(Cut(tmp_path)) as cut:
        cut.take(nothing)
        (part,) = cut.segments
        segment.append([row(7, 14)])
        segment.forget_body(11)  # it is delivered while the backup is at work
        segment.append([row(8, 11, FINAL)])
        assert [(r.seq, r.id) for r in part.rows()] == [(1, 11), (4, 13), (5, 11)]
        assert part.count() == 2
        assert [body.read_bytes() for body in part.bodies()] == [b"large"]
    assert {path.name for path in tmp_path.iterdir()} <= {"A.queue", "A.queue-wal", "A.queue-shm", "A.lock", "A.bodies"}
    segment.close()


def test_a_file_that_is_deleted_meanwhile_can_still_be_read(tmp_path: Path) -> None:
    segment = made(tmp_path, "A", 1)
    segment.append([row(1, 11)])
    with closing(Cut(tmp_path)) as cut:
        cut.take(nothing)
        segment.append([row(2, 11, FINAL)])
        segment.delete()
        assert [r.id for part in cut.segments for r in part.rows()] == [11]
    assert list(tmp_path.iterdir()) == []


def test_a_purge_waits_for_a_backup_without_being_a_failure(tmp_path: Path) -> None:
    segment = made(tmp_path, "A", 1)
    segment.append([row(1, 11), row(2, 12), row(3, 12, FINAL)])
    with closing(Cut(tmp_path)) as cut:
        cut.take(nothing)
        with pytest.raises(PagesInUse):
            segment.purge(rewrite=True)
    assert segment.purge(rewrite=True) == 0, "the rows went the first time, now their octets do"
    segment.close()


def test_a_damaged_file_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "A.queue").write_bytes(b"not a database at all" * 1000)
    segment = made(tmp_path, "B", 1)
    segment.append([row(1, 11)])
    with closing(Cut(tmp_path)) as cut:
        cut.take(nothing)
        assert [path.name for path in cut.damaged] == ["A.queue"]
        assert [part.name for part in cut.segments] == ["B.queue"]
    segment.close()


HOLD = """
import sys
from pathlib import Path
from relay.spool.cut import Cut
cut = Cut(Path(sys.argv[1]))
cut.take(lambda: None)
print("cut", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_backup_leaves_goes_with_the_next_look_at_the_folder(tmp_path: Path) -> None:
    segment = made(tmp_path, "A", 1)
    segment.append([row(1, 11)])
    segment.write_body(11, [b"large"])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"cut\n"
        adopt.candidates(tmp_path, {segment.path})
        stages = list(tmp_path.glob("backup-*.bodies"))
        assert len(stages) == 1, "it is at work: nobody takes it for left behind"
        process.send_signal(signal.SIGKILL)
    segment.append([row(2, 12)])  # its locks went with it
    adopt.candidates(tmp_path, {segment.path})
    assert list(tmp_path.glob("backup-*")) == []
    segment.close()


def item(queue: QueueFiles, raw: bytes) -> Item:
    meta = {
        "tenant_id": 1,
        "tenant": "shop",
        "stream": "personal",
        "class": "personal",
        "rcpt": [["b@x.example", [], ""]],
    }
    return Item(queue.next_id(), {**meta, "at": 0.0, "edits": []}, raw, due=0.0)


def test_a_restored_queue_goes_to_a_running_gateway_when_it_is_released(tmp_path: Path) -> None:
    """Files and large bodies, while workers look for what has no owner."""

    async def work() -> None:
        first = QueueFiles(tmp_path / "one", Cipher({1: KEY}, 1), SystemClock(), on_work=nothing)
        await first.start()
        sizes = (100, LARGE_BYTES + 1, 2 * LARGE_BYTES)
        items = [item(first, b"Subject: x\r\n\r\n" + os.urandom(size)) for size in sizes]
        for each in items:
            await first.commit(each)
        target = tmp_path / "two"
        shelf = target / "restored"
        shelf.mkdir(parents=True)
        with closing(Cut(tmp_path / "one")) as cut:
            cut.take(nothing)
            for part in cut.segments:
                assert write_segment(shelf / part.name, part.rows()) == part.count()
                for body in part.bodies():
                    place = (shelf / part.name).with_suffix(".bodies")
                    place.mkdir(exist_ok=True)
                    (place / body.name).write_bytes(body.read_bytes())
        await first.stop()
        second = QueueFiles(target, Cipher({1: KEY}, 1), SystemClock(), on_work=nothing)
        await second.start()
        assert await second.adopt_orphans() == 0 and second.take() is None, "nobody has released it"
        assert waiting(target) == 1
        assert release(target) == 1
        assert await second.adopt_orphans() == len(items)
        await second.loader.idle()
        found = {}
        while (got := second.take()) is not None:
            found[got.id] = got.raw
            got.fates = [Fate.DELIVERED]
            await second.record(got)
            await second.loader.idle()
        assert found == {each.id: each.raw or found[each.id] for each in items} and len(found) == 3
        assert waiting(target) == 0 and not shelf.exists()
        await second.stop()

    asyncio.run(work())


def test_a_release_that_was_killed_is_done_again(tmp_path: Path) -> None:
    shelf = tmp_path / "restored"
    shelf.mkdir()
    write_segment(shelf / "A.queue", iter([row(1, 11)]))
    (shelf / "A.bodies").mkdir()
    (shelf / "A.bodies" / f"{11:016x}").write_bytes(b"large")
    # Killed between the second names of the bodies and the file: a worker tidies up.
    (tmp_path / "A.bodies").mkdir()
    os.link(shelf / "A.bodies" / f"{11:016x}", tmp_path / "A.bodies" / f"{11:016x}")
    adopt.candidates(tmp_path, ())
    assert not (tmp_path / "A.bodies").exists()
    assert release(tmp_path) == 1
    assert (tmp_path / "A.bodies" / f"{11:016x}").read_bytes() == b"large"
    with closing(sqlite3.connect(tmp_path / "A.queue")) as db:
        assert db.execute("SELECT count(*) FROM log").fetchone() == (1,)
