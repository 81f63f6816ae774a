"""One thread that writes for everybody: whatever waits when the disk is free goes into one transaction.

While one transaction is being synced the next one gathers, so the batch grows with the load and nobody waits for a
timer (design.md: batch across sessions).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from relay.observe import events, metrics
from relay.observe.log import log

Op = TypeVar("Op")

MAX_BATCH = 256
LINGER_SECONDS = 0.005  # of outcomes: a crash within it may send a message twice, so it is short (OUT-10)


class Writer(Generic[Op]):
    """Runs `write(batch)` in its own thread. `submit` is for the event loop's thread only.

    `write` answers one exception or None for each op of the batch; `done(op, error)` then runs on the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        write: Callable[[Sequence[Op]], Sequence[BaseException | None]],
        done: Callable[[Op, BaseException | None], None],
        *,
        name: str,
    ) -> None:
        self._loop = loop
        self._write = write
        self._done = done
        self._waiting: list[Op] = []
        self._busy = False
        self._is_urgent = False
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake: SimpleQueue[list[Op] | None] = SimpleQueue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, op: Op, *, can_wait: bool = False) -> None:
        """Take `op` into the next transaction. One that `can_wait` rides along with others for LINGER_SECONDS at most."""
        self._waiting.append(op)
        self._is_urgent = self._is_urgent or not can_wait
        if self._busy:
            return
        self._idle.clear()
        if can_wait and not self._draining:
            if self._timer is None:
                self._timer = self._loop.call_later(LINGER_SECONDS, self._hand_over)
            return
        self._busy = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # One turn of the loop later, so that what arrives in the same turn shares the sync.
        self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        self._busy = True
        self._is_urgent = False
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        self._wake.put(batch)

    def _run(self) -> None:
        while (batch := self._wake.get()) is not None:
            try:
                errors: Sequence[BaseException | None] = self._write(batch)
            except BaseException as error:  # a bug: nobody knows what is durable, so nothing may be promised
                errors = [error] * len(batch)
            try:
                self._loop.call_soon_threadsafe(self._finish, batch, errors)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            batch, errors = [], ()  # or the last messages would lie in memory for as long as nothing comes after them

    def _finish(self, batch: Sequence[Op], errors: Sequence[BaseException | None]) -> None:
        if self._waiting and (self._is_urgent or self._draining or len(self._waiting) >= MAX_BATCH):
            self._hand_over()
        else:
            self._busy = False
            if not self._waiting:
                self._idle.set()
            elif self._timer is None:
                self._timer = self._loop.call_later(LINGER_SECONDS, self._hand_over)
        metrics.SPOOL_COMMITS.inc()
        metrics.SPOOL_BATCH.observe(len(batch))
        for op, error in zip(batch, errors, strict=True):
            try:
                self._done(op, error)
            except Exception as bug:  # one op's bug must not keep the answers of the others from them
                metrics.CRASHES.inc(("worker",))
                log.error(events.WORKER_CRASHED, kind=type(bug).__name__, place="spool")

    @property
    def busy(self) -> bool:
        """Something waits or is being written."""
        return self._busy or bool(self._waiting)

    async def drain(self) -> None:
        """Returns when nothing waits. From now on nothing lingers."""
        self._draining = True
        if self._timer is not None:
            self._timer.cancel()
            self._hand_over()
        while self.busy:
            await self._idle.wait()

    def stop(self) -> None:
        """End the thread after what it has in hand. Call `drain` first."""
        self._wake.put(None)
        self._thread.join()
