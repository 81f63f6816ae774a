"""One queue file: an append-only log in SQLite, owned by whoever holds its lock.

Theory of operation. SQLite has one writer at a time, so no two processes share a queue file. A segment is a table of
log rows: a message, a new state of it, or its final outcome. Rows are only ever appended, many sessions' rows in one
INSERT statement, which in autocommit mode is also the one transaction and the one fsync (WAL, synchronous=FULL). A
segment whose every message is final is deleted whole, often before its write-ahead log was ever copied back.

Bodies over LARGE_BYTES lie in files of their own, encrypted and synced before the row that names them.

Failures: sqlite3.Error from `append` and `load` means the disk or the file is bad; the caller answers 4xx.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

MESSAGE, STATE, FINAL = 0, 1, 2
LARGE_BYTES = 128 * 1024

_SCHEMA = """
CREATE TABLE log(
  seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, kind INTEGER NOT NULL,
  due REAL NOT NULL, tenant INTEGER NOT NULL, rank INTEGER NOT NULL, held INTEGER NOT NULL, data BLOB)
"""
_COLUMNS = 8
_ROW = "(" + ",".join("?" * _COLUMNS) + ")"
_SIZES = (64, 32, 16, 8, 4, 2, 1)
_INSERT = {size: "INSERT INTO log VALUES " + ",".join([_ROW] * size) for size in _SIZES}


class Row(NamedTuple):
    """One log row. `data` is sealed; None for a final row."""

    seq: int
    id: int
    kind: int
    due: float
    tenant: int
    rank: int
    held: int
    data: bytes | None


class Segment:
    """An open, locked queue file. Not thread safe: one thread appends; `load` may run in another through its own connection."""

    def __init__(self, path: Path, lock_fd: int, number: int) -> None:
        self.path = path
        self.number = number
        self.created = os.stat(path).st_mtime if path.exists() else 0.0
        self._lock_fd = lock_fd
        self.next_seq = 1
        self.added = 0  # messages, counted by the writer's thread
        self.finished = 0  # messages, counted by the loop
        self.bytes = 0
        self.has_bodies = self.path.with_suffix(".bodies").exists()
        self._write = self._connect()
        self._read = self._connect()

    @classmethod
    def create(cls, path: Path, number: int) -> Segment:
        """A new, empty, locked segment whose schema is on disk when this returns."""
        lock_fd = _lock(path)
        if lock_fd is None:
            raise BlockingIOError(path)
        segment = cls(path, lock_fd, number)
        segment._write.execute(_SCHEMA)
        sync_folder(path.parent)
        return segment

    @classmethod
    def adopt(cls, path: Path, number: int) -> Segment | None:
        """An existing segment, or None while somebody else holds it. Raises sqlite3.Error if the file is no database."""
        lock_fd = _lock(path)
        if lock_fd is None:
            return None
        if not path.exists():  # its owner finished and deleted it between our listing and our lock
            os.close(lock_fd)
            return None
        try:
            segment = cls(path, lock_fd, number)
            segment._write.execute("CREATE TABLE IF NOT EXISTS" + _SCHEMA.strip().removeprefix("CREATE TABLE"))
            segment.next_seq = 1 + (segment._write.execute("SELECT max(seq) FROM log").fetchone()[0] or 0)
        except sqlite3.Error:
            os.close(lock_fd)
            raise
        return segment

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=16)
        db.execute("PRAGMA page_size=8192")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=8000")  # 64 MB: most segments are deleted before they are checkpointed
        db.execute("PRAGMA cache_size=-2000")
        return db

    @property
    def live(self) -> int:
        """Messages that are not final, those being written included."""
        return self.added - self.finished

    def append(self, rows: Sequence[Row]) -> None:
        """All rows in one durable transaction; when this returns a power cut loses none of them."""
        if len(rows) <= _SIZES[0] and len(rows) in _INSERT:
            self._write.execute(_INSERT[len(rows)], [value for row in rows for value in row])
            return
        self._write.execute("BEGIN IMMEDIATE")
        try:
            at = 0
            for size in _SIZES:
                while len(rows) - at >= size:
                    self._write.execute(_INSERT[size], [value for row in rows[at : at + size] for value in row])
                    at += size
            self._write.execute("COMMIT")
        except BaseException:
            self._write.execute("ROLLBACK")
            raise

    def load(self, seq: int) -> Row | None:
        """One row."""
        row = self._read.execute("SELECT * FROM log WHERE seq=?", (seq,)).fetchone()
        return Row(*row) if row else None

    def find(self, number: int) -> Iterator[Row]:
        """Every row of the message `number`, oldest first. Reads the whole segment: for people, not for the hot path."""
        for row in self._read.execute("SELECT * FROM log WHERE id=? ORDER BY seq", (number,)):
            yield Row(*row)

    def select(self, query: str) -> Iterator[Row]:
        """The rows of a query of this package (adopt.py), never of anybody's input."""
        for row in self._read.execute(query):
            yield Row(*row)

    @property
    def bodies(self) -> Path:
        """The folder of this segment's large bodies."""
        return self.path.with_suffix(".bodies")

    def body_path(self, number: int) -> Path:
        """Where the large body of a message lies; makes the folder."""
        if not self.bodies.exists():
            self.bodies.mkdir(mode=0o700)
            sync_folder(self.path.parent)
        self.has_bodies = True
        return self.bodies / f"{number:016x}"

    def forget_body(self, number: int) -> None:
        """The message is final: its large body, if it had one, leaves the disk."""
        if self.has_bodies:
            (self.bodies / f"{number:016x}").unlink(missing_ok=True)

    def clear_orphan_bodies(self, live: set[int]) -> None:
        """Bodies whose row was never committed, or is final."""
        for path in self.bodies.glob("*") if self.bodies.exists() else ():
            if int(path.name, 16) not in live:
                path.unlink(missing_ok=True)

    def delete(self) -> None:
        """The segment leaves the disk, large bodies with it are the caller's. The lock goes last."""
        self.close_connections()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.rmtree(self.bodies, ignore_errors=True)
        _lock_path(self.path).unlink(missing_ok=True)
        os.close(self._lock_fd)

    def close_connections(self) -> None:
        self._write.close()
        self._read.close()

    def close(self) -> None:
        """Give the segment up: another worker may adopt it."""
        self.close_connections()
        os.close(self._lock_fd)


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _lock(path: Path) -> int | None:
    fd = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    # The owner may have deleted the lock file while we opened it: then we hold a lock that nobody else can see.
    if not _lock_path(path).exists() or os.fstat(fd).st_ino != os.stat(_lock_path(path)).st_ino:
        os.close(fd)
        return None
    return fd


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_large(path: Path, blob: bytes) -> None:
    """A large body's file, synced before this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(blob)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)
