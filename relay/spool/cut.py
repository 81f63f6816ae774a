"""The queue as it was at one moment, for a backup, while workers go on (design.md, "Keys").

Theory of operation. A report is durable before the failure that it tells of is forgotten, and the two may lie in
different files; so all files must be seen as of one moment, or a copy could hold neither. For that moment every file is
locked against writing: workers wait some milliseconds, as they do for the disk. Under the locks a reader of each file
is opened, whose picture of it does not change any more, and large bodies get a second name; then the locks go.

The second names lie in a folder that looks like the bodies of a queue file that is gone. Its lock is ours: when we are
killed, any worker removes it with the other remains within seconds.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relay.spool.remains import lock, remove_remains, sync_folder
from relay.spool.segment import LIVE_IDS, LIVE_ROWS, LIVE_ROWS_OF, MAKE_LOG, STATE, Row

_ROW = struct.Struct(">QqBdqBB")  # seq, id, kind, due, tenant, rank, held
LOCK_SECONDS = 0.5
TRIES = 20
PAUSE_SECONDS = 0.25
RESTORED = "restored"


class NoCut(Exception):
    """The queue could not be stopped for a moment; nothing was changed."""


class SegmentCut:
    """One queue file as it was: what is live in it, without what is final."""

    def __init__(self, path: Path, stage: Path) -> None:
        """Raises sqlite3.Error where it cannot be read, or is gone."""
        self.path = path
        self.name = path.name
        self.stage = stage / path.stem
        self._writer = _connect(path)
        try:
            self._reader = _connect(path)
        except BaseException:
            self._writer.close()
            raise

    def lock(self) -> None:
        """Raises sqlite3.OperationalError where somebody else writes for longer than LOCK_SECONDS."""
        self._writer.execute("BEGIN IMMEDIATE")

    def look(self) -> None:
        """From now on `rows` and `bodies` tell of this moment. Under the lock."""
        self._reader.execute("BEGIN")
        self._reader.execute("SELECT seq FROM log LIMIT 1").fetchone()
        bodies = self.path.with_suffix(".bodies")
        if bodies.exists():
            self.stage.mkdir(mode=0o700)
            for body in bodies.iterdir():
                with contextlib.suppress(FileNotFoundError):  # of a message that became final before the lock
                    os.link(body, self.stage / body.name)

    def unlock(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def count(self) -> int:
        """Messages that were live."""
        return int(self._reader.execute(f"SELECT count(*) FROM ({LIVE_IDS})").fetchone()[0])

    def rows(self) -> Iterator[Row]:
        """Live messages and the newest state of each, in their order."""
        for row in self._reader.execute(LIVE_ROWS):
            yield Row(*row)

    def messages_of(self, tenant: int) -> Iterator[tuple[Row, bytes | None]]:
        """Live messages of one tenant, each with its newest state, in their order."""
        newest = "SELECT id, max(seq) FROM log WHERE kind=? AND tenant=? GROUP BY id"
        places = dict(self._reader.execute(newest, (STATE, tenant)))
        for row in map(Row._make, self._reader.execute(f"{LIVE_ROWS_OF} ORDER BY seq", (tenant,))):
            state = self._reader.execute("SELECT data FROM log WHERE seq=?", (places.get(row.id, -1),)).fetchone()
            yield row, state and state[0]

    def bodies(self) -> Iterator[Path]:
        """Files of the large bodies of live messages; the number is the name."""
        if self.stage.exists():
            for (number,) in self._reader.execute(LIVE_IDS):
                path = self.stage / f"{number:016x}"
                if path.exists():
                    yield path

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Cut:
    """Call `take` once, then read `segments`; `close` gives everything back."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the queue."""
        self.folder = folder
        self.segments: list[SegmentCut] = []
        self.damaged: list[Path] = []
        self.stage, self._lock = _make_stage(folder)

    def take(self, meanwhile: Callable[[], None]) -> None:
        """Stop the writing for a moment; `meanwhile` is called in it. Raises NoCut, sqlite3.Error or OSError."""
        for _ in range(TRIES):
            try:
                self._freeze(meanwhile)
                return
            except sqlite3.OperationalError as error:
                self._drop()
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            time.sleep(PAUSE_SECONDS)
        raise NoCut("the queue is written without a pause: try again when less is going on")

    def _freeze(self, meanwhile: Callable[[], None]) -> None:
        seen: set[Path] = set()
        while self._open_new(seen):
            pass
        try:
            for segment in self.segments:
                segment.lock()
            # Files that were made meanwhile belong to it, or a message could have moved on into one of them.
            while new := self._open_new(seen):
                for segment in new:
                    segment.lock()
            self.segments = [segment for segment in self.segments if segment.path.exists()]
            for segment in self.segments:
                segment.look()
            meanwhile()
        finally:
            for segment in self.segments:
                segment.unlock()

    def _open_new(self, seen: set[Path]) -> list[SegmentCut]:
        new = []
        for path in sorted(self.folder.glob("*.queue")):
            if path in seen:
                continue
            try:
                if not path.stat().st_size:
                    continue  # it is being made; when all others are locked, it is still empty
                new.append(SegmentCut(path, self.stage))
            except FileNotFoundError:
                continue
            except sqlite3.Error as error:
                if not path.exists():
                    continue
                if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                    raise
                self.damaged.append(path)
            seen.add(path)
        self.segments += new
        return new

    def _drop(self) -> None:
        for segment in self.segments:
            segment.close()
        self.segments, self.damaged = [], []
        shutil.rmtree(self.stage)
        self.stage.mkdir(mode=0o700)

    def close(self) -> None:
        self._drop()
        remove_remains(self.stage.with_suffix(""))
        os.close(self._lock)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that never makes a file, with its look at the file behind it."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_SECONDS)
    try:
        db.execute("PRAGMA temp_store=MEMORY")  # no temporary file may hold a message
        db.execute("SELECT count(*) FROM log WHERE seq < 0").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _make_stage(folder: Path) -> tuple[Path, int]:
    """A folder for what only this process needs, and the descriptor of its lock."""
    while True:
        stem = folder / f"backup-{secrets.token_hex(6)}"
        handle = lock(stem.with_suffix(".queue"))
        if handle is not None:
            stage = stem.with_suffix(".bodies")
            stage.mkdir(mode=0o700)
            return stage, handle


def pack_row(row: Row) -> bytes:
    """A row as octets."""
    return _ROW.pack(*row[:-1]) + (row.data or b"")


def unpack_row(octets: bytes) -> Row:
    """What `pack_row` was given. Raises struct.error."""
    seq, number, kind, due, tenant, rank, held = _ROW.unpack_from(octets)
    return Row(seq, number, kind, due, tenant, rank, held, octets[_ROW.size :])


# -- the way back -----------------------------------------------------------------------------------------------------


def write_segment(path: Path, rows: Iterator[Row]) -> int:
    """A queue file of `rows`, durable when this returns; how many messages it holds."""
    db = sqlite3.connect(path, isolation_level=None)
    path.chmod(0o600)
    try:
        db.execute("PRAGMA page_size=8192")
        db.execute("PRAGMA journal_mode=OFF")  # it is of use when it is whole, and is made again otherwise
        db.execute("PRAGMA synchronous=FULL")
        db.execute(MAKE_LOG)
        db.execute("BEGIN")
        db.executemany("INSERT INTO log VALUES(?,?,?,?,?,?,?,?)", rows)
        db.execute("COMMIT")
        return int(db.execute(f"SELECT count(*) FROM ({LIVE_IDS})").fetchone()[0])
    finally:
        db.close()


def waiting(folder: Path) -> int:
    """Queue files of a restore that nobody has released."""
    return len(list((folder / RESTORED).glob("*.queue")))


def release(folder: Path) -> int:
    """Give what was restored to the workers, file by file; how many files that were. May be repeated after a crash."""
    shelf, moved = folder / RESTORED, 0
    for path in sorted(shelf.glob("*.queue")):
        target, bodies = folder / path.name, path.with_suffix(".bodies")
        handle = lock(target)
        if handle is None:
            raise BlockingIOError(f"{target} is in somebody's hands: do it again")
        try:
            if bodies.exists():  # under a second name first: nobody takes the file before its bodies are there
                target.with_suffix(".bodies").mkdir(mode=0o700, exist_ok=True)
                for body in bodies.iterdir():
                    with contextlib.suppress(FileExistsError):
                        os.link(body, target.with_suffix(".bodies") / body.name)
                sync_folder(target.with_suffix(".bodies"))
            path.rename(target)
            sync_folder(folder)
        finally:
            os.close(handle)
        moved += 1
    shutil.rmtree(shelf, ignore_errors=True)
    return moved
