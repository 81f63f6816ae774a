"""Suspensions beyond the shared database: told to the contact, known to every gateway of the same Redis (THROTTLE-9).

Theory of operation. Whatever a person said is a row with its time; workers follow the database of their gateway as ever. This
task looks at a number in memory, and where gateways share a Redis at one word there. When either has changed it takes what is
later there into the database, tells what is later here, and writes to contacts who have not heard. Nothing hangs on the moment:
what was said while the gateway or Redis was down is told when both are up, and a Redis that forgot is told again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from relay.clock import Clock, SystemClock
from relay.counters.contract import DAMAGED_KEY, CountersUnavailable
from relay.counters.suspensions import Said, SharedSuspensions, field_of, later
from relay.mail.letters import suspension
from relay.observe import events, metrics
from relay.observe.log import log
from relay.serve.channel import OpRefused, OpUnavailable
from relay.settings.model import Settings
from relay.smtp.desk import place_of

LOOK_SECONDS = 0.25
AHEAD_SECONDS = 86_400.0
"""What is said to be from further ahead was written by a clock that is wrong, or by a stranger."""
Op = Callable[[str, dict[str, Any]], Awaitable[Any]]
Rows = Mapping[str, dict[str, Any]]


class Suspensions:
    """Call `watch` once. `op` runs an operation of the owner, `submit` takes a mail of our own (worker.submit)."""

    def __init__(
        self,
        settings: Settings,
        op: Op,
        submit: Callable[[dict[str, Any]], Awaitable[object]],
        changes: Callable[[], int],
        *,
        clock: Clock | None = None,
        shared: SharedSuspensions | None = None,
    ) -> None:
        """`changes` is another number after each change of the directory."""
        self.settings = settings
        self._op = op
        self._submit = submit
        self._changes = changes
        self._clock = clock or SystemClock()
        self._shared = shared
        self._seen = -1
        self._word = b""
        self._is_alone = False  # Redis did not answer as it should, and that was said
        self._known: Mapping[str, Said] = {}
        self._suspended: set[tuple[str, str]] = set()
        self._written: set[tuple[str, str, float]] = (
            set()
        )  # whose letter is queued, and the database could not be told yet

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look and tell until the gateway stops."""
        while not stopping.is_set():
            try:
                await self.look()
            except (OpRefused, OpUnavailable):
                self._seen = -1  # the database, or a worker, is not to be had: all of it again
            except Exception as error:  # who looks must go on looking
                self._seen = -1
                metrics.CRASHES.inc(("supervisor",))
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once: nothing but two looks where nothing has changed."""
        seen = self._changes()
        word = await self._heard()
        if seen == self._seen and word in (None, self._word):
            return
        rows = await self._rows()
        if word is not None:
            rows = await self._agree(rows, word)
        else:
            self._word = b"?"  # Redis, when it is back, must hear of this
        self._count(rows)
        await self._tell(rows)
        # What was changed meanwhile, by ourselves too, is looked at the next time.
        self._seen = seen

    async def _heard(self) -> bytes | None:
        """The word of Redis; None where there is none, or it does not answer."""
        if self._shared is None:
            return None
        try:
            return await self._shared.changed()
        except CountersUnavailable as error:
            await self._unheard(error.kind)
            return None

    async def _unheard(self, kind: str) -> None:
        """Said once until Redis answers again; a key that is no hash never would."""
        assert self._shared is not None
        if kind == DAMAGED_KEY:
            log.error(events.SUSPENSIONS_DAMAGED)
            with contextlib.suppress(CountersUnavailable):
                await self._shared.begin_anew()
        elif not self._is_alone:
            self._is_alone = True
            log.warning(events.SUSPENSIONS_ISOLATED, kind=kind)

    async def _rows(self) -> Rows:
        rows: list[dict[str, Any]] = await self._op("suspension.list", {})
        return {field_of(row["kind"], row["name"]): row for row in rows}

    async def _agree(self, rows: Rows, word: bytes) -> Rows:
        """Take in what others said later, tell what was said here later; the rows after that."""
        assert self._shared is not None
        ours = {field: Said(row["at"], row["suspended"]) for field, row in rows.items() if row["at"]}
        try:
            if word != self._word or not word:
                self._known = await self._shared.known()
            latest = self._clock.now() + AHEAD_SECONDS
            theirs = {field: said for field, said in self._known.items() if said.at < latest}
            news = [
                {"kind": rows[field]["kind"], "name": rows[field]["name"], "at": theirs[field].at,
                 "suspended": theirs[field].suspended}
                for field in later(theirs, ours, theirs.keys() & rows.keys())
            ]  # fmt: skip
            if news:
                await self._op("suspension.follow", {"rows": news})
                rows = await self._rows()
            own = later(ours, theirs, ours)
            if own:
                await self._shared.tell({field: ours[field] for field in own}, latest=latest)
                self._known = {**self._known, **{field: ours[field] for field in own}}
            self._word = word
            if self._is_alone:
                self._is_alone = False
                log.info(events.SUSPENSIONS_REJOINED)
        except CountersUnavailable as error:
            self._word = b"?"  # no word of Redis: all of it again when it answers
            await self._unheard(error.kind)
        return rows

    def _count(self, rows: Rows) -> None:
        here = [row for row in rows.values() if not row["deleted"]]  # who left is none that somebody may release
        suspended = {(row["kind"], row["name"]) for row in here if row["suspended"]}
        for kind, name in sorted(suspended - self._suspended):
            log.warning(events.ACCOUNT_SUSPENDED, **{kind: name})
        for kind, name in sorted(self._suspended - suspended):
            log.warning(events.ACCOUNT_RESUMED, **{kind: name})
        self._suspended = suspended
        for kind in ("tenant", "credential"):
            metrics.SUSPENDED.set(sum(one == kind for one, _ in suspended), (kind,))

    async def _tell(self, rows: Rows) -> None:
        for row in rows.values():
            if not row["suspended"] or row["told"]:
                continue
            said = row["kind"], row["name"], row["at"]
            if row["contact"] and said not in self._written:
                hours = self.settings.limits.freeze_hours
                letter = suspension(row, self.settings.server.hostname, self._clock.now(), hours=hours)
                args = {"recipient": row["contact"], "language": row["language"], "domain": letter.domain}
                whose = {"id": row["tenant_id"], "name": row["tenant"]}
                await self._submit({**args, "tenant": whose, "raw": letter.raw})
                self._written.add(said)
            await self._op("suspension.told", {"kind": row["kind"], "name": row["name"], "at": row["at"]})
            self._written.discard(said)
