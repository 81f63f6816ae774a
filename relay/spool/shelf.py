"""The segments of this process: made, retired, purged, rested.

Theory of operation. Content leaves the disk within RETENTION_SECONDS of its message's final outcome (GDPR-3). The usual
segment is deleted whole, when all of it is final. One that stragglers keep alive is purged in place PURGE_SECONDS after
the first final outcome in it; the current one is given up for a new one first, after at most ROLL_SECONDS. Messages never
move between files, so no crash can duplicate one. A segment of a few stragglers is small and its connections are closed:
all that it costs is a descriptor for its lock.

Everything here is for the event loop's thread but `create`, which is for the writer's.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from relay.clock import Clock
from relay.observe import events
from relay.observe.log import log
from relay.spool.adopt import is_damage
from relay.spool.backlog import RANKS
from relay.spool.item import IdSource, encode_id
from relay.spool.segment import PagesInUse, Segment

ROLL_SECONDS = 240.0
IDLE_ROLL_SECONDS = 10.0
PURGE_SECONDS = 120.0
RETENTION_SECONDS = 600.0
REWRITE_SHARE = 0.5
"""A file with a smaller share of live messages is written anew; else what goes is overwritten where it stands."""
MOST_OPEN = 32
AGAIN_SECONDS = 30.0
OLDEST_LOOKS = 4


class Shelf:
    """`resume` is called with a segment that may be appended to again after a purge."""

    def __init__(self, folder: Path, node: int, clock: Clock, *, resume: Callable[[Segment], None]) -> None:
        self.folder = folder
        self.segments: dict[int, Segment] = {}
        self.away: set[int] = set()  # numbers of segments in the hands of a thread: no appends
        self.damaged = 0
        self._names = IdSource(node)
        self._numbers = itertools.count(1)
        self._clock = clock
        self._resume = resume
        self._stale: dict[int, float] = {}  # number -> since when it holds final messages
        self._hastened: set[int] = set()  # of these, numbers of segments that somebody waits for
        self._undeleted: dict[int, float] = {}  # number -> when to try again
        self._tasks: set[asyncio.Task[None]] = set()
        self.current: Segment | None = None  # where new messages go; None: no file could be made since the start

    def create(self) -> Segment:
        """A new segment, known but not yet current. Raises sqlite3.Error or OSError; then nothing is left of it."""
        segment = self._make() or self._make() or self._make()
        if segment is None:
            raise BlockingIOError("other processes take every new queue file for the remains of an old one")
        segment.made_at = self._clock.monotonic()
        self.segments[segment.number] = segment
        return segment

    def _make(self) -> Segment | None:
        """None where another process, tidying up, had the new name in hand at this very moment."""
        name = encode_id(self._names.next(self._clock.now()))
        try:
            return Segment.create(self.folder / f"{name}.queue", self.number())
        except BlockingIOError:
            return None

    def number(self) -> int:
        """A number for a segment; no two in the life of this process."""
        return next(self._numbers)

    def add(self, segment: Segment) -> None:
        """An adopted segment; its final messages are purged at once."""
        self.segments[segment.number] = segment
        if segment.total > segment.live:
            self._stale[segment.number] = float("-inf")

    # -- what has become final ------------------------------------------------------------------------------------

    def finished(self, segment: Segment) -> None:
        """One more message of `segment` is final."""
        segment.finished += 1
        self._stale.setdefault(segment.number, self._clock.monotonic())
        self.retire(segment)

    def retire(self, segment: Segment) -> None:
        """Delete a segment without a live message."""
        if segment.live or segment is self.current or segment.number in self.away:
            return
        if segment.number in self.segments and self._clock.monotonic() >= self._undeleted.get(segment.number, 0.0):
            del self.segments[segment.number]
            self._undeleted.pop(segment.number, None)
            self._stale.pop(segment.number, None)
            self._hastened.discard(segment.number)
            self._later(self._delete(segment))

    async def _delete(self, segment: Segment) -> None:
        if not await self._thread(segment, segment.delete):
            self.segments[segment.number] = segment
            self._undeleted[segment.number] = self._clock.monotonic() + AGAIN_SECONDS

    def wants_roll(self) -> bool:
        """The current segment is to be given up, since final messages lie in it."""
        current = self.current
        if current is None:
            return False  # a probe makes one
        age = self._clock.monotonic() - current.made_at
        if current.number in self._hastened:
            return True
        if current.bytes and current.live == 0:
            return age >= IDLE_ROLL_SECONDS
        return age >= ROLL_SECONDS and current.number in self._stale

    def hasten(self, numbers: Iterable[int]) -> None:
        """What is final in these segments leaves the disk with the next ticks, not in its time: somebody was erased (GDPR-8)."""
        self._hastened |= self.segments.keys() & set(numbers)

    def tick(self) -> None:
        """Retire, purge and rest what is to be."""
        for segment in list(self.segments.values()):
            self.retire(segment)
        now = self._clock.monotonic()
        if not self.away:  # one at a time
            for number, since in list(self._stale.items()):
                stale = self.segments.get(number)
                due = now - since >= PURGE_SECONDS or number in self._hastened
                if due and stale is not None and stale is not self.current and not stale.pending:
                    self._begin_purge(stale)
                    break
        self._rest()

    def _begin_purge(self, segment: Segment) -> None:
        self.away.add(segment.number)
        del self._stale[segment.number]
        self._later(self._purge(segment))

    async def _purge(self, segment: Segment) -> None:
        rewrite = segment.live < REWRITE_SHARE * segment.total
        segment.purged = segment.finished
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, lambda: segment.purge(rewrite=rewrite))
            await loop.run_in_executor(None, segment.rest)
            self._hastened.discard(segment.number)
        except PagesInUse:
            self._stale[segment.number] = self._clock.monotonic() - PURGE_SECONDS + AGAIN_SECONDS
        except (sqlite3.Error, OSError) as error:
            self.complain(segment, error)
            if is_damage(error):
                self._hastened.discard(segment.number)
            else:
                self._stale[segment.number] = self._clock.monotonic() - PURGE_SECONDS + AGAIN_SECONDS
        finally:
            self.away.discard(segment.number)
            self._resume(segment)
            self.retire(segment)

    def complain(self, segment: Segment, error: BaseException) -> None:
        """Say that a segment cannot be worked with; count it when it is damaged."""
        if is_damage(error) and not segment.damaged:
            segment.damaged = True
            self.damaged += 1
        log.error(events.QUEUE_FILE_FAILED, file=segment.path.name, error=str(error)[:200], damaged=segment.damaged)

    def _rest(self) -> None:
        is_open = [s for s in self.segments.values() if s.is_open and s is not self.current]
        if len(is_open) > MOST_OPEN:
            is_open.sort(key=lambda segment: segment.used)
            for segment in is_open[: len(is_open) - MOST_OPEN]:
                if not segment.pending and segment.number not in self.away:
                    self.away.add(segment.number)
                    self._later(self._close(segment))

    async def _close(self, segment: Segment) -> None:
        await self._thread(segment, segment.rest)
        self.away.discard(segment.number)
        self._resume(segment)
        self.retire(segment)

    async def oldest(self) -> list[int]:
        """By rank the id of the oldest message that is neither final nor held; 0: none, or none was found in a few looks."""
        looked: set[Segment] = set()
        return [await self._oldest(rank, looked) for rank in range(RANKS)]

    async def _oldest(self, rank: int, looked: set[Segment]) -> int:
        for _ in range(OLDEST_LOOKS + 1):
            live = [segment for segment in self.segments.values() if segment.live and rank in segment.oldest_ids]
            if not live:
                return 0
            segment = min(live, key=lambda segment: segment.oldest_ids[rank])
            if segment in looked:
                return segment.oldest_ids[rank]
            looked.add(segment)
            await self._look(segment)
        return 0

    async def _look(self, segment: Segment) -> None:
        """Set the bounds of a segment to what waits in it. What is written meanwhile lowers them by itself."""
        segment.oldest_ids = {}
        try:
            found: dict[int, int] = await asyncio.get_running_loop().run_in_executor(None, segment.oldest)
        except sqlite3.Error:
            return  # it is damaged or away: what waits in it is not seen here until it moves
        for rank, number in found.items():
            segment.oldest_ids[rank] = min(segment.oldest_ids.get(rank, number), number)

    async def _thread(self, segment: Segment, work: Callable[[], Any]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(None, work)
        except (sqlite3.Error, OSError) as error:
            self.complain(segment, error)
            return False
        return True

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Returns when nothing is being purged, rested or deleted."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def close(self) -> None:
        """Give everything up: what is live for others to adopt, the rest deleted. In a thread; may take a while."""
        for segment in self.segments.values():
            try:
                if segment.live:
                    segment.close()
                else:
                    segment.delete()
            except (sqlite3.Error, OSError) as error:
                self.complain(segment, error)
