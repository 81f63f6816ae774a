"""What waits, in memory: 8 bytes a message, in the order in which it may leave. Pure.

A reference is a 64-bit number: segment number (20 bits) and row (44 bits). Messages that may leave now stand in one
first-in-first-out line per (rank, tenant); messages of a later time stand in buckets by second, so parked mail is
looked at once, when its time comes, and never scanned (THROTTLE-1).
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

SEQ_BITS = 44
RANKS = 2
URGENT_PER_BULK = 8  # rank 0 goes first, but a campaign is never starved


def reference(segment: int, seq: int) -> int:
    return segment << SEQ_BITS | seq


def split_reference(ref: int) -> tuple[int, int]:
    return ref >> SEQ_BITS, ref & (1 << SEQ_BITS) - 1


class Line:
    """First in, first out, of references."""

    __slots__ = ("_head", "_refs")

    def __init__(self) -> None:
        self._refs = array("Q")
        self._head = 0

    def __len__(self) -> int:
        return len(self._refs) - self._head

    def __iter__(self) -> Iterator[int]:
        return iter(self._refs[self._head :])

    def push(self, ref: int) -> None:
        self._refs.append(ref)

    def pop(self) -> int:
        """The oldest. Raises IndexError when empty."""
        ref = self._refs[self._head]
        self._head += 1
        if self._head > 4096 and self._head * 2 > len(self._refs):
            del self._refs[: self._head]
            self._head = 0
        return ref

    def discard(self, ref: int) -> bool:
        """Take one out of the middle: for people, costs the length of the line."""
        try:
            index = self._refs.index(ref, self._head)
        except ValueError:
            return False
        del self._refs[index]
        return True


T = TypeVar("T")


class Queueable(Protocol[T]):
    """A line of either references or messages."""

    def push(self, entry: T) -> None: ...

    def pop(self) -> T: ...

    def __len__(self) -> int: ...


class Fair(Generic[T]):
    """Who is next: rank 0 first, eight to one; within a rank the tenants in turn."""

    def __init__(self, make_line: Callable[[], Queueable[T]]) -> None:
        self._make_line = make_line
        self.lines: list[OrderedDict[int, Queueable[T]]] = [OrderedDict() for _ in range(RANKS)]
        self._served = 0
        self.size = 0

    def push(self, entry: T, rank: int, tenant: int) -> None:
        lines = self.lines[rank]
        line = lines.get(tenant)
        if line is None:
            line = lines[tenant] = self._make_line()
        line.push(entry)
        self.size += 1

    def pop(self) -> T | None:
        if not self.size:
            return None
        first, second = self.lines
        rank = 0 if first and (not second or self._served % (URGENT_PER_BULK + 1) < URGENT_PER_BULK) else 1
        self._served += 1
        lines = self.lines[rank]
        tenant, line = next(iter(lines.items()))
        entry = line.pop()
        self.size -= 1
        if not len(line):
            del lines[tenant]
        elif len(lines) > 1:
            lines.move_to_end(tenant)
        return entry


class Backlog:
    """References that may leave now, in `Fair` lines, and those of a later time, in buckets by second."""

    def __init__(self) -> None:
        self.fair: Fair[int] = Fair(Line)
        self._buckets: dict[int, dict[tuple[int, int], array[int]]] = {}
        self._seconds: list[int] = []
        self.later = 0

    @property
    def ready(self) -> int:
        return self.fair.size

    def __len__(self) -> int:
        return self.fair.size + self.later

    def push(self, ref: int, rank: int, tenant: int, *, due: float, now: float) -> None:
        """`ref` may leave at `due`."""
        if due <= now:
            self.fair.push(ref, rank, tenant)
            return
        second = int(due) + 1
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = {}
            heapq.heappush(self._seconds, second)
        refs = bucket.get((rank, tenant))
        if refs is None:
            refs = bucket[rank, tenant] = array("Q")
        refs.append(ref)
        self.later += 1

    def ripen(self, now: float) -> int:
        """Move the buckets whose second has come to the lines; how many messages that were."""
        moved = 0
        while self._seconds and self._seconds[0] <= now:
            for (rank, tenant), refs in self._buckets.pop(heapq.heappop(self._seconds)).items():
                for ref in refs:
                    self.fair.push(ref, rank, tenant)
                moved += len(refs)
        self.later -= moved
        return moved

    def next_second(self) -> int | None:
        """When the next bucket ripens."""
        return self._seconds[0] if self._seconds else None

    def has_ready(self, rank: int, tenant: int) -> bool:
        return tenant in self.fair.lines[rank]

    def references(self) -> Iterator[int]:
        """Every reference: those that may leave first, then by time."""
        for lines in self.fair.lines:
            for line in list(lines.values()):
                if isinstance(line, Line):
                    yield from line
        for second in sorted(self._buckets):
            for refs in list(self._buckets[second].values()):
                yield from refs

    def discard(self, ref: int) -> bool:
        """Take one out wherever it stands: for people, costs the length of what waits."""
        for lines in self.fair.lines:
            for tenant, line in lines.items():
                if isinstance(line, Line) and line.discard(ref):
                    self.fair.size -= 1
                    if not len(line):
                        del lines[tenant]
                    return True
        for bucket in self._buckets.values():
            for refs in bucket.values():
                if ref in refs:
                    refs.remove(ref)
                    self.later -= 1
                    return True
        return False
