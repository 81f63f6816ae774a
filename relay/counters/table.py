"""A hash table in a memory-mapped file that all processes of a node share.

Theory of operation. `<folder>/counters` is a small header: a magic word, the generation of the table, the number of its slots
that were ever taken. The table itself is `<folder>/counters.<generation>`: slots of SLOT_BYTES, open addressing with linear
probing, keyed by a 16-byte BLAKE2b of the name. A slot whose time is over keeps its key, so that probing goes on past it, and
is taken over by the next new name that comes along.

One writer at a time: flock on the header, through a descriptor of this process's own, so that the kernel frees it when the
process is killed. A table that is 70 % full is copied, without what is over, into the next generation, and only then does the
header name it: whoever is killed in between leaves a file that nobody reads. The others see the new generation when they
next look. Nothing is synced: a process may die at any time, and a machine that loses power has lost its clients as well.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakSet

from relay.counters.cell_rate import CELLS

MAGIC = b"ZEGELCT1"
HEADER_BYTES = 4096
FIRST_SLOTS = 4096
# key | expires (wall seconds) | value (nanoseconds, a step or seconds) | head (step) | 72 counts
HEAD = struct.Struct("<16sdqq")
SLOT_BYTES = HEAD.size + 4 * CELLS  # 328
SLOT_CELLS = SLOT_BYTES // 4
FIRST_CELL = HEAD.size // 4
KEY_BYTES = 16
EXPIRES = struct.Struct("<d")
VALUES = struct.Struct("<dqq")
RATE = struct.Struct("<dqqq")  # of a rate: expires | tat | nanoseconds that a unit takes | when written; no counts
_EMPTY = bytes(KEY_BYTES)
_GENERATION, _TAKEN, _CHANGES, _RELEASES = 1, 2, 3, 4  # words of the header
_NO_COUNTS = bytes(4 * CELLS)
_NOTHING = bytes(SLOT_BYTES - KEY_BYTES)
_MAX_REMEMBERED = 50_000
# A slot just taken is nobody else's until it is written.
GRACE_SECONDS = 60.0
_FULL = 0.7


def header_generation(header: bytes) -> int:
    """Which table the first octets of a header name."""
    return int.from_bytes(header[8 * _GENERATION : 8 * _GENERATION + 8], "little")


class Table:
    """The shared table. Offsets are byte offsets of slots and hold until `unlock`, or for a look, until the next call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._remembered: dict[object, tuple[bytes, int]] = {}
        self.plans: dict[int, Any] = {}
        """What relay.counters.quick remembers of slots, by the numbers of limits; forgotten when slots move."""
        self._open()
        fcntl.flock(self._header_file, fcntl.LOCK_EX)
        try:
            if os.fstat(self._header_file).st_size < HEADER_BYTES:
                os.posix_fallocate(self._header_file, 0, HEADER_BYTES)
            self._header = memoryview(mmap.mmap(self._header_file, HEADER_BYTES)).cast("Q")
            if self._header[0] != int.from_bytes(MAGIC, "little"):
                self._begin(self._header[_GENERATION] + 1, FIRST_SLOTS)
                self._header[0] = int.from_bytes(MAGIC, "little")
            self._map()
        finally:
            fcntl.flock(self._header_file, fcntl.LOCK_UN)
        _TABLES.add(self)

    def _open(self) -> None:
        self._thread = threading.Lock()
        self._header_file = os.open(self._folder / "counters", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Give back memory and descriptors; what was counted stays."""
        _TABLES.discard(self)
        self._unmap()
        self._header.release()
        os.close(self._header_file)

    def reopen(self) -> None:
        """In the child after a fork: a lock belongs to the open file, so parent and child would hold it together.

        The maps stay: they are of the same files.
        """
        os.close(self._header_file)
        self._open()

    # Locking

    def lock(self) -> None:
        """Be the only one, among threads and processes, until `unlock`. Held for microseconds."""
        self._thread.acquire()
        fcntl.flock(self._header_file, fcntl.LOCK_EX)
        if self._header[_GENERATION] != self._generation:
            self._map()

    def unlock(self) -> None:
        fcntl.flock(self._header_file, fcntl.LOCK_UN)
        self._thread.release()

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *exception: object) -> None:
        self.unlock()

    def look(self) -> None:
        """As `lock`, but only among the threads of this process: for reading, until `done`."""
        self._thread.acquire()
        if self._header[_GENERATION] != self._generation:
            self._map()

    def done(self) -> None:
        self._thread.release()

    # Marks

    def marks(self) -> tuple[int, int]:
        """How often `mark` was called, and how often of these for a release. Without a lock: a number is never torn."""
        header = self._header
        return header[_CHANGES], header[_RELEASES]

    def mark(self, *, released: bool) -> None:
        """Tell all processes that something they may remember has changed. Only under `lock`."""
        self._header[_CHANGES] += 1
        self._header[_RELEASES] += released

    # Slots

    def find(self, name: object) -> int:
        """Offset of the slot of `name` (text, or a tuple of texts); -1 if there is none."""
        known = self._remembered.get(name)
        if known is not None:
            digest, offset = known
            if self.raw[offset : offset + KEY_BYTES] == digest:
                return offset
        else:
            digest = digest_of(name)
        raw, mask = self.raw, self._mask
        index = int.from_bytes(digest[:8], "little") & mask
        for _ in range(mask + 1):
            offset = index * SLOT_BYTES
            stored = raw[offset : offset + KEY_BYTES]
            if stored == digest:
                self._remember(name, digest, offset)
                return offset
            if stored == _EMPTY:
                return -1
            index = (index + 1) & mask
        return -1

    def read(self, name: object) -> tuple[int, int, int]:
        """(offset, value, head) of the slot of `name`; the offset is -1 if there is none."""
        known = self._remembered.get(name)
        if known is not None:
            digest, offset = known
            key, _, value, head = HEAD.unpack_from(self.raw, offset)
            if key == digest:
                return offset, value, head
        offset = self.find(name)
        if offset < 0:
            return -1, 0, 0
        _, value, head = VALUES.unpack_from(self.raw, offset + KEY_BYTES)
        return offset, value, head

    def claim(self, name: object, now: float) -> int:
        """Offset of the slot of `name`, a new and empty one if there was none. Only under `lock`.

        May move every other slot: claim all that is needed before using offsets.
        """
        offset = self.find(name)
        if offset >= 0:
            return offset
        if self._header[_TAKEN] + 1 > self._slots * _FULL:
            self._grow(now)
        digest = digest_of(name)
        offset = self._vacancy(digest, now)
        if self.raw[offset : offset + KEY_BYTES] == _EMPTY:
            self._header[_TAKEN] += 1  # before the key: killed in between, the table only grows a little early
        self.raw[offset : offset + SLOT_BYTES] = HEAD.pack(digest, now + GRACE_SECONDS, 0, 0) + _NO_COUNTS
        self._remember(name, digest, offset)
        return offset

    def clear(self, offset: int) -> None:
        """Forget what a slot holds; its key stays, since others may lie behind it on their way. Only under `lock`."""
        self.raw[offset + KEY_BYTES : offset + SLOT_BYTES] = _NOTHING

    def _vacancy(self, digest: bytes, now: float) -> int:
        """The first slot on the way of `digest` that is empty or over."""
        index = int.from_bytes(digest[:8], "little") & self._mask
        while True:
            offset = index * SLOT_BYTES
            key, expires, _, _ = HEAD.unpack_from(self.raw, offset)
            if key == _EMPTY or expires < now:
                return offset
            index = (index + 1) & self._mask

    def _remember(self, name: object, digest: bytes, offset: int) -> None:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = (digest, offset)

    def offsets(self) -> list[int]:
        """Offsets of all slots that hold a key. Only under `lock`."""
        starts = range(0, self._slots * SLOT_BYTES, SLOT_BYTES)
        return [start for start in starts if self.raw[start : start + KEY_BYTES] != _EMPTY]

    @property
    def slots(self) -> int:
        return self._slots

    # Generations

    def _path(self, generation: int) -> Path:
        return self._folder / f"counters.{generation}"

    def _map(self) -> None:
        """Map the table that the header names."""
        self._unmap()
        while True:
            generation = self._header[_GENERATION]
            try:
                file = os.open(self._path(generation), os.O_RDWR | os.O_CLOEXEC)
                break
            except FileNotFoundError:
                if generation == self._header[_GENERATION]:
                    # Somebody deleted it: begin anew rather than not serve.
                    self._begin(generation + 1, FIRST_SLOTS)
        try:
            self.raw = mmap.mmap(file, 0)
        finally:
            os.close(file)
        self.cells = memoryview(self.raw).cast("I")
        self._generation = generation
        self._slots = len(self.raw) // SLOT_BYTES
        self._mask = self._slots - 1
        self._remembered.clear()
        self.plans.clear()

    def _unmap(self) -> None:
        if hasattr(self, "cells"):
            self.cells.release()
            self.raw.close()
            del self.cells

    def _begin(self, generation: int, slots: int) -> None:
        """An empty table, and the header names it."""
        with self._path(generation).open("wb") as file:
            os.chmod(file.fileno(), 0o600)
            # Room taken now: touching a page that a full disk has no room for would end the process (SIGBUS).
            os.posix_fallocate(file.fileno(), 0, slots * SLOT_BYTES)
        # In this order: with the number of the old table the new one at worst grows early, the other way it could fill up.
        self._header[_GENERATION] = generation
        self._header[_TAKEN] = 0

    def _grow(self, now: float) -> None:
        """Copy what is not over into a table with room, then name that one."""
        live = [offset for offset in self.offsets() if HEAD.unpack_from(self.raw, offset)[1] >= now]
        slots = self._slots * 2 if len(live) > self._slots * _FULL / 2 else self._slots
        fresh = bytearray(slots * SLOT_BYTES)
        for offset in live:
            slot = self.raw[offset : offset + SLOT_BYTES]
            index = int.from_bytes(slot[:8], "little") & (slots - 1)
            while fresh[index * SLOT_BYTES : index * SLOT_BYTES + KEY_BYTES] != _EMPTY:
                index = (index + 1) & (slots - 1)
            fresh[index * SLOT_BYTES : (index + 1) * SLOT_BYTES] = slot
        old = self._generation
        with self._path(old + 1).open("wb") as file:
            os.chmod(file.fileno(), 0o600)
            file.write(fresh)
        self._header[_GENERATION] = old + 1
        self._header[_TAKEN] = len(live)
        self._path(old).unlink(missing_ok=True)
        self._map()


def digest_of(name: object) -> bytes:
    """The key of a name. Texts of a tuple are divided, so that ("a", "bc") and ("ab", "c") differ."""
    text = name if isinstance(name, str) else "\0".join(name)  # type: ignore[arg-type]  # a tuple of texts
    kind = b"" if isinstance(name, str) else b"tuple"
    digest = blake2b(text.encode(errors="surrogateescape"), digest_size=KEY_BYTES, person=kind).digest()
    return digest if digest != _EMPTY else b"\1" * KEY_BYTES


_TABLES: WeakSet[Table] = WeakSet()


def _after_fork() -> None:
    for table in tuple(_TABLES):
        table.reopen()


os.register_at_fork(after_in_child=_after_fork)
