"""Reports of mail that is taken already, which could not be made durable with it: tried until they are (PIPE-1).

A report rides in the transaction of its mail, but for a mail whose large body has a file of its own. Where that mail is durable
and the report finds no room, a 451 would have the mail sent again each time; so the answer is 250, and the report is owed.
Whoever kills the process in that time finds in the trace who was dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from relay.observe import events
from relay.observe.log import log
from relay.spool.contract import SpoolUnavailable
from relay.spool.item import Item

WAITS_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between the tries; the last one repeats."""


class Writing(Protocol):
    """What is asked of a queue here."""

    def commit(self, item: Item) -> asyncio.Future[None]: ...


class Owed:
    """What one process owes."""

    def __init__(self, queue: Writing) -> None:
        self.queue = queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()

    def put(self, reports: Sequence[Item]) -> list[asyncio.Future[None]]:
        """A future for each report, done when it is durable or was tried once; it is tried on until it is durable.

        Each has one task that writes it, whatever becomes of who waits here: none is written twice.
        """
        tried: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in reports]
        for report, first in zip(reports, tried, strict=True):
            task = asyncio.get_running_loop().create_task(self._write(report, first))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return tried

    async def drain(self, seconds: float) -> None:
        """Try once more at once what is owed, and wait `seconds` for it: who leaves takes no debt along."""
        self._leaving.set()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)

    async def _write(self, report: Item, first: asyncio.Future[None]) -> None:
        tries = 0
        while True:
            is_last = self._leaving.is_set()
            try:
                await self.queue.commit(report)
                return
            except SpoolUnavailable:
                if is_last or not tries:
                    log.error(events.QUEUE_FAILED, queue_id=report.queue_id)
                if is_last:
                    return
            finally:
                if not first.done():
                    first.set_result(None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), WAITS_SECONDS[min(tries, len(WAITS_SECONDS) - 1)])
            tries += 1
