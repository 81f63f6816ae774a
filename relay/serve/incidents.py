"""The clocks of incidents: what is due goes into the metrics, from which alarms ring; wrong recipients get their letters; and
exports of consents at odd hours are noticed (GDPR-20 to GDPR-23).

Theory of operation. Every few seconds the owner's readers tell which incidents are open, which letters are due, and which
exports the audit has seen since the last look. Nothing is kept here: after a start all of it is read again, letters that are
due still are, and an export that was counted before is known by its time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from relay.clock import Clock, SystemClock
from relay.mail.breach import deletion_letter
from relay.observe import events, incident_metrics, metrics
from relay.observe.log import log
from relay.serve.channel import OpRefused, OpUnavailable
from relay.settings.incidents import Incidents as Own
from relay.settings.model import Settings
from relay.smtp.desk import place_of

LOOK_SECONDS = 5.0
HOUR_SECONDS = 3_600.0
LOOK_BACK_SECONDS = 7 * 86_400.0
"""Exports while the gateway was away are noticed too, if they are not older."""
FRIDAY = 4
PAST = ("detection", "warning", "urgent", "deadline")
READERS = ("tenant", "authority")
Op = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Incidents:
    """Call `watch` once. `op` runs an operation of the owner, `submit` takes a mail of our own (worker.submit)."""

    def __init__(
        self,
        settings: Settings,
        op: Op,
        submit: Callable[[dict[str, Any]], Awaitable[object]],
        *,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._op = op
        self._submit = submit
        self._clock = clock or SystemClock()
        self._after = 0
        self._tenants: set[str] = set()
        self._written: set[tuple[int, int]] = set()  # letters that are queued, and the owner could not be told yet

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look until the gateway stops."""
        while not stopping.is_set():
            try:
                await self.look()
            except (OpRefused, OpUnavailable):
                pass  # the database, or a worker, is not to be had: all of it again
            except Exception as error:  # who looks must go on looking, or a deadline passes unseen
                metrics.CRASHES.inc(("supervisor",))
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once."""
        await self._notice_exports()
        self._count(await self._op("incident.figures", {}))
        await self._write()

    async def _notice_exports(self) -> None:
        own, since = self.settings.incidents, self._clock.now() - LOOK_BACK_SECONDS
        found = await self._op("incident.exports", {"after": self._after, "since": since})
        odd = [row for row in found["rows"] if own.watch_exports and not in_office(row["at"], own)]
        for start in range(0, len(odd), 100):
            rows = [
                {
                    "tenant": row["tenant"],
                    "kind": "export",
                    "by": row["by"],
                    "reason": "export.out_of_hours",
                    "first_at": row["at"],
                }
                for row in odd[start : start + 100]
            ]
            tell_opened(await self._op("incident.seen", {"rows": rows, **clocks(own)}))
        self._after = found["last"]

    def _count(self, found: Mapping[str, Any]) -> None:
        rows, own, now = found["incidents"], self.settings.incidents, self._clock.now()
        by_tenant = Counter(row["tenant"] for row in rows)
        for tenant in self._tenants | set(by_tenant):
            incident_metrics.OPEN.set(by_tenant[tenant], (tenant,))
        self._tenants = set(by_tenant)
        incident_metrics.UNSEEN.set(sum(not row["seen"] for row in rows))
        incident_metrics.UNANSWERED.set(found["unanswered"])
        for reader in READERS:
            passed = Counter(past for row in rows for past in passed_by(row, reader, own, now))
            for past in PAST:
                incident_metrics.NOTICES.set(passed[past], (reader, past))

    async def _write(self) -> None:
        for row in await self._op("deletion.letters", {}):
            letter = row["id"], row["mails_sent"]
            if letter not in self._written:
                link = f"{self.settings.web.public_url.rstrip('/')}/deleted/{row['token']}?lang={row['language']}"
                made = deletion_letter(row, link, self.settings.server.hostname, self._clock.now())
                args = {"recipient": row["recipient"], "language": row["language"], "domain": made.domain}
                whose = {"id": row["tenant_id"], "name": row["tenant"]}
                await self._submit({**args, "tenant": whose, "raw": made.raw})
                self._written.add(letter)
            await self._op("deletion.mailed", {"id": row["id"], "mails_sent": row["mails_sent"]})
            self._written.discard(letter)


def clocks(own: Own) -> dict[str, int]:
    """The settings of clocks as arguments of `incident.seen`."""
    return {
        "tenant_minutes": round(own.tenant_hours * 60),
        "authority_minutes": round(own.authority_hours * 60),
        "burst_minutes": max(1, round(own.burst_hours * 60)),
    }


def tell_opened(opened: Iterable[Mapping[str, Any]]) -> None:
    """Log and count what `incident.seen` opened."""
    for row in opened:
        incident_metrics.OPENED.inc((row["kind"],))
        log.warning(
            events.INCIDENT_OPENED, tenant=row["tenant"], incident=row["ref"], kind=row["kind"], reason=row["reason"]
        )


def in_office(at: float, own: Own) -> bool:
    """Monday to Friday, between the hours of the settings, all in UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.weekday() <= FRIDAY and own.office_from_hour <= moment.hour < own.office_until_hour


def passed_by(row: Mapping[str, Any], reader: str, own: Own, now: float) -> list[str]:
    """Which of PAST an incident has passed without a notice to `reader`; none where it needs none any more."""
    if reader not in row["due"]:
        return []
    first, second = own.tenant_alarm_hours if reader == "tenant" else own.authority_alarm_hours
    bounds = (0.0, *(row["detected_at"] + hours * HOUR_SECONDS for hours in (first, second)), row[f"{reader}_due_at"])
    return [past for past, bound in zip(PAST, bounds, strict=True) if now >= bound]
