"""Reports of mail that is taken already, which could not be made durable with it: tried until they are (PIPE-1).

A report rides in the transaction of its mail, but for a mail whose large body has a file of its own. Where that mail is durable
and the report finds no room, a 451 would have the mail sent again each time; so the answer is 250, and the report is owed.
Whoever kills the process in that time finds in the trace who was dropped.
"""

from __future__ import annotations

import asyncio
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

    def put(self, reports: Sequence[Item]) -> None:
        for report in reports:
            log.error(events.QUEUE_FAILED, queue_id=report.queue_id)
            task = asyncio.get_running_loop().create_task(self._write(report))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write(self, report: Item) -> None:
        tries = 0
        while True:
            await asyncio.sleep(WAITS_SECONDS[min(tries, len(WAITS_SECONDS) - 1)])
            tries += 1
            try:
                await self.queue.commit(report)
            except SpoolUnavailable:
                continue
            return
