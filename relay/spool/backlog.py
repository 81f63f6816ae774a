"""What waits, in memory: 8 bytes a message that may leave, 18 one of a later time, in the order of leaving. Pure.

A reference is a 64-bit number: segment number (24 bits) and row (40 bits) of the newest row of a message. Messages that
may leave now stand in one first-in-first-out line per (rank, tenant); those of the next minutes in buckets by second,
those of a later time in buckets of `FAR_SECONDS`, which are sorted into seconds when they come near. So parked mail is
looked at once, when its time comes, and never scanned (THROTTLE-1).
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator

SEQ_BITS = 40
RANKS = 2
FAR_SECONDS = 64
TIDY = 4096


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

    def copy(self) -> array[int]:
        return self._refs[self._head :]

    def push(self, ref: int) -> None:
        self._refs.append(ref)

    def extend(self, refs: array[int]) -> None:
        self._refs.extend(refs)

    def pop_many(self, number: int) -> array[int]:
        """At most `number` of the oldest."""
        refs = self._refs[self._head : self._head + number]
        self._head += len(refs)
        if self._head > TIDY and self._head * 2 > len(self._refs):
            del self._refs[: self._head]
            self._head = 0
        return refs

    def give_back(self, refs: Iterable[int]) -> None:
        """To the front, in this order; costs the length of the line."""
        self._refs = array("Q", refs) + self._refs[self._head :]
        self._head = 0

    def discard(self, ref: int) -> bool:
        """Take one out of the middle: for people, costs the length of the line."""
        try:
            index = self._refs.index(ref, self._head)
        except ValueError:
            return False
        del self._refs[index]
        return True


Place = tuple[int, int]  # rank and tenant
Holder = tuple[int, int, str]  # rank, tenant and login


class _Stretch:
    """Messages that are due in the same FAR_SECONDS, of all lines together: what they are, and seconds into it."""

    __slots__ = ("offsets", "ranks", "refs", "tenants")

    def __init__(self) -> None:
        self.refs = array("Q")
        self.offsets = array("B")
        self.ranks = array("B")
        self.tenants = array("q")

    def push(self, ref: int, offset: int, rank: int, tenant: int) -> None:
        self.refs.append(ref)
        self.offsets.append(offset)
        self.ranks.append(rank)
        self.tenants.append(tenant)

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(self.refs, self.offsets, self.ranks, self.tenants, strict=True)

    def discard(self, ref: int) -> tuple[Place, int] | None:
        """Its place and offset."""
        try:
            index = self.refs.index(ref)
        except ValueError:
            return None
        place, offset = (self.ranks[index], self.tenants[index]), self.offsets[index]
        for column in (self.refs, self.offsets, self.ranks, self.tenants):
            del column[index]
        return place, offset


class Backlog:
    """References that may leave now, in lines, those of a later time, in buckets, and those that wait for a person, frozen."""

    def __init__(self) -> None:
        self.lines: list[dict[int, Line]] = [{} for _ in range(RANKS)]
        self.ready = 0
        self.later = 0
        self._near: dict[int, dict[Place, array[int]]] = {}
        self._seconds: list[int] = []
        self._far: dict[int, _Stretch] = {}
        self._stretches: list[int] = []
        self._frozen: dict[Holder, array[int]] = {}

    def __len__(self) -> int:
        return self.ready + self.later + self.frozen

    @property
    def frozen(self) -> int:
        """How many are frozen."""
        return sum(map(len, self._frozen.values()))

    def freeze(self, ref: int, holder: Holder) -> None:
        """`ref` may not leave until `thaw`."""
        self._frozen.setdefault(holder, array("Q")).append(ref)

    def thaw(self, is_frozen: Callable[[int, str], bool]) -> int:
        """Move to their lines what `is_frozen(tenant, login)` does not keep any more; how many messages that were."""
        free = [holder for holder in self._frozen if not is_frozen(*holder[1:])]
        moved = 0
        for holder in free:
            refs = self._frozen.pop(holder)
            self._line(holder[0], holder[1]).extend(refs)
            moved += len(refs)
        self.ready += moved
        return moved

    def push(self, ref: int, rank: int, tenant: int, *, due: float, now: float) -> None:
        """`ref` may leave at `due`."""
        if due <= now:
            self._line(rank, tenant).push(ref)
            self.ready += 1
            return
        self.later += 1
        second = int(due) + 1
        if due - now < 2 * FAR_SECONDS:
            self._soon(second, (rank, tenant)).append(ref)
            return
        number, offset = divmod(second, FAR_SECONDS)
        stretch = self._far.get(number)
        if stretch is None:
            stretch = self._far[number] = _Stretch()
            heapq.heappush(self._stretches, number)
        stretch.push(ref, offset, rank, tenant)

    def _line(self, rank: int, tenant: int) -> Line:
        line = self.lines[rank].get(tenant)
        if line is None:
            line = self.lines[rank][tenant] = Line()
        return line

    def _soon(self, second: int, place: Place) -> array[int]:
        bucket = self._near.get(second)
        if bucket is None:
            bucket = self._near[second] = {}
            heapq.heappush(self._seconds, second)
        refs = bucket.get(place)
        if refs is None:
            refs = bucket[place] = array("Q")
        return refs

    def ripen(self, now: float) -> int:
        """Move the buckets whose second has come to the lines; how many messages that were."""
        while self._stretches and self._stretches[0] * FAR_SECONDS <= now + FAR_SECONDS:
            number = heapq.heappop(self._stretches)
            for ref, offset, rank, tenant in self._far.pop(number):
                self._soon(number * FAR_SECONDS + offset, (rank, tenant)).append(ref)
        moved = 0
        while self._seconds and self._seconds[0] <= now:
            for (rank, tenant), refs in self._near.pop(heapq.heappop(self._seconds)).items():
                self._line(rank, tenant).extend(refs)
                moved += len(refs)
        self.later -= moved
        self.ready += moved
        return moved

    def has_ready(self, rank: int, tenant: int) -> bool:
        return tenant in self.lines[rank]

    def take(self, rank: int, tenant: int, number: int) -> array[int]:
        """At most `number` of the oldest of one line, which goes to the end of its rank."""
        line = self.lines[rank].pop(tenant)
        refs = line.pop_many(number)
        if len(line):
            self.lines[rank][tenant] = line
        self.ready -= len(refs)
        return refs

    def give_back(self, refs: array[int], rank: int, tenant: int) -> None:
        """What `take` gave and was not wanted, to the front of its line."""
        self._line(rank, tenant).give_back(refs)
        self.ready += len(refs)

    def in_line(self) -> array[int]:
        """References of what may leave now, of neither what is due later nor what is frozen. Copies."""
        found = array("Q")
        for lines in self.lines:
            for line in lines.values():
                found += line.copy()
        return found

    def references(self) -> list[tuple[Place | None, list[array[int]]]]:
        """Every reference by line: those that may leave first, then by time. For people; copies everything."""
        found: dict[Place | None, list[array[int]]] = {}
        for rank, lines in enumerate(self.lines):
            for tenant, line in lines.items():
                found.setdefault((rank, tenant), []).append(array("Q", line))
        for second in sorted(self._near):
            for place, refs in self._near[second].items():
                found.setdefault(place, []).append(refs[:])
        for stretch in sorted(self._far):
            for ref, _, rank, tenant in self._far[stretch]:
                found.setdefault((rank, tenant), [array("Q")])[-1].append(ref)
        for (rank, tenant, _), refs in self._frozen.items():
            found.setdefault((rank, tenant), []).append(refs[:])
        return list(found.items())

    def discard(self, ref: int) -> tuple[Place, float] | None:
        """Take one out wherever it stands; its place and when it is due. For people: costs the length of what waits."""
        for rank, lines in enumerate(self.lines):
            for tenant, line in lines.items():
                if line.discard(ref):
                    self.ready -= 1
                    if not len(line):
                        del lines[tenant]
                    return (rank, tenant), 0.0
        for second, places in self._near.items():
            for place, refs in places.items():
                if ref in refs:
                    refs.remove(ref)
                    self.later -= 1
                    return place, float(second)
        for number, stretch in self._far.items():
            found = stretch.discard(ref)
            if found is not None:
                self.later -= 1
                return found[0], float(number * FAR_SECONDS + found[1])
        for holder, refs in self._frozen.items():
            if ref in refs:
                refs.remove(ref)
                if not refs:
                    del self._frozen[holder]
                return holder[:2], 0.0
        return None
