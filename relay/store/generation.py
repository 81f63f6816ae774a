"""A counter per group of tables that tells readers when to load again: a page of shared memory, one writer.

Each slot is 8 octets, little-endian. An aligned store of 8 octets is not torn on the machines that CPython runs
on, and a reader that sees a number late reads once more than needed.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

FILE = "generation"
DIRECTORY = 0
CONSENT = 1  # consents and suppressions

_SLOTS = 64
_SIZE = _SLOTS * 8


class Generation:
    """The counters in one file. Any process may read; only the owner of the data folder bumps."""

    __slots__ = ("_map", "_words")

    def __init__(self, shared: mmap.mmap) -> None:
        self._map = shared
        self._words = memoryview(shared).cast("Q")

    @classmethod
    def open(cls, path: Path) -> Generation:
        """Map the file at `path`, or `generation` in the folder at `path`; made with zeros where it is not there."""
        if path.is_dir():
            path = path / FILE
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < _SIZE:
                os.ftruncate(handle, _SIZE)
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

    def close(self) -> None:
        """Give the mapping back."""
        self._words.release()
        self._map.close()
