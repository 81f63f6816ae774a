"""Delivery mode `capture`: nothing leaves; what would have left is kept for /outbox, signed and complete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Delivered, Outcome
from relay.delivery.scheduler import Attempt

EVERYTHING = Features(pipelining=True, eightbitmime=True, smtputf8=True, dsn=True, size=0, chunking=True, tls=True)


class Capture:
    """Takes the place of the pool. `keep` stores one copy; it runs in a thread and may raise OSError or sqlite3.Error."""

    def __init__(self, take: Callable[[], Attempt | None], keep: Callable[[Attempt, Rendered], None]) -> None:
        self._take = take
        self._keep = keep
        self._work = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self._work.set()

    async def _run(self) -> None:
        while True:
            self._work.clear()
            while (attempt := self._take()) is not None:
                attempt.done(await self._one(attempt))
            await self._work.wait()

    async def _one(self, attempt: Attempt) -> list[Outcome]:
        rendered = attempt.render(EVERYTHING)
        if isinstance(rendered, Rendered):
            await asyncio.to_thread(self._keep, attempt, rendered)
            return [Delivered("2.0.0", "captured", "outbox", dsn=True) for _ in attempt.recipients]
        return [rendered for _ in attempt.recipients]

    async def drain(self, timeout: float) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def close(self) -> None:
        self._task.cancel()
