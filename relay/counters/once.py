"""What is said once in a while, however often somebody asks: once a day, once in ten minutes.

The period stands in the name of the counter. A window that slides would count the asking too: who asks more often than the window
is long would keep it filled, and hear "yes" once for ever.
"""

from __future__ import annotations

from relay.counters.contract import Counters


def period_key(key: str, seconds: float, now: float) -> str:
    """A name for `hit` that is new in each period of the calendar: a day is one of UTC. For counters that are awaited."""
    return f"{key}:{int(now // seconds)}"


def is_first(counters: Counters, key: str, seconds: float, now: float) -> bool:
    """True for the first who asks in a period, of all processes; and so again in each period in which anybody asks."""
    return counters.hit(period_key(key, seconds, now), seconds, now) == 1
