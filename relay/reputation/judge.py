"""How a sender stands, from what became of his last 1,000 deliveries. Pure; docs/decisions/011-reputation.md says why so.

The shares of the rulebook hold for a full window, 100 bounces in 1,000 pausing. With less mail the same share is weaker proof, so
what is compared is not the share but the lower end of its interval (Wilson, 95 % one-sided): a sender is paused where his mail
proves as high a share as 100 in 1,000 would. 24 in 200 do; 20 in 200 do not.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

from relay.counters.ring import SIZE, Tally


class Level(IntEnum):
    """How a sender stands."""

    GOOD = 0
    WARN = 1
    REVIEW = 2
    PAUSED = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Bounds(NamedTuple):
    """From which share on: settings [reputation]. What stands in the rulebook are their defaults."""

    bounce_warn: float = 0.02
    bounce_review: float = 0.05
    bounce_pause: float = 0.10
    bounce_deliveries: int = 200
    complaint_review: float = 0.001
    complaint_pause: float = 0.003
    complaint_deliveries: int = 500
    least_complaints: int = 2
    unknown_first: float = 0.30  # of the first 50
    unknown_last: float = 0.10  # of the last 100


class Verdict(NamedTuple):
    """A level and the rule that it follows from; "" where nothing is wrong."""

    level: Level
    rule: str = ""


GOOD = Verdict(Level.GOOD)
EASE = 0.8
"""A level is left when there is no longer proof of this part of the share that leads to it."""
_Z = 1.6449  # one-sided 95 %


@lru_cache(maxsize=65_536)
def proven(events: float, of: int) -> float:
    """The share that `events` of `of` prove: the lower end of Wilson's interval."""
    if of <= 0 or events <= 0:
        return 0.0
    share, square = events / of, _Z * _Z
    middle = share + square / (2 * of)
    spread = _Z * sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, (middle - spread) / (1 + square / of))


def judge(tally: Tally, before: Level, bounds: Bounds, *, bulk: bool) -> Verdict:
    """How a sender stands now who stood as `before`. `bulk`: he mails campaigns (THROTTLE-8).

    It worsens at once, and eases where even `EASE` of the shares is no longer proven. From paused only a person releases.
    """
    if before is Level.PAUSED:
        return Verdict(before)
    worst = _worst(tally, bounds, 1.0, bulk=bulk)
    if worst.level >= before:
        return worst
    kept = _worst(tally, bounds, EASE, bulk=False)
    return kept if kept.level < before else kept._replace(level=before)


def _worst(tally: Tally, bounds: Bounds, part: float, *, bulk: bool) -> Verdict:
    found = [_bounces(tally, bounds, part), _complaints(tally, bounds, part)]
    if bulk and _probes(tally, bounds):
        found.append(Verdict(Level.PAUSED, "THROTTLE-8"))
    return max(found, key=lambda verdict: verdict.level)


def _bound(share: float, part: float) -> float:
    """What a full window with that part of the share proves."""
    return proven(round(share * part * SIZE, 6), SIZE)


def _bounces(tally: Tally, bounds: Bounds, part: float) -> Verdict:
    """REP-1."""
    if tally.deliveries < bounds.bounce_deliveries:
        return GOOD
    share = proven(tally.bounces, tally.deliveries)
    for level, bound in (
        (Level.PAUSED, bounds.bounce_pause),
        (Level.REVIEW, bounds.bounce_review),
        (Level.WARN, bounds.bounce_warn),
    ):
        if share >= _bound(bound, part):
            return Verdict(level, "REP-1")
    return GOOD


def _complaints(tally: Tally, bounds: Bounds, part: float) -> Verdict:
    """REP-2. Who complains has got the mail, so the share is of what was delivered."""
    if tally.deliveries < bounds.complaint_deliveries or tally.complaints < bounds.least_complaints:
        return GOOD
    share = proven(tally.complaints, max(tally.delivered, tally.complaints))
    for level, bound in ((Level.PAUSED, bounds.complaint_pause), (Level.REVIEW, bounds.complaint_review)):
        if share >= _bound(bound, part):
            return Verdict(level, "REP-2")
    return GOOD


def _probes(tally: Tally, bounds: Bounds) -> bool:
    """THROTTLE-8: an old or bought list shows at its beginning."""
    from_first = tally.first_unknown > bounds.unknown_first * 50
    return from_first or (tally.deliveries >= 100 and tally.last_unknown > bounds.unknown_last * 100)
