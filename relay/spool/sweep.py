"""A search through the queue files of a process for the messages of certain people, by slices (GDPR-8).

Theory of operation. Rows are only ever appended, and a message's own row, which names its sender and recipients, stays until the
message has left the file. So a place in each file tells what has been looked at, for good: a search that is broken off goes on
where it was, and who asks again later pays for new rows and adopted files alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable

from relay.spool.adopt import is_damage
from relay.spool.box import Box
from relay.spool.cipher import CorruptRow
from relay.spool.segment import MESSAGE, Row, Segment
from relay.spool.shelf import Shelf

SLICE_ROWS = 500
_WHOLE = 1 << 62
Named = Callable[[int, int, str], Collection[int]]
"""Which people a tenant's message, by its id, would reach or name by an address: numbers of the caller's."""


class Sweep:
    """One search. `met`: by segment and message whom it names; the caller takes out what he is done with."""

    def __init__(self, shelf: Shelf, box: Box, tenants: Iterable[int], last_id: int, named: Named) -> None:
        """Messages of `tenants` with ids up to `last_id` are opened; the others' rows are passed over unread."""
        self._shelf, self._box, self._named = shelf, box, named
        self._tenants, self._last_id = frozenset(tenants), last_id
        self._places: dict[int, int] = {}  # segment -> last row that was looked at
        self.met: dict[int, dict[int, set[int]]] = {}

    async def advance(self, is_late: Callable[[], bool]) -> bool:
        """Look at what was not looked at yet until `is_late`; true when that was all. On the loop, which it does not block.

        Raises sqlite3.Error or OSError; then the next call goes on from there.
        """
        for gone in self._places.keys() - self._shelf.segments.keys():
            del self._places[gone]
        whole = True
        for segment in list(self._shelf.segments.values()):
            while segment.next_seq - 1 > self._places.get(segment.number, 0):
                if segment.number in self._shelf.away:
                    whole = False
                    break
                if is_late():
                    return False
                if await self._slice(segment) < SLICE_ROWS:  # rows after these are not written yet, or were never
                    break
        return whole

    async def _slice(self, segment: Segment) -> int:
        """Look at the next rows of one file; how many there were."""
        try:
            count, last, found = await asyncio.to_thread(self._read, segment, self._places.get(segment.number, 0))
        except sqlite3.Error as error:
            if is_damage(error):
                self._places[segment.number] = _WHOLE  # nobody can send what is in it either
            elif segment.number in self._shelf.segments:
                raise
            return 0
        self._places[segment.number] = last
        for number, people in found.items():
            self.met.setdefault(segment.number, {}).setdefault(number, set()).update(people)
        return count

    def _read(self, segment: Segment, place: int) -> tuple[int, int, dict[int, set[int]]]:
        rows = segment.messages_after(place, SLICE_ROWS, tenants=self._tenants, last_id=self._last_id)
        found: dict[int, set[int]] = {}
        for row in rows:
            if row.kind == MESSAGE and row.data is not None and (people := self._people(row)):
                found[row.id] = people
        return len(rows), rows[-1].seq if rows else place, found

    def _people(self, row: Row) -> set[int]:
        try:
            meta = self._box.meta(row)
        except (CorruptRow, ValueError, KeyError, TypeError):
            return set()  # nobody can read it
        texts = {meta["from"], *(recipient[0] for recipient in meta["rcpt"])}
        return {number for text in texts if text for number in self._named(row.tenant, row.id, text)}
