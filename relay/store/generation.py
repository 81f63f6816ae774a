"""A counter per group of tables that tells readers when to load again: a page of shared memory, one writer.

Each slot is 8 octets, little-endian. An aligned store of 8 octets is not torn on the machines that CPython runs
on, and a reader that sees a number late reads once more than needed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

FILE = "generation"
DIRECTORY = 0
CONSENT = 1  # consents and suppressions
# What every read of the database hangs on: it moves when readers must open it anew or take in a rotated key, and is odd
# while the database is not to be read at all.
STORE = 2
_WRITING = 3  # odd while the owner writes
# Moves when the owner has begun a new write-ahead log: who was there before has the old one, and would read beside it.
_LOG = 8
_FILE = slice(4, 8)  # which file the owner left, and how: device, inode, octets, time of the last write

_MARK = struct.Struct("=4Q")
PLACE_BYTES = 16  # of a mark: which file it is
_SLOTS = 64
_SIZE = _SLOTS * 8


class Generation:
    """The counters in one file. Any process may read; only the owner of the data folder bumps."""

    __slots__ = ("_log", "_map", "_words")

    def __init__(self, shared: mmap.mmap) -> None:
        self._map = shared
        self._words = memoryview(shared).cast("Q")
        self._log = self._words[_LOG]

    @classmethod
    def open(cls, path: Path) -> Generation:
        """Map the file at `path`, or `generation` in the folder at `path`; made with zeros where it is not there."""
        if path.is_dir():
            path = path / FILE
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < _SIZE:
                # Room taken now: touching a page that a full disk has no room for would end the process (SIGBUS).
                os.posix_fallocate(handle, 0, _SIZE)
            return cls(mmap.mmap(handle, _SIZE))
        finally:
            os.close(handle)

    def read(self, slot: int) -> int:
        """The present number of `slot`."""
        return self._words[slot]

    def bump(self, slot: int) -> int:
        """Count `slot` up by one, after the commit that it announces; returns the new number. One writer at a time."""
        number = self._words[slot] + 1
        self._words[slot] = number
        return number

    # -- the database file, as its owner left it ----------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Around whatever may change the database at `path`. One writer at a time."""
        self._words[_WRITING] |= 1
        try:
            yield
        finally:
            self.leave(mark_of(path))
            self._words[_WRITING] += 1

    def leave(self, mark: bytes) -> None:
        """Take the file as it was when `mark` was made for what its owner left."""
        self._words[_FILE] = memoryview(mark).cast("Q")

    def is_as_left(self, path: Path) -> bool:
        """Whether nobody but its owner has changed, deleted or replaced the database at `path`.

        Damage that SQLite cannot see makes it find nothing where there is a consent or an objection; but who writes
        into a file changes its time. Costs a look at the file, some microseconds.
        """
        writing = self._words[_WRITING]
        if mark_of(path) == self._words[_FILE].tobytes():
            return True
        return writing % 2 == 1 or self._words[_WRITING] != writing

    def set_readable(self, readable: bool) -> None:
        """Say in slot STORE whether the database may be read; each change of it is a new number. One writer at a time."""
        number = self._words[STORE]
        if (number % 2 == 0) != readable:
            self._words[STORE] = number + 1

    @property
    def is_readable(self) -> bool:
        """Whether the owner lets the database be read, and this process can: it reads the log that is written."""
        return self._words[STORE] % 2 == 0 and self._words[_LOG] == self._log

    def renew(self) -> None:
        """Make every reader open the database, and the keyring, anew at its next read. One writer at a time."""
        self._words[STORE] += 2

    def begin_log(self) -> None:
        """A new write-ahead log: every process of now but the caller's is to read no more. One writer at a time.

        SQLite gives all connections of one process the same index, so one that is never without a connection can never
        come to the new one.
        """
        self._words[_LOG] += 1
        self._log = self._words[_LOG]

    def close(self) -> None:
        """Give the mapping back."""
        self._words.release()
        self._map.close()


def mark_of(path: Path) -> bytes:
    """Which file lies at `path` and when it was last written; zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return bytes(_MARK.size)
    return _MARK.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
