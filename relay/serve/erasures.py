"""Erasures, followed through: copies in the queue, delivery log, captured mail, thread memory (GDPR-8).

Theory of operation. The owner's commit leaves a row for each erasure. First it goes onto the list that lies outside every
backup. Then each worker drops what it has queued, and the files forget, again and again until twice in a row nothing of this
person was found and nothing was under way: what was being delivered or written down at that moment is met the second time.
Only then the row ends. Every step may be done again, so whatever dies in between, the next start goes on. Mail that is handed
in later is nobody's business here: it goes its way and is written down, else who goes on sending would keep it from ending.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from relay.clock import Clock, SystemClock
from relay.consent.erased import GRACE_SECONDS, Erased, write_down
from relay.keyring import Keyring
from relay.observe import events, metrics, privacy_metrics
from relay.observe.log import log
from relay.owner.forgetting import forget_files
from relay.serve.channel import OpRefused, OpUnavailable
from relay.settings.model import Settings
from relay.smtp.desk import place_of
from relay.store.generation import CONSENT, Generation

LOOK_SECONDS = 1.0
SETTLE_SECONDS = GRACE_SECONDS
"""Mail that was handed in before somebody was erased is in the queue by then."""
CLEAN_LOOKS = 2
Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Erasures:
    """Call `watch` once. `op` runs an operation of the owner, `ask` asks all workers, of which there are `workers`."""

    def __init__(
        self,
        settings: Settings,
        op: Call,
        ask: Call,
        keyring: Callable[[], Keyring],
        *,
        workers: int,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._op, self._ask, self._keyring, self._workers = op, ask, keyring, workers
        self._clock = clock or SystemClock()
        self._generation = Generation.open(settings.server.data_dir)
        self._seen = -1
        self._listed: set[int] = set()
        self._clean: dict[int, int] = {}  # erasure -> looks in a row that found nothing of that person

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look until the gateway stops."""
        while not stopping.is_set():
            try:
                await self.look()
            except (OpRefused, OpUnavailable, sqlite3.Error, OSError) as error:
                self._clean.clear()  # a worker, a disk or the database is not to be had: all of it again
                log.warning(events.ERASURE_DELAYED, kind=type(error).__name__)
            except Exception as error:  # who looks must go on looking, or a person stays named
                self._clean.clear()
                metrics.CRASHES.inc(("supervisor",))
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once; nothing where nothing has changed in the store."""
        seen = self._generation.read(CONSENT)
        if seen == self._seen:
            return
        due = await self._op("erasure.due", {})
        now = self._clock.now()
        privacy_metrics.ERASING.set(max((now - row["at"] for row in due), default=0.0))
        if not due:
            self._seen, self._clean, self._listed = seen, {}, set()
            return
        data_dir, people = self.settings.server.data_dir, {row["id"]: Erased.load(row) for row in due}
        fresh = [number for number in people if number not in self._listed]
        await asyncio.to_thread(write_down, data_dir, [people[number] for number in fresh])
        self._listed.update(fresh)
        asked = {"people": [{"id": number, **one._asdict()} for number, one in people.items()]}
        left = await self._ask("queue.forget", asked)
        if left.get("workers", 0) < self._workers:  # they are not all up yet
            self._clean.clear()
            left = {}
        # Who waits for a message that is under way is looked for in the files once, and again when it is over.
        looked = [number for number in people if number in fresh or left.get(str(number), 1) == 0]
        named = await self._forget([people[number] for number in looked], last=False)
        clean = {n for n, found in zip(looked, named, strict=True) if not found and left.get(str(n), 1) == 0}
        self._clean = {n: self._clean.get(n, 0) + 1 for n in clean if now - people[n].at >= SETTLE_SECONDS}
        await self._conclude({number: people[number] for number, looks in self._clean.items() if looks >= CLEAN_LOOKS})

    async def _forget(self, people: list[Erased], *, last: bool) -> list[int]:
        return await asyncio.to_thread(forget_files, self.settings.server.data_dir, self._keyring(), people, last=last)

    async def _conclude(self, people: dict[int, Erased]) -> None:
        await self._forget(list(people.values()), last=True)
        for number in people:
            await self._op("erasure.done", {"id": number})
            log.info(events.ERASURE_FINISHED)
