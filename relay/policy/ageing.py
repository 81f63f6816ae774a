"""How long a consent has not been used, in calendar months (CONSENT-13)."""

from __future__ import annotations

import calendar
import time

from relay.policy.facts import ConsentState

SHORTEST_MONTH = 28 * 86_400


def month_of(at: float) -> float:
    """The start of the month in UTC; both are epoch seconds."""
    moment = time.gmtime(at)
    return float(calendar.timegm((moment.tm_year, moment.tm_mon, 1, 0, 0, 0)))


def has_aged(state: ConsentState, now: float, months: int) -> bool:
    """Whether more than `months` whole months have passed since the consent was given, renewed or last used; 0 months: never.

    The month of the last use does not count, as nobody knows its day.
    """
    since = max(state.used_at, state.given_at, state.confirmed_at, state.sale_at)
    if not months or now - since <= months * SHORTEST_MONTH:  # nearly all, without a look at a calendar
        return False
    then, today = time.gmtime(since), time.gmtime(now)
    return (today.tm_year - then.tm_year) * 12 + today.tm_mon - then.tm_mon > months
