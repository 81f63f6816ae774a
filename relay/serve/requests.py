"""The due dates of requests of people, as metrics, from which alarms ring (GDPR-24). Runs in the supervisor and keeps nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from relay.observe import events, metrics, request_metrics
from relay.observe.log import log
from relay.serve.channel import OpRefused, OpUnavailable
from relay.smtp.desk import place_of

LOOK_SECONDS = 15.0
GAUGES = {
    "open": request_metrics.REQUESTS_OPEN,
    "week": request_metrics.REQUESTS_DUE_SOON,
    "overdue": request_metrics.REQUESTS_OVERDUE,
}


class Requests:
    """Call `watch` once. `op` runs an operation of the owner."""

    def __init__(self, op: Callable[[str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._op = op
        self._tenants: set[str] = set()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look until the gateway stops."""
        while not stopping.is_set():
            try:
                await self.look()
            except (OpRefused, OpUnavailable):
                pass  # the database is not to be had: again
            except Exception as error:  # who looks must go on looking, or a deadline passes unseen
                metrics.CRASHES.inc(("supervisor",))
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once."""
        rows = {row["tenant"]: row for row in await self._op("request.figures", {})}
        for tenant in self._tenants | set(rows):
            for name, gauge in GAUGES.items():
                gauge.set(rows[tenant][name] if tenant in rows else 0, (tenant,))
        self._tenants = set(rows)
