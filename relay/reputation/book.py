"""Who stands how: of each login, stream, From domain and tenant, from what became of their last 1,000 deliveries.

A message is answered for by its login and its stream. The windows of its From domain and its tenant hold all streams
together, so they hold back campaigns only: what a campaign does never stops a password reset (REP-1, REP-2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from relay.counters.ring import News, Tally, tally
from relay.counters.windows import Place, Windows
from relay.mail.envelope import Stream
from relay.policy.facts import Standing
from relay.reputation.judge import Bounds, Level, judge

BULK = Stream.MARKETING.value
SCOPES = ("credential", "stream", "domain", "tenant")
WELL = Standing()


class Sender(NamedTuple):
    """Whose mail it is. `domain` is that of its From field, "" where it is not known."""

    tenant: int
    credential: str
    stream: str
    domain: str = ""

    def places(self) -> list[tuple[str, str, Place]]:
        """(scope, subject, window) of each that its mail counts for; of the tenant the subject is ""."""
        own = [("credential", self.credential), ("stream", self.stream), ("domain", self.domain), ("tenant", "")]
        return [
            (scope, subject, place_of(self.tenant, scope, subject))
            for scope, subject in own
            if subject or scope == "tenant"
        ]


def place_of(tenant: int, scope: str, subject: str) -> Place:
    """The window of one of SCOPES."""
    return Place(tenant, f"{scope}:{subject}")


class Change(NamedTuple):
    """Somebody stands otherwise than before; `rule` says why, "" where he stands better."""

    tenant: int
    scope: str
    subject: str
    before: Level
    after: Level
    rule: str
    tally: Tally


class Book:
    """Reads and writes standings. `stands` is on the road of every message and costs a look into a dictionary."""

    def __init__(self, windows: Windows, bounds: Bounds) -> None:
        self.windows = windows
        self._bounds = bounds
        self._known: dict[Sender, Standing] = {}
        self._seen = -1

    def stands(self, sender: Sender) -> Standing:
        """The worst that holds for mail of this sender now, and whose it is."""
        changes = self.windows.marks()[0]
        if changes != self._seen or len(self._known) > MOST_KNOWN:
            self._seen = changes
            self._known.clear()
        known = self._known.get(sender)
        if known is None:
            known = self._known[sender] = self._look(sender)
        return known

    def _look(self, sender: Sender) -> Standing:
        worst = WELL
        for scope, _, place in sender.places():
            if scope in ("domain", "tenant") and sender.stream != BULK:
                continue
            level = self.windows.level(place)
            if level > worst.level:
                worst = Standing(level, scope)
        return worst

    async def add(self, sender: Sender, news: News, now: float) -> list[Change]:
        """Count what became of mail of one sender; who stands otherwise since. Raises CountersUnavailable."""
        changes = []
        for scope, subject, place in sender.places():
            change = await self.count(sender, (scope, subject, place), news, now)
            if change is not None:
                changes.append(change)
        return changes

    async def count(self, sender: Sender, of: tuple[str, str, Place], news: News, now: float) -> Change | None:
        """The same for one of its windows. Raises CountersUnavailable: nothing is known to be counted then."""
        scope, subject, place = of
        bulk = sender.stream == BULK and scope in ("credential", "stream")
        judged = await self.windows.add(place, news, now, self._judge(bulk))
        after = Level(judged.window.level)
        if after == judged.before:
            return None
        counted, before = tally(judged.window), Level(judged.before)
        rule = judge(counted, before, self._bounds, bulk=bulk).rule
        return Change(sender.tenant, scope, subject, before, after, rule if after > before else "", counted)

    def _judge(self, bulk: bool) -> Callable[[Tally, int], int]:
        return lambda counted, level: judge(counted, Level(level), self._bounds, bulk=bulk).level

    def ratios(self, counted: Tally) -> tuple[float | None, float | None]:
        """Bounces per delivery and complaints per mail delivered; None where there is too little to say so."""
        enough, many = self._bounds.bounce_deliveries, self._bounds.complaint_deliveries
        bounces = counted.bounces / counted.deliveries if counted.deliveries >= enough else None
        heard = (
            counted.complaints / max(counted.delivered, counted.complaints, 1) if counted.deliveries >= many else None
        )
        return bounces, heard

    async def release(self, places: Iterable[Place], now: float) -> int:
        """A person lets them send again: their windows begin anew. How many had stood otherwise than well."""
        return sum([bool(await self.windows.release(place, now)) for place in places])


MOST_KNOWN = 20_000
