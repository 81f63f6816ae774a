"""Who stands how: of each login, stream, From domain and tenant, from what became of their last 1,000 deliveries.

A message is answered for by its login and its stream. The windows of its From domain and its tenant hold all streams
together, so they hold back campaigns only: what a campaign does never stops a password reset (REP-1, REP-2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from relay.counters.ring import News, Tally, tally
from relay.counters.windows import Place, Windows
from relay.mail.address import org_domain
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


class Seat(NamedTuple):
    """One of those whom a sender's mail counts for; of the tenant the `subject` is "". `bulk`: it holds campaigns only."""

    tenant: int
    scope: str
    subject: str
    place: Place
    bulk: bool = False


def place_of(tenant: int, scope: str, subject: str) -> Place:
    """The window of one of SCOPES."""
    return Place(tenant, f"{scope}:{subject}")


@lru_cache(maxsize=16_384)
def seats_of(sender: Sender) -> list[Seat]:
    """Those whom its mail counts for. Subdomains count for the domain that was registered: providers see them so too."""
    domain = org_domain(sender.domain) if sender.domain else ""
    own = (("credential", sender.credential), ("stream", sender.stream), ("domain", domain), ("tenant", ""))
    return [
        Seat(
            sender.tenant,
            scope,
            subject,
            place_of(sender.tenant, scope, subject),
            sender.stream == BULK and scope in ("credential", "stream"),
        )
        for scope, subject in own
        if subject or scope == "tenant"
    ]


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
        org_domain("example.org")  # reads the list of public suffixes: now, and not in the middle of a message
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
        for seat in seats_of(sender):
            if seat.scope in ("domain", "tenant") and sender.stream != BULK:
                continue
            level = self.windows.level(seat.place)
            if level > worst.level:
                worst = Standing(level, seat.scope)
        return worst

    async def add(self, sender: Sender, news: News, now: float) -> list[Change]:
        """Count what became of mail of one sender; who stands otherwise since. Raises CountersUnavailable."""
        changes = [await self.count(seat, news, now) for seat in seats_of(sender)]
        return [change for change in changes if change is not None]

    async def count(self, seat: Seat, news: News, now: float) -> Change | None:
        """The same for one of its windows. Raises CountersUnavailable."""
        judged = await self.windows.add(seat.place, news, now, self._judge(seat.bulk))
        after = Level(judged.window.level)
        if after == judged.before:
            return None
        counted, before = tally(judged.window), Level(judged.before)
        rule = judge(counted, before, self._bounds, bulk=seat.bulk).rule if after > before else ""
        return Change(seat.tenant, seat.scope, seat.subject, before, after, rule, counted)

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
