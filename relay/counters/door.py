"""Who comes in through a door that lets in so many in a while. Who is sent away is not counted, so asking never keeps it shut."""

from __future__ import annotations

from relay.counters.cell_rate import PAST, step_of
from relay.counters.contract import Counters


def enter(counters: Counters, key: str, *, limit: int, seconds: float, now: float) -> float:
    """0.0, and counted, where fewer than `limit` came in within the last `seconds`; else how long until the next may.

    For one thread of one process: two that ask at the same moment might both get the last place.
    """
    if counters.count(key, seconds, now) < limit:
        counters.hit(key, seconds, now)
        return 0.0
    first = step_of(now, seconds)
    steps = ((first + ahead) * seconds / PAST for ahead in range(1, PAST + 1))
    return next((at - now for at in steps if counters.count(key, seconds, at) < limit), seconds)
