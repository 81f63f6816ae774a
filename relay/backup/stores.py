"""Pictures of what lies beside the queue: SQLite files as of one moment, and the counters of limits.

A picture of an SQLite file is a reader whose transaction stays open: it sees the file as it was, while its owner goes on
writing. It is copied page by page into a file of ours, whose content then goes into the backup.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from relay.backup.parts import BLOCK_BYTES
from relay.counters.table import header_generation

SQLITE_MAGIC = b"SQLite format 3\0"
PAGES_AT_ONCE = 4096
COUNTERS = "counters"
Progress = Callable[[int], None]


class NoRoom(Exception):
    """The data folder has no room for a copy; the text says how much is missing."""


class Picture:
    """An SQLite file as it was when this was made. Raises sqlite3.Error where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            self._reader.execute("PRAGMA temp_store=MEMORY")
            self._reader.execute("BEGIN")
            self._reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            self._reader.close()
            raise

    def blocks(self, stage: Path) -> Iterator[bytes]:
        """Its octets; a copy lies in `stage` until they are used up. Raises NoRoom, sqlite3.Error or OSError."""
        copy = stage / "copy"
        try:
            self._copy(copy)
            self.close()
            yield from file_blocks(copy)
        finally:
            self.close()
            copy.unlink(missing_ok=True)

    def _copy(self, copy: Path) -> None:
        (pages,), (size,) = (self._reader.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
        free = shutil.disk_usage(copy.parent).free
        if free < pages * size:
            raise NoRoom(f"{self.path.name} needs {pages * size // 2**20 + 1} MiB for a copy, {free // 2**20} are free")
        copy.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous=OFF")  # it is gone in a moment
            target.execute("PRAGMA journal_mode=OFF")
            self._reader.backup(target, pages=PAGES_AT_ONCE)
        with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as found:
            said = found.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise sqlite3.DatabaseError(f"{self.path.name} is damaged: {said}")

    def close(self) -> None:
        self._reader.close()


def is_sqlite(path: Path) -> bool:
    """Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def file_blocks(path: Path) -> Iterator[bytes]:
    """The octets of a file, as many as it has now: one that somebody writes to may grow faster than it is read."""
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        while block := file.read(min(BLOCK_BYTES, left)):
            left -= len(block)
            yield block


def copy_counters(folder: Path, stage: Path) -> list[Path]:
    """The counters of limits as of one moment, copied into `stage`; none where there are none yet. Takes their lock for it."""
    header = folder / COUNTERS
    if not header.exists():
        return []
    handle = os.open(header, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        generation = header_generation(os.pread(handle, 16, 0))
        table = folder / f"{COUNTERS}.{generation}"
        if not table.exists():
            return []
        return [Path(shutil.copy(path, stage / path.name)) for path in (header, table)]
    finally:
        os.close(handle)
