"""Queued copies for people who were erased, in the process that has them: dropped, with a line in the delivery log (GDPR-8).

So is all mail of a tenant that was deleted, without one (GDPR-18).
"""

from __future__ import annotations

import asyncio
from typing import Any

from relay.consent.erased import Deleted, Erased
from relay.delivery.passes import Passes
from relay.keyring import Keyring
from relay.observe import privacy_metrics
from relay.serve.queue_ops import Say
from relay.spool.files import QueueFiles
from relay.spool.hand import Busy, Hand, Unreadable
from relay.spool.item import Fate
from relay.spool.strike import Strikes, strike
from relay.trace import whose

PURGE_APART_SECONDS = 60.0


class Striking:
    """Over the queue of one process."""

    def __init__(self, queue: QueueFiles, passes: Passes, say: Say, keyring: Keyring) -> None:
        self._queue, self._passes, self._say, self._keyring = queue, passes, say, keyring
        self._hand = Hand(queue)
        self._purged_for: set[tuple[int, float]] = set()
        self._purged_at = float("-inf")

    async def run(self, args: dict[str, Any]) -> dict[str, int]:
        """`people`: see `Erased`; or `tenants`: see `Deleted`. Answers copies `dropped`, messages `busy` that are to be
        asked for again, and one of `workers`.

        Raises SpoolUnavailable, sqlite3.Error or OSError; then it is to be done again.
        """
        await self._queue.adopt_orphans()
        people = [Erased.load(row) for row in args.get("people", ())]
        tenants = [Deleted(**row) for row in args.get("tenants", ())]
        lots = [(one.tenant, _all_of(one.tenant_id)) for one in tenants]
        for tenant in sorted({one.tenant for one in people}):
            lots.append((tenant, _strikes([one for one in people if one.tenant == tenant], self._keyring)))
        dropped = busy = 0
        for tenant, strikes in lots:
            for number in await asyncio.to_thread(self._meant, tenant, strikes):
                try:
                    dropped += await self._strike(number, strikes, is_told=not tenants)
                except Busy:
                    busy += 1
                except Unreadable:
                    continue  # nobody can send it either
        return {"dropped": dropped, "busy": busy + self._purge([*people, *tenants]), "workers": 1}

    def _purge(self, people: list[Erased | Deleted]) -> int:
        """What was delivered or dropped leaves the disk early: once for each erasure, for many together; 1 while it has not."""
        fresh = {(one.tenant_id, one.at) for one in people} - self._purged_for
        now = self._queue.clock.monotonic()
        if not fresh:
            return int(self._queue.shelf.is_hastening)
        if now - self._purged_at >= PURGE_APART_SECONDS:
            self._purged_at = now
            self._purged_for = {(one.tenant_id, one.at) for one in people}
            self._queue.shelf.hasten()
        return 1

    def _meant(self, tenant: str, strikes: Strikes) -> list[int]:
        """Messages that would still go to one of them. Opens all that the tenant has waiting: in a thread."""
        found = self._hand.opened(self._hand.places(held=False), tenant)
        return [item.id for item in found if strike(item, strikes)]

    async def _strike(self, number: int, strikes: Strikes, *, is_told: bool) -> int:
        item = await self._hand.pick(number)
        if item is None:
            return 0
        fates = list(item.fates)
        try:
            count = strike(item, strikes)
            await self._queue.record(item)
        except Exception:  # a bug too must not keep it out of everybody's sight
            item.fates = fates
            self._queue.release(item)
            raise
        if Fate.WAITING not in item.fates:
            self._passes.forget(number)
        if count and is_told:
            privacy_metrics.STRUCK.inc((), count)
            now = self._queue.clock.now()
            self._say(number, "dropped", now, **whose(item), by="erasure", recipients=count)
        return count


def _all_of(number: int) -> Strikes:
    return lambda tenant, address: tenant == number


def _strikes(people: list[Erased], keyring: Keyring) -> Strikes:
    lots = [(one.tenant_id, one.matcher(keyring)) for one in people]
    return lambda tenant, address: any(number == tenant and is_his(address) for number, is_his in lots)
