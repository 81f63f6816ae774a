"""Tenants that were deleted, followed through: queue, files, counters, and in the end the rows (GDPR-18).

Theory of operation. The owner's commit suspends the tenant for good, which every worker sees within its next tick. Then, as for
erasures, it goes onto the list that lies outside every backup; each worker drops what it has queued of it; the files forget it,
again and again until nothing was found twice in a row and nothing was under way. Only then do its limits go, since its logins say
which those are, and then its rows, a batch to a commit. Every step may be done again, so whatever dies in between, the next start
goes on. The same runs in the command line while no gateway does.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from relay.clock import Clock, SystemClock
from relay.consent.erased import Deleted, Erased, write_down
from relay.counters.contract import CountersUnavailable, NodeCounters
from relay.counters.many_nodes import open_shared
from relay.directory import Directory
from relay.keyring import Keyring
from relay.limitbook import keys_of
from relay.mail.envelope import Tenant
from relay.observe import events, metrics
from relay.observe.log import log
from relay.owner.forgetting import forget_tenant
from relay.policy.catalogue import Catalogue
from relay.reputation.book import Book
from relay.reputation.judge import Bounds
from relay.reputation.rows import seats
from relay.serve.channel import OpRefused, OpUnavailable
from relay.settings.model import Settings
from relay.smtp.desk import place_of
from relay.store.generation import DIRECTORY, Generation

LOOK_SECONDS = 1.0
SHORT_SECONDS = 0.2
SETTLE_SECONDS = 3.0
"""Mail that was handed in before somebody was deleted is in the queue by then, and its lines are in the delivery log."""
CLEAN_LOOKS = 2
Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Departures:
    """Call `watch` once. `op` runs an operation of the owner, `ask` asks all workers, of which there are `workers`."""

    def __init__(
        self,
        settings: Settings,
        op: Call,
        ask: Call,
        keys: Callable[[], tuple[Keyring, NodeCounters]],
        *,
        workers: int,
        clock: Clock | None = None,
    ) -> None:
        """`keys`: the keyring, and what this node counts."""
        self.settings = settings
        self._op, self._ask, self._keys, self._workers = op, ask, keys, workers
        self._clock = clock or SystemClock()
        self._generation = Generation.open(settings.server.data_dir)
        self._seen = -1
        self._listed: set[int] = set()
        self._clean: Counter[int] = Counter()  # tenant -> looks in a row that found nothing of it

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look until the gateway stops."""
        while not stopping.is_set():
            try:
                await self.look()
            except (OpRefused, OpUnavailable, CountersUnavailable, sqlite3.Error, OSError) as error:
                self._clean.clear()  # a worker, a disk, Redis or the database is not to be had: all of it again
                log.warning(events.DELETION_DELAYED, kind=type(error).__name__)
            except Exception as error:  # who looks must go on looking, or a tenant stays
                self._clean.clear()
                metrics.CRASHES.inc(("supervisor",))
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Once; nothing where nothing has changed in the directory. Whether somebody is still to go."""
        seen = self._generation.read(DIRECTORY)
        if seen == self._seen:
            return False
        due = [Deleted(row["id"], row["name"], row["deleted_at"]) for row in await self._op("tenant.leaving", {})]
        if not due:
            self._seen = seen
            return False
        for one in due:
            await self._follow(one)
        return True

    async def to_the_end(self) -> None:
        """Until nobody is to go any more: for who has no gateway to leave it to. Raises what a look raises."""
        while True:
            if not await self.look():
                return
            await asyncio.sleep(SHORT_SECONDS)

    async def _follow(self, one: Deleted) -> None:
        data_dir, (keyring, _) = self.settings.server.data_dir, self._keys()
        if one.tenant_id not in self._listed:
            await asyncio.to_thread(write_down, data_dir, [one])
            self._listed.add(one.tenant_id)
        await self._end_erasures(one)
        found = await self._ask("queue.forget", {"tenants": [one._asdict()]})
        is_queued = found.get(str(one.tenant_id), 1) or found.get("workers", 0) < self._workers
        if is_queued or self._clock.now() - one.at < SETTLE_SECONDS:
            self._clean[one.tenant_id] = 0
            return
        named = await asyncio.to_thread(forget_tenant, data_dir, keyring, one)
        self._clean[one.tenant_id] = 0 if named else self._clean[one.tenant_id] + 1
        if self._clean[one.tenant_id] >= CLEAN_LOOKS:
            await self._conclude(one)

    async def _end_erasures(self, one: Deleted) -> None:
        """Of people whom the files had not forgotten yet: the files forget all, the list and the proof remember them."""
        while people := [row for row in await self._op("erasure.due", {}) if row["tenant_id"] == one.tenant_id]:
            lines = [Erased.load(row) for row in people]
            await asyncio.to_thread(write_down, self.settings.server.data_dir, lines)
            for row in people:
                await self._op("erasure.done", {"id": row["id"]})

    async def _conclude(self, one: Deleted) -> None:
        await self._uncount(one)
        batch = {"more": True, "next": 0.0}
        while batch["more"]:  # each is a commit of its own
            batch = await self._op("tenant.empty", {"name": one.tenant, "after": batch["next"]})
        await self._op("tenant.emptied", {"name": one.tenant})
        self._listed.discard(one.tenant_id)
        del self._clean[one.tenant_id]
        log.info(events.TENANT_DELETED, tenant=one.tenant)

    async def _uncount(self, one: Deleted) -> None:
        """Limits, standing, and how often they bit, here and in the Redis of all gateways. Raises CountersUnavailable."""
        settings, (keyring, here) = self.settings, self._keys()
        directory = await asyncio.to_thread(Directory.load, settings.database_path, keyring)
        tenant = directory.tenant_by_id(one.tenant_id)
        assert tenant is not None, "its row stays"
        shared = open_shared(settings.storage, here)
        try:
            await shared.windows.look()
            await self._forget_counts(tenant, directory, shared)
            if shared.note:
                raise CountersUnavailable(shared.note)
        finally:
            await shared.close()

    async def _forget_counts(self, tenant: Tenant, directory: Directory, shared: Any) -> None:
        now, credentials = time.time(), directory.credentials_of(tenant)
        book = Book(shared.windows, Bounds(**self.settings.reputation.model_dump()))
        keys = keys_of(Catalogue.load(self.settings.policies), shared, book, tenant, credentials, now)
        await shared.reset(*keys)
        await book.release([seat.place for seat in seats(tenant, credentials)], now)
