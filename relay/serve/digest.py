"""The daily digest to the contact of each tenant: what was refused and held, by rule, with what to do (OPS-6).

Runs in the supervisor. What is due, who has had his day and what is left to tell stands in the database, so a restart, several
workers or several gateways make no second one: a day is claimed first, then the letter is queued durably, then its counts are
taken off. What ends in between is told the day after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from relay.clock import Clock, SystemClock
from relay.mail import digest
from relay.observe import events, metrics
from relay.observe.log import log
from relay.portal.explained import rules
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.refusals import letter_args, rule_for
from relay.settings.model import Settings
from relay.smtp.desk import place_of

LOOK_SECONDS = 10.0
DAY_SECONDS = 86_400.0
MOST_WAITING = 200
Row = dict[str, Any]
Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Digests:
    """Call `watch` once. `owner` runs an operation of relay.owner, `workers` one of the queue, `submit` queues our own mail."""

    def __init__(
        self,
        settings: Settings,
        owner: Call,
        workers: Call,
        submit: Callable[[dict[str, Any]], Awaitable[Any]],
        *,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._owner = owner
        self._workers = workers
        self._submit = submit
        self._clock = clock or SystemClock()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look and write until the gateway stops."""
        while not stopping.is_set():
            try:
                await self.look()
            except (OpRefused, OpUnavailable) as error:
                log.error(events.STORE_FAILED, kind=type(error).__name__)
            except Exception as error:  # who looks must go on looking, or nobody gets a digest any more
                metrics.CRASHES.inc(("supervisor",))
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> int:
        """Write the digests that are due; how many."""
        now = self._clock.now()
        moment = latest_moment(now, self.settings.server.digest_hour)
        day = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
        written = 0
        for tenant in await self._owner("digest.due", {"day": day, "before": moment}):
            held = await self._workers("held.page", {"tenant_id": tenant["id"], "limit": MOST_WAITING + 1})
            claim = await self._owner("digest.claim", {"tenant_id": tenant["id"], "day": day})
            if not claim["claimed"] or not claim["rows"]:
                continue
            args = self._letter(tenant, claim["rows"], held, now)
            # Gateways that share a Redis and no database agree there: who comes second keeps his counts for the day after.
            done = await self._submit({**args, "once": f"digest:{tenant['name']}:{day}"})
            if not done["id"]:
                continue
            await self._owner("digest.told", {"tenant_id": tenant["id"], "rows": claim["rows"]})
            metrics.CONTACT_LETTERS.inc(("digest",))
            log.info(events.DIGEST_QUEUED, tenant=tenant["name"], queue_id=done["id"], rule_count=len(claim["rows"]))
            written += 1
        return written

    def _letter(self, tenant: Row, rows: Sequence[Row], held: Sequence[Row], now: float) -> Row:
        host, url = self.settings.server.hostname, self.settings.web.public_url.rstrip("/")
        reader = digest.Reader(
            tenant["name"], tenant["legal_name"] or tenant["name"], tenant["contact"], tenant["language"]
        )
        by_rule: dict[str, dict[str, int]] = {}
        for row in rows:
            by_rule.setdefault(row["rule"], {})[row["kind"]] = row["count"]
        known = rules()
        counts = [
            digest.Count(rule_for(rule, reader.language), kinds.get("refused", 0), kinds.get("held", 0))
            for rule, kinds in by_rule.items()
            if rule in known
        ]
        waiting = digest.Waiting(
            min(len(held), MOST_WAITING),
            min((row["held_until"] for row in held), default=0.0),
            len(held) > MOST_WAITING,
        )
        stamp = digest.Stamp(host, now, f"digest.{tenant['id']}.{int(now)}", url)
        raw = digest.digest(reader, counts, waiting, stamp, since=min(row["first_at"] for row in rows))
        return letter_args(tenant["id"], reader, host, raw)


def latest_moment(now: float, hour: int) -> float:
    """The last time that it was `hour` (UTC), up to now."""
    moment = now - now % DAY_SECONDS + hour * 3600
    return moment if moment <= now else moment - DAY_SECONDS
