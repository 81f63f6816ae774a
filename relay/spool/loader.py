"""Brings waiting messages into memory before their turn, in a thread, so that `take` never waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from relay.clock import Clock
from relay.observe import events
from relay.observe.log import log
from relay.spool.adopt import is_damage
from relay.spool.backlog import Place, split_reference
from relay.spool.box import Box, NoRoom
from relay.spool.cipher import CorruptRow
from relay.spool.item import Item, encode_id
from relay.spool.segment import LARGE_BYTES, Segment
from relay.spool.shelf import Shelf
from relay.spool.stand import Standing, Wanted

LOAD_BYTES = 16 * 1024 * 1024
AGAIN_SECONDS = 60.0

Partly = list[tuple[Wanted, int]]
Unread = list[tuple[Wanted, int, bool]]
"""A line, how many of its references were read, and whether the next one is a large body without room."""


class Loader:
    """One load at a time. For the event loop's thread but `open`. `on_work` is called when messages have come."""

    def __init__(
        self, box: Box, shelf: Shelf, standing: Standing, clock: Clock, *, on_work: Callable[[], None]
    ) -> None:
        self.loading = 0  # references that are neither in the backlog nor in memory
        self.unreadable: dict[int, int] = {}  # id (or -reference where even that is unknown) -> reference
        self._box = box
        self._shelf = shelf
        self._standing = standing
        self._clock = clock
        self._on_work = on_work
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def follow(self, item: Item | None) -> None:
        """`item` was put or taken (None: there was none to take): load what its line needs now."""
        if self._task is None and self._standing.runs_short(item):
            self.refill()

    def refill(self) -> None:
        """Load for every line that is short in memory."""
        if self._task is not None or self._stopped or not self._standing.backlog.ready:
            return
        wanted = self._standing.wanted()
        if wanted:
            self.loading = sum(len(line.refs) for line in wanted)
            self._task = asyncio.get_running_loop().create_task(self._load(wanted))

    async def _load(self, wanted: list[Wanted]) -> None:
        """What a passing error keeps from us is asked for again in a minute."""
        backlog, first = self._standing.backlog, self._standing.first_waiting
        try:
            loop = asyncio.get_running_loop()
            items, again, unread = await loop.run_in_executor(
                None, self._read, wanted, first, self._standing.large_bytes
            )
        except Exception as error:  # out of memory, or a bug: the messages must not be forgotten over it
            log.error(events.WORKER_CRASHED, kind=type(error).__name__, place="spool")
            items, again, unread = [], [(line, ref) for line in wanted for ref in line.refs], []
        self._task = None
        self.loading = 0
        stuck = []
        for line, count, is_large in unread:
            backlog.give_back(line.refs[count:], *line.place)
            if is_large:
                stuck.append(line.place)
        now = self._clock.now()
        for line, ref in again:
            backlog.push(ref, *line.place, due=now + AGAIN_SECONDS, now=now)
        self._standing.loaded(items)
        self._standing.tried(wanted, stuck, first)
        if items:
            self._on_work()
        self.refill()

    def _read(self, wanted: list[Wanted], first: Place | None, large_bytes: int) -> tuple[list[Item], Partly, Unread]:
        """In a thread: the messages, references to try again, and lines of which only so many were read, for their size."""
        items: list[Item] = []
        again: Partly = []
        unread: Unread = []
        size = 0
        for line in wanted:
            for count, ref in enumerate(line.refs):
                if size > LOAD_BYTES:
                    unread.append((line, count, False))
                    break
                try:
                    item = self.open(ref, largest=self._standing.room_for(line.place, first, large_bytes))
                except NoRoom:
                    unread.append((line, count, True))
                    break
                except (sqlite3.Error, OSError):
                    again.append((line, ref))
                    continue
                if item is not None:
                    items.append(item)
                    octets = len(item.raw or b"")
                    size += octets
                    large_bytes += octets if octets > LARGE_BYTES else 0
        return items, again, unread

    def open(self, ref: int, *, body: bool = True, largest: int | None = None) -> Item | None:
        """The message of one reference; None, counted, where it can never be read. In a thread.

        Raises sqlite3.Error or OSError where it may be readable later, NoRoom over `largest` (Box.open).
        """
        number, seq = split_reference(ref)
        segment = self._shelf.segments.get(number)
        if segment is None:
            return None
        try:
            return self._box.open(segment, seq, body=body, largest=largest)
        except (CorruptRow, ValueError, KeyError, TypeError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            self._count_unreadable(segment, ref, error)
            return None

    def _count_unreadable(self, segment: Segment, ref: int, error: Exception) -> None:
        try:
            row = segment.load(split_reference(ref)[1])
            number = row.id if row is not None else -ref
        except sqlite3.Error:
            number = -ref
        if number not in self.unreadable:
            self.unreadable[number] = ref
            shown = encode_id(number) if number > 0 else ""
            log.error(events.QUEUE_ROW_DAMAGED, queue_id=shown, file=segment.path.name, error=str(error)[:200])

    async def idle(self) -> None:
        """Returns when nothing is being loaded."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    async def stop(self) -> None:
        """As `idle`; nothing will be loaded any more."""
        self._stopped = True
        await self.idle()
