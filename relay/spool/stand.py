"""Where every live message of this process stands: with its body (hot), as a reference (backlog), held, or in hand. Pure.

Theory of operation. `Fair` decides who is next among the hot messages only, so each line of the backlog must be seen
there: whenever the hot part of a line is short, `Standing.wanted` names references to load for it. A long line may fill
the memory for bodies; a line that has little in memory is let in over that limit, so that a campaign never keeps
somebody else's mail waiting on disk (design.md, fair claims).

Large bodies have a budget of their own, from the moment they are in memory until their attempt is over: a slow next hop
must not fill the memory with what it has not yet taken. A line whose next large body does not fit waits for another to
leave. Lines that wait get room in the order in which they came to wait, and no other line's large body goes before; small
mail of the other lines goes on.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from relay.clock import Clock
from relay.spool.backlog import RANKS, Backlog, Place, reference
from relay.spool.item import Item
from relay.spool.segment import LARGE_BYTES

URGENT_PER_BULK = 8  # rank 0 goes first, but a campaign is never starved
HOT_BYTES = 64 * 1024 * 1024
LINE_BYTES = 1024 * 1024
"""What a line may hold in memory when others have used HOT_BYTES up; together at most HOT_BYTES more, half for rank 1."""
LARGE_BUDGET_BYTES = 64 * 1024 * 1024
"""Of large bodies that wait in memory or are being sent; one alone may be larger."""
REFILL = 64
SHORT = REFILL // 2


class ItemLine(deque[Item]):
    """First in, first out, of messages with their bodies. `key` is its place among the lines of its rank."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key
        self.bytes = 0


class Fair:
    """Who is next: rank 0 first, eight to one; within a rank the tenants in turn. Messages at which a host has ended the session
    are a line of their own beside their tenant's: where one connection at a time is tried, every other is for mail that was not.
    """

    def __init__(self) -> None:
        self.lines: list[OrderedDict[int, ItemLine]] = [OrderedDict() for _ in range(RANKS)]
        self._served = 0
        self.size = 0
        self.bytes = 0

    def push(self, item: Item) -> None:
        lines = self.lines[item.rank]
        key = ~item.tenant if item.state.get("cuts") else item.tenant
        line = lines.get(key)
        if line is None:
            line = lines[key] = ItemLine(key)
        size = len(item.raw or b"")
        line.append(item)
        line.bytes += size
        self.bytes += size
        self.size += 1

    def pop(self) -> Item | None:
        if not self.size:
            return None
        first, second = self.lines
        rank = 0 if first and (not second or self._served % (URGENT_PER_BULK + 1) < URGENT_PER_BULK) else 1
        self._served += 1
        lines = self.lines[rank]
        line = next(iter(lines.values()))
        item = line.popleft()
        self._left(item, line)
        if line and len(lines) > 1:
            lines.move_to_end(line.key)
        return item

    def _left(self, item: Item, line: ItemLine) -> None:
        size = len(item.raw or b"")
        line.bytes -= size
        self.bytes -= size
        self.size -= 1
        if not line:
            del self.lines[item.rank][line.key]

    def remove(self, number: int) -> Item | None:
        """Take the message `number` out of the middle: for people, looks at every hot message."""
        for line in self.all_lines():
            for item in line:
                if item.id == number:
                    line.remove(item)
                    self._left(item, line)
                    return item
        return None

    def held_of(self, rank: int, tenant: int) -> int:
        """Octets of a tenant's bodies."""
        found = (self.lines[rank].get(key) for key in (tenant, ~tenant))
        return sum(line.bytes for line in found if line is not None)

    def all_lines(self) -> Iterator[ItemLine]:
        for lines in self.lines:
            yield from list(lines.values())


class Wanted(NamedTuple):
    """References of one line to load."""

    place: Place
    refs: array[int]


class Standing:
    """Keeps the places. For the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.hot = Fair()
        self.backlog = Backlog()
        self.held: dict[int, int] = {}  # id -> reference
        self.in_flight: dict[int, Item] = {}
        self._blocked = False
        self._large: dict[int, int] = {}  # id -> octets, of large bodies in memory
        self._large_bytes = 0
        self._waiting: dict[Place, None] = {}  # lines whose next large body had no room, longest waiting first
        self._is_tried = False  # the first of them had no room, and none has come free since

    def put(self, item: Item) -> bool:
        """A durable message that may be taken from now on, or when it is due; True: it may leave now."""
        now = self._clock.now()
        if item.held:
            self.held[item.id] = reference(item.segment.number, item.seq)
            return False
        if item.due > now:
            self._shelve(item, now)
            return False
        if item.raw is not None and self._has_room(item) and not self.backlog.has_ready(item.rank, item.tenant):
            self._weigh(item)
            self.hot.push(item)
        else:
            self._shelve(item, now)
        return True

    def freeze(self, item: Item) -> None:
        """A durable message that may not be taken until a person releases its sender (THROTTLE-9)."""
        item.forget_body()
        holder = (item.rank, item.tenant, item.meta["credential"])
        self.backlog.freeze(reference(item.segment.number, item.seq), holder)

    def _shelve(self, item: Item, now: float) -> None:
        item.forget_body()
        ref = reference(item.segment.number, item.seq)
        self.backlog.push(ref, item.rank, item.tenant, due=item.due, now=now)

    def _has_room(self, item: Item) -> bool:
        size = len(item.raw or b"")
        if size > LARGE_BYTES:
            room = self.room_for((item.rank, item.tenant), self.first_waiting, self._large_bytes)
            if room is not None and size > room:
                return False
        if self.hot.bytes + size <= HOT_BYTES:
            return True
        return self._admits(item.rank, item.tenant) and self.hot.bytes + size <= 2 * HOT_BYTES

    def _admits(self, rank: int, tenant: int) -> bool:
        """More of this tenant's may come into memory."""
        if self.hot.bytes < HOT_BYTES:
            return True
        most = 2 * HOT_BYTES if rank == 0 else HOT_BYTES + HOT_BYTES // 2
        return self.hot.bytes < most and self.hot.held_of(rank, tenant) < LINE_BYTES

    def take(self) -> Item | None:
        item = self.hot.pop()
        if item is not None:
            self.in_flight[item.id] = item
        return item

    def enter(self, item: Item) -> None:
        """`item` is in hand from now on, without having been taken."""
        self._weigh(item)
        self.in_flight[item.id] = item

    def leave(self, number: int) -> bool:
        """The attempt is over, or there was none; True: room came free that a line waits for."""
        self.in_flight.pop(number, None)
        size = self._large.pop(number, 0) if self._large else 0
        self._large_bytes -= size
        if not size or not self._waiting:
            return False
        self._is_tried = False
        return True

    def _weigh(self, item: Item) -> None:
        size = len(item.raw or b"")
        if size > LARGE_BYTES and item.id not in self._large:
            self._large[item.id] = size
            self._large_bytes += size

    @property
    def large_bytes(self) -> int:
        """Octets of large bodies in memory: what waits and what is being sent."""
        return self._large_bytes

    @property
    def first_waiting(self) -> Place | None:
        """The line that gets the next room for a large body."""
        return next(iter(self._waiting), None)

    @staticmethod
    def room_for(place: Place, first: Place | None, large_bytes: int) -> int | None:
        """The largest body that may come into memory for a line, beside `large_bytes` of others; None: any. In any thread."""
        if first is not None and place != first:
            return 0
        return LARGE_BUDGET_BYTES - large_bytes if large_bytes else None

    def tried(self, wanted: list[Wanted], stuck: list[Place], first: Place | None) -> None:
        """What `wanted` named was loaded, but for large bodies of the lines `stuck`; `first` was to get room before others."""
        for line in wanted:
            if line.place not in stuck:
                self._waiting.pop(line.place, None)
        self._waiting.update(dict.fromkeys(stuck))  # who waited already keeps the place
        now_first = self.first_waiting
        # Without a large body in memory nobody would come to say that there is room.
        self._is_tried = now_first in stuck and first in (None, now_first) and bool(self._large)

    def runs_short(self, item: Item | None) -> bool:
        """`wanted` should be asked, after `item` was taken."""
        if not self.backlog.ready:
            return False
        if item is None or (self._blocked and self.hot.bytes < HOT_BYTES):
            return True
        line = self.hot.lines[item.rank].get(item.tenant)
        return (line is None or len(line) < SHORT) and self.backlog.has_ready(item.rank, item.tenant)

    def wanted(self) -> list[Wanted]:
        """At most about REFILL references to load now, a few for each line that is short in memory; rank 0 first."""
        found: list[Wanted] = []
        total = 0
        self._blocked = False
        for place in [place for place in self._waiting if not self.backlog.has_ready(*place)]:
            del self._waiting[place]  # somebody took it out
        first = None if self._is_tried else self.first_waiting
        for rank, lines in enumerate(self.backlog.lines):
            short = []
            for tenant in lines:
                if (rank, tenant) in self._waiting and (rank, tenant) != first:
                    continue
                line = self.hot.lines[rank].get(tenant)
                if line is not None and len(line) >= SHORT:
                    continue
                if self._admits(rank, tenant):
                    short.append(tenant)
                else:
                    self._blocked = True
            room = (REFILL if rank else REFILL * URGENT_PER_BULK // (URGENT_PER_BULK + 1)) - total
            share = max(1, room // max(1, len(short)))
            for tenant in short[:room]:
                refs = self.backlog.take(rank, tenant, share)
                total += len(refs)
                found.append(Wanted((rank, tenant), refs))
        return found

    def loaded(self, items: list[Item]) -> None:
        for item in items:
            self._weigh(item)
            self.hot.push(item)
