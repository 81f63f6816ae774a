"""Windows of outcomes where the limits lie: in the shared table of the node, or in the Redis of all gateways.

Both keep the same value (relay.counters.ring) and change it by the same function, here under the table's lock, there by putting a
new value in the place of the one that was read, and reading again where somebody was quicker. So a window is exact over all
workers, and who sees its level change is one of them. Levels are read from memory: of the table itself, or of a copy of those
that are not good, which follows Redis every second.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

from relay.counters.ring import EMPTY, LASTING_LEVEL, MOST_COMPLAINTS, RING_BYTES, News, Tally, Window, added, tally
from relay.counters.table import FIRST_CELL, KEY_BYTES, VALUES, Table

KEEP_SECONDS = 90 * 86_400.0
"""Who sends nothing for so long begins anew. A level that only a person lifts is kept for ever."""
KEPT_FOR_EVER_SECONDS = 100 * 365 * 86_400.0

Judge = Callable[[Tally, int], int]
"""The level that follows from a tally and the level before; pure, since it may be asked more than once."""


class Place(NamedTuple):
    """Whose window: `key` within a tenant."""

    tenant: int
    key: str

    @property
    def name(self) -> tuple[str, str, str]:
        return "window", str(self.tenant), self.key


class Judged(NamedTuple):
    """What a change made of a window: the level before, and the window after."""

    before: int
    window: Window


class Windows(Protocol):
    """Windows as the gateway uses them. What is awaited raises CountersUnavailable where Redis does not answer."""

    def level(self, place: Place) -> int:
        """The level, from memory: at most a second old where all gateways share it."""
        ...

    def marks(self) -> tuple[int, int]:
        """Numbers of changes of any level and of releases, to see that there was one; from memory."""
        ...

    async def add(self, place: Place, news: News, now: float, judge: Judge) -> Judged: ...

    async def get(self, place: Place, now: float) -> Window: ...

    async def release(self, place: Place, now: float) -> int:
        """Empty it; the level that it had."""
        ...

    async def look(self) -> None:
        """Make what `level` and `marks` answer fresh, once."""
        ...

    async def follow(self) -> None:
        """Without end: keep what `level` and `marks` answer fresh. Somebody must run it."""
        ...


def renewed(window: Window, news: News, now: float, judge: Judge) -> Window:
    """The window with `news`, and the level that follows."""
    after = added(window, news)
    level = judge(tally(after), window.level)
    return after if level == window.level else after._replace(level=level, since=int(now))


def kept_seconds(window: Window) -> float:
    return KEPT_FOR_EVER_SECONDS if window.level >= LASTING_LEVEL else KEEP_SECONDS


class NodeWindows:
    """`Windows` of one node, in its shared table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def level(self, place: Place) -> int:
        table = self._table
        table.look()
        try:
            at = table.find(place.name)
            return 0 if at < 0 else self._level(at)
        finally:
            table.done()

    def marks(self) -> tuple[int, int]:
        return self._table.marks()

    async def add(self, place: Place, news: News, now: float, judge: Judge) -> Judged:
        return self.put(place, news, now, judge)

    def put(self, place: Place, news: News, now: float, judge: Judge) -> Judged:
        table = self._table
        table.lock()
        try:
            at = table.claim(place.name, now)
            before, known = self._read(at, now), self._level(at)  # of a window that is over the level is known still
            after = renewed(before, news, now, judge)
            self._write(at, after, now)
            if after.level != known:
                table.mark(released=False)
            return Judged(before.level, after)
        finally:
            table.unlock()

    async def get(self, place: Place, now: float) -> Window:
        table = self._table
        table.look()
        try:
            at = table.find(place.name)
            return EMPTY if at < 0 else self._read(at, now)
        finally:
            table.done()

    async def release(self, place: Place, now: float) -> int:
        table = self._table
        table.lock()
        try:
            at = table.find(place.name)
            if at < 0:
                return 0
            level = self._read(at, now).level
            table.clear(at)
            table.mark(released=True)
            return level
        finally:
            table.unlock()

    async def look(self) -> None:
        """The table is fresh."""

    async def follow(self) -> None:
        """Nothing to do: the table is the memory of all."""
        await asyncio.get_running_loop().create_future()

    def _level(self, at: int) -> int:
        head: int = VALUES.unpack_from(self._table.raw, at + KEY_BYTES)[2]
        return head & 0xFF

    def _read(self, at: int, now: float) -> Window:
        raw = self._table.raw
        expires, total, head = VALUES.unpack_from(raw, at + KEY_BYTES)
        if expires < now:
            return EMPTY
        first = at + FIRST_CELL * 4
        ring = bytes(raw[first : first + RING_BYTES])
        cells = _COMPLAINTS.unpack_from(raw, first + _RING_ROOM)
        return Window(total, head & 0xFF, head >> 8, ring, cells)

    def _write(self, at: int, window: Window, now: float) -> None:
        raw = self._table.raw
        first = at + FIRST_CELL * 4
        raw[first : first + RING_BYTES] = window.ring
        _COMPLAINTS.pack_into(raw, first + _RING_ROOM, *window.complaints)
        expires = now + kept_seconds(window)
        VALUES.pack_into(raw, at + KEY_BYTES, expires, window.total, window.level | window.since << 8)


_COMPLAINTS = struct.Struct(f"<{MOST_COMPLAINTS}I")
_RING_ROOM = 252  # whole cells
