"""Mail that showed what it should not have: on its way to become an incident (CC-20, GDPR-20).

Theory of operation. A campaign may do it ten thousand times in a minute. One call to the owner is under way at a time; what comes
meanwhile is added up, by login and reason, and goes with the next one. Nobody waits for it. While the owner cannot be asked it is
kept and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from relay.clock import Clock
from relay.mail.envelope import Submission
from relay.mail.visible import Unreadable, visible_addresses
from relay.observe import events, metrics
from relay.observe.log import log
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action, Note
from relay.serve.channel import DOWN_CODES, OpRefused, OpUnavailable
from relay.serve.incidents import clocks, tell_opened
from relay.settings.model import Settings
from relay.spool.item import Item

MOST_ROWS = 100
MOST_MESSAGES = 100
PEOPLE_AT_ONCE = 500
MOST_PEOPLE = 10_000
AGAIN_SECONDS = 5.0
AWAY = DOWN_CODES - {"internal"}  # a bug is one the next time too
EXPOSED = frozenset(
    ("recipients.ask", "recipients.encrypted", "recipients.invitation")
)  # held for these and released as they are, readers see each other's address
Row = dict[str, Any]


class Exposures:
    """Of one worker. `call` asks the owner; `later` makes a task that is looked after."""

    def __init__(
        self,
        settings: Settings,
        call: Callable[[str, Row], Awaitable[Any]],
        clock: Clock,
        later: Callable[[Any], None],
    ) -> None:
        self._settings = settings
        self._call = call
        self._clock = clock
        self._later = later
        self._waiting: dict[tuple[str, ...], Row] = {}
        self._running = False
        self._closing = asyncio.Event()

    def exposed(self, item: Item, note: Note, mail: Submission) -> None:
        """A mail was taken with addresses that its readers should not see; `note` is what the policy would have said."""
        seen = Unreadable("") if mail.message is None else visible_addresses(mail.message)
        people = [] if isinstance(seen, Unreadable) else sorted(seen)
        self._add(row_of(item, "exposure", note.reason, self._clock.now(), shown=note.number), people)

    def leaked(self, item: Item, ruling: Ruling) -> None:
        """A mail was taken of which the policy leaks, which only observes, would have said no; nothing for any other.

        Also where it is held for another reason: whoever releases it does not know of this one.
        """
        if not self._settings.incidents.watch_leaks:
            return
        for entry in ruling.trace:
            if entry.policy == "leaks" and entry.mode == "observe" and entry.action is not Action.ACCEPT:
                # Of what could not be looked at nobody knows that it leaks; that has a metric and an alarm of its own.
                if entry.action in (Action.HOLD, Action.REJECT) and entry.reason != "leaks.unchecked":
                    self._add(row_of(item, "leak", entry.reason, self._clock.now()), [])
                return

    def close(self) -> None:
        """What waits gets one more try."""
        self._closing.set()

    def _add(self, row: Row, people: list[str]) -> None:
        known = self._waiting.setdefault(_key(row), {**row, "times": 0, "messages": [], "shown": 0, "people": {}})
        _join(known, row, people)
        if not self._running:
            self._running = True
            self._later(self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                rows, self._waiting = self._next()
                try:
                    tell_opened(await self._call("incident.seen", {"rows": rows, **clocks(self._settings.incidents)}))
                except (OpRefused, OpUnavailable) as error:
                    code = getattr(error, "code", "unavailable")
                    if self._closing.is_set() or code not in AWAY:  # it will be refused again
                        self._lose(rows, code)
                        continue
                    self._put_back(rows)
                    await self._pause()
        finally:
            self._running = False

    def _next(self) -> tuple[list[Row], dict[tuple[str, ...], Row]]:
        """The rows of the next call, with so few people that nobody waits for it, and what is left for the one after it."""
        rows: list[Row] = []
        left: dict[tuple[str, ...], Row] = {}
        room = PEOPLE_AT_ONCE
        for key, row in self._waiting.items():
            people = list(row["people"])
            if len(rows) == MOST_ROWS or (people and not room):
                left[key] = row
                continue
            rows.append({**row, "people": people[:room]})
            if len(people) > room:
                left[key] = {**row, "times": 0, "messages": [], "people": dict.fromkeys(people[room:])}
            room = max(0, room - len(people))
        return rows, left

    def _put_back(self, rows: list[Row]) -> None:
        """Before what has come since."""
        newer, self._waiting = self._waiting, {}
        for row in (*rows, *newer.values()):
            known = self._waiting.setdefault(_key(row), {**row, "times": 0, "messages": [], "shown": 0, "people": {}})
            _join(known, row, list(row["people"]))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(AGAIN_SECONDS):
                await self._closing.wait()
        except TimeoutError:
            return

    def _lose(self, rows: list[Row], why: str) -> None:
        for row in rows:
            metrics.RECORDS_LOST.inc(("incident",))
            log.error(events.INCIDENT_DROPPED, tenant=row["tenant"], kind=row["kind"], reason=row["reason"], why=why)


def _key(row: Row) -> tuple[str, ...]:
    """What makes two mails one incident; the owner says the same of its mark."""
    return tuple(str(row[name]) for name in ("tenant", "kind", "credential", "purpose", "reason"))


def _join(known: Row, row: Row, people: list[str]) -> None:
    known["times"] += row["times"]
    known["last_at"] = max(known["last_at"], row["last_at"])
    known["shown"] = max(known["shown"], row["shown"])
    known["messages"] = (known["messages"] + row["messages"])[:MOST_MESSAGES]
    for address in people[: max(0, MOST_PEOPLE - len(known["people"]))]:
        known["people"][address] = None


def row_of(item: Item, kind: str, reason: str, now: float, *, shown: int = 0) -> Row:
    """One message as a row of `incident.seen`."""
    meta = item.meta
    return {
        "tenant": meta["tenant"],
        "kind": kind,
        "credential": meta["credential"],
        "stream": meta["stream"],
        "class": meta["class"],
        "purpose": meta.get("purpose", ""),
        "reason": reason,
        "messages": [item.queue_id],
        "people": [],
        "shown": shown,
        "times": 1,
        "first_at": now,
        "last_at": now,
    }


def released(item: Item, reason: str, now: float) -> Row:
    """A held message that a person let go as it was written: its readers see each other."""
    seen = visible_addresses(item.parsed()) if item.raw else frozenset()
    people = set() if isinstance(seen, Unreadable) else set(seen)
    people.update(recipient.address for recipient in item.recipients)
    shown = int(item.meta.get("held_detail", {}).get("addresses", 0))
    return {**row_of(item, "exposure", reason, now, shown=shown), "people": sorted(people)[:PEOPLE_AT_ONCE]}


def let_go(answer: Row, row: Row) -> None:
    """Such a message is released: log it, and put what `released` told into the answer; the supervisor takes it out of that."""
    log.info(events.EXPOSURE, queue_id=answer["id"], kind="incident", reason=row["reason"], address_count=row["shown"])
    answer["incident"] = row
