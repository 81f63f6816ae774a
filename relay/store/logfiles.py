"""The write-ahead log and its index, which SQLite keeps beside a database.

Whoever deletes or replaces them, by putting another database in the place of ours for a moment, leaves the writer with
files that nobody else can open: its commits are in a log that is gone when the process ends, and who connects anew
reads an index that does not fit. While the writer lives the log can still be copied into the database; then a new one is
begun, and every other process that has the database open is replaced (`Generation.begin_log`).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from relay.store.connection import StoreUnavailable

LOST = "the write-ahead log of the database was deleted or replaced; it is being put right, try again in a moment"
_SUFFIXES = ("-wal", "-shm")
_DELETED = " (deleted)"  # so Linux marks a file that has no name any more
_HELD = "/proc/self/fd"
_ASIDE = ".not-ours"

Place = tuple[int, int]  # device and inode


class LogFiles:
    """Those beside the database at `path`, as the one writer of it has them open."""

    def __init__(self, path: Path) -> None:
        whole = path.resolve()
        self._paths = tuple(whole.with_name(whole.name + suffix) for suffix in _SUFFIXES)
        self._held: tuple[frozenset[Place], ...] = ()

    def note(self, connection: sqlite3.Connection) -> None:
        """Take note of what this process has open. Raises StoreUnavailable where it isn't what lies there."""
        connection.execute("PRAGMA user_version").fetchone()  # they are opened by the first read
        self._held = tuple(_held(path) for path in self._paths)
        self.look()

    def look(self) -> None:
        """Raises StoreUnavailable where they were deleted or replaced since. Costs two looks at the disk."""
        if not self.are_ours():
            raise StoreUnavailable(LOST)

    def are_ours(self) -> bool:
        """Whether what lies there is what was noted."""
        return all(_lying(path) == held for path, held in zip(self._paths, self._held, strict=True))

    def copy_back(self, connection: sqlite3.Connection) -> None:
        """Copy the log that only we still have into the database, and clear its place for a new one.

        What lies there and is not ours would be read over what we wrote: it is moved aside. Raises StoreUnavailable where
        a reader is in the way.
        """
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:
            busy = 1
        if busy:
            raise StoreUnavailable(LOST)
        log = self._paths[0]
        if not _lying(log) <= self._held[0]:
            log.replace(log.with_name(f"{log.name}{_ASIDE}"))
        for path in self._paths:
            path.unlink(missing_ok=True)


def _lying(path: Path) -> frozenset[Place]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return frozenset()
    return frozenset(((status.st_dev, status.st_ino),))


def _held(path: Path) -> frozenset[Place]:
    """Every file that this process has open under the name of `path`, or had before it was deleted."""
    names = (str(path), f"{path}{_DELETED}")
    found = set()
    for number in os.listdir(_HELD):
        try:
            if os.readlink(f"{_HELD}/{number}") in names:
                status = os.stat(f"{_HELD}/{number}")
                found.add((status.st_dev, status.st_ino))
        except FileNotFoundError:  # closed meanwhile
            continue
    return frozenset(found)
