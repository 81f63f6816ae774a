"""Messages in the hands of a person: found by number or listed, taken out of where they wait, put back.

What a person changes is loaded only after it has been taken out, so that no attempt can overtake him: else a stale
state would send a message again to those who have it.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from relay.spool.backlog import Place, reference, split_reference
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item

Lot: TypeAlias = "tuple[Place | None, list[array[int]]]"  # quoted: array takes no subscript before Python 3.12


class Busy(Exception):
    """An attempt has the message, or it is on its way into memory."""


class Unreadable(Exception):
    """The message is here and its row cannot be read."""


class Hand:
    """Over the queue of one process; for the event loop's thread."""

    def __init__(self, queue: QueueFiles) -> None:
        self._queue = queue

    async def look(self, number: int, *, body: bool = False) -> Item | None:
        """The message as it is on disk, its large body only with `body`; None: not here.

        Raises Unreadable, sqlite3.Error, OSError.
        """
        ref = await self._find(number)
        if ref is None:
            return None
        item = await asyncio.to_thread(self._queue.loader.open, ref, body=body)
        if item is None:
            raise Unreadable
        return item

    async def _find(self, number: int) -> int | None:
        known = self._queue.held.get(number) or self._queue.loader.unreadable.get(number)
        return known or await asyncio.to_thread(self._search, number)

    def _search(self, number: int) -> int | None:
        """The reference of a live message. Reads files whole: in a thread."""
        for segment in list(self._queue.shelf.segments.values()):
            try:
                seq = segment.newest(number)
            except sqlite3.Error:
                continue
            if seq is not None:
                return reference(segment.number, seq)
        return None

    async def pick(self, number: int, ref: int | None = None) -> Item | None:
        """Take a waiting message out; nobody else gets it until `record` or `release`. None: not here.

        `ref`: of its newest row, where that is known already; Busy where it has a newer one since.

        Raises Busy, Unreadable, sqlite3.Error or OSError; then it stands where it stood.
        """
        queue = self._queue
        if number in queue.in_flight:
            raise Busy
        hot = queue.hot.remove(number)
        if hot is not None:
            queue.standing.enter(hot)
            return hot
        ref = ref or await self._find(number)
        if ref is None:
            return None
        if number in queue.loader.unreadable:
            raise Unreadable
        held = queue.held.pop(number, None)
        found = None if held else queue.backlog.discard(ref)
        if held is None and found is None:
            raise Busy
        try:
            item = await asyncio.to_thread(queue.loader.open, held or ref)
        except (sqlite3.Error, OSError):
            if found is None:
                queue.held[number] = held or ref
            else:
                queue.backlog.push(ref, *found[0], due=found[1], now=queue.clock.now())
            raise
        if item is None:
            raise Unreadable
        queue.standing.enter(item)
        return item

    async def bury(self, number: int) -> None:
        """End an unreadable message: its rows leave the disk as those of a final one. Raises SpoolUnavailable."""
        queue = self._queue
        ref = queue.loader.unreadable[number]
        segment = queue.shelf.segments[split_reference(ref)[0]]
        item = Item(number, {"tenant_id": 0, "stream": "marketing", "rcpt": [[]]}, None, due=0.0)
        item.segment, item.fates = segment, [Fate.FAILED]
        await queue.record(item)
        queue.loader.unreadable.pop(number, None)

    def places(self, *, held: bool) -> list[Lot]:
        """References of what waits, by line where that is known: held, in hand and in memory first. Copies; on the loop."""
        queue = self._queue
        lots: list[Lot] = [(None, [array("Q", queue.held.values())])]
        if held:
            return lots
        near = [*queue.in_flight.values(), *itertools.chain.from_iterable(queue.hot.all_lines())]
        lots.append((None, [_references(near)]))
        return lots + queue.backlog.references()

    def in_line(self) -> array[int]:
        """References of what could leave now if somebody asked: not parked, held, frozen or in hand. Copies; on the loop."""
        return _references(itertools.chain.from_iterable(self._queue.hot.all_lines())) + self._queue.backlog.in_line()

    def opened(self, lots: list[Lot], tenant: str) -> Iterator[Item]:
        """The messages behind `places`, without large bodies, of one tenant if `tenant` is given. In a thread."""
        for place, arrays in lots:
            for ref in itertools.chain.from_iterable(arrays):
                try:
                    item = self._queue.loader.open(ref, body=False)
                except (sqlite3.Error, OSError):
                    continue
                if item is None:
                    continue
                if not tenant or item.meta["tenant"] == tenant:
                    yield item
                elif place is not None:
                    break  # a line is of one tenant


def _references(items: Iterable[Item]) -> array[int]:
    return array("Q", [reference(item.segment.number, item.seq) for item in items if item.segment is not None])
