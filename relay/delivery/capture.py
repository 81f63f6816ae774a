"""Delivery mode `capture`: nothing leaves; what would have left is kept for /outbox, signed and complete."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Deferred, Delivered, Outcome, Scope
from relay.delivery.scheduler import Attempt

EVERYTHING = Features(pipelining=True, eightbitmime=True, smtputf8=True, dsn=True, size=0, chunking=True, tls=True)


class Capture:
    """Takes the place of the pool. `keep` stores one copy; it runs in a thread and may raise OSError or sqlite3.Error."""

    def __init__(
        self,
        take: Callable[[], Attempt | None],
        keep: Callable[[Attempt, Rendered], None],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._take = take
        self._keep = keep
        self._crashed = crashed
        self._work = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self._work.set()

    async def _run(self) -> None:
        while True:
            self._work.clear()
            while (attempt := self._next()) is not None:
                attempt.done(await self._one(attempt))
            await self._work.wait()

    def _next(self) -> Attempt | None:
        try:
            return self._take()
        except Exception as bug:  # of the scheduler: what comes after it must not wait for a restart
            self._crashed(bug)
            return None

    async def _one(self, attempt: Attempt) -> list[Outcome]:
        rendered = attempt.render(EVERYTHING)
        if isinstance(rendered, Rendered):
            try:
                await asyncio.to_thread(self._keep, attempt, rendered)
            except (OSError, sqlite3.Error):
                full = Deferred("4.3.1", "the outbox cannot be written", "outbox", 0, Scope.HOST)
                return [full for _ in attempt.recipients]
            return [Delivered("2.0.0", "captured", "outbox", dsn=True) for _ in attempt.recipients]
        return [rendered for _ in attempt.recipients]

    async def drain(self, timeout: float) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def close(self) -> None:
        self._task.cancel()
