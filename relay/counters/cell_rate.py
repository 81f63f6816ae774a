"""The arithmetic of limits, pure: the generic cell rate algorithm and the sliding window of 24 counters.

Cell rate (GCRA, ITU-T I.371): one number per key, the theoretical arrival time `tat` at which the bucket would be full
again. Times are whole nanoseconds, so that a limit of n lets exactly n through and not n - 1 by a rounding error. Beside it
are kept the interval that made it and when: a limit that is raised or lowered meanwhile counts the same units, at its own pace.

Window: counts of 24 past steps, this one included, and of the 48 to come, which hold reservations. A charge at step t weighs
on every window that contains t, so it may only go where all of these have room: what is charged now can never push a
reservation of earlier over the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

NANOSECONDS = 1_000_000_000
PAST = 24  # steps of one window, the present one included
FUTURE = 48  # steps ahead that may be reserved
CELLS = PAST + FUTURE
DAY_SECONDS = 86_400
FURTHEST_NS = 4 * DAY_SECONDS * NANOSECONDS  # ahead: twice of what may be reserved
HISTORY_DAYS = 14
SPAN_DAYS = 3
SPANS = 30  # of which the largest day is remembered: 90 days
SPELL_SECONDS = 300
HOUR_SPELLS, DAY_SPELLS = 12, 288
RING = 16  # spells, and days, that a row holds
SPAN_RING = 32
NOW = PAST - 1  # index of the present step in a row of counts


def step_of(now: float, window_seconds: float) -> int:
    """Number of the step that `now` lies in, of a window of `window_seconds`."""
    return int(now * PAST // window_seconds)


def interval_ns(amount: int, period_seconds: float) -> int:
    """Nanoseconds that one unit takes."""
    return max(1, int(period_seconds * NANOSECONDS) // amount)


def cell_rate(tat_ns: int, now_ns: int, interval: int, burst: int, cost: int) -> tuple[int, int]:
    """(new tat, time when `cost` units are allowed), both in nanoseconds; allowed now where the latter is not after now."""
    new_tat = (tat_ns if tat_ns > now_ns else now_ns) + cost * interval
    return new_tat, new_tat - max(burst, 1) * interval


def tat_as(tat_ns: int, made: int, made_at_ns: int, now_ns: int, interval: int) -> int:
    """The tat that a limit of `interval` begins with, of one that was written at `made_at_ns` by a limit of `made` (0: unknown).

    What was charged counts in units, and a part of one is rounded up. Since it was written it went down by the faster of the
    two paces: a limit that was raised is not held up by the slow one of before.
    """
    ahead = tat_ns - now_ns
    if ahead > FURTHEST_NS:  # written by a clock that was wrong, so it counts for nothing
        return 0
    if ahead <= 0 or made in (0, interval):
        return tat_ns
    since = max(0, now_ns - made_at_ns) if interval < made else 0
    return now_ns + min(-(-(ahead + since) * interval // made) - since, FURTHEST_NS)


def windows(counts: Sequence[int]) -> list[int]:
    """Sums of the windows that end at the present step and at each of the 48 to come; `counts` has CELLS entries."""
    sums = [0, *accumulate(counts)]
    return [sums[end + PAST] - sums[end] for end in range(FUTURE + 1)]


def first_room(sums: Sequence[int], amount: int, cost: int, start: int = 0) -> int | None:
    """First step from `start` (0: now) where `cost` fits into every window that it weighs on; None within no 48 steps."""
    step = start
    while step <= FUTURE:
        last = min(step + NOW, FUTURE)
        full = next((end for end in range(last, step - 1, -1) if sums[end] + cost > amount), None)
        if full is None:
            return step
        # Every step up to `full` weighs on the window that ends there.
        step = full + 1
    return None


def warm_up_day(since: float, now: float) -> int:
    """Number of the day of a warm-up, from 0."""
    return max(0, int((now - since) // DAY_SECONDS))


def warm_up_amount(first: int, normal: int, behind: int, day: int) -> int:
    """Units of a day: twice those of the day before, but for `behind` days; 0 from where that is `normal`: no limit."""
    amount = first << min(max(day - behind, 0), 32)
    return amount if amount < normal else 0


def spell_of(now: float, last: int) -> int:
    """Number of the five minutes that `now` lies in; a wall clock that is set back by less than a day counts on in the `last`."""
    spell = int(now // SPELL_SECONDS)
    return last if spell < last <= spell + DAY_SPELLS else spell


def last_hour(row: Sequence[int], last: int, spell: int) -> int:
    """Units of the hour up to `spell`; `row` is as relay.counters.sudden keeps it, written until spell `last`."""
    return sum(row[at % RING] for at in range(spell - HOUR_SPELLS + 1, min(spell, last) + 1))


def times_over(row: Sequence[int], last: int, spell: int, hour: int, times: int) -> bool:
    """Whether `hour` is over `times` an average of the HISTORY_DAYS before the day of `spell`."""
    today, last_day = spell // DAY_SPELLS, last // DAY_SPELLS
    before = sum(row[RING + at % RING] for at in range(today - HISTORY_DAYS, min(today - 1, last_day) + 1))
    return hour * HISTORY_DAYS > times * before


def largest_day(row: Sequence[int], last: int, spell: int) -> int:
    """Units of the largest day of the 90 before the day of `spell`, and up to two more."""
    today, last_day = spell // DAY_SPELLS, last // DAY_SPELLS
    span = today // SPAN_DAYS
    spans = range(span - SPANS, min(span - 1, last_day // SPAN_DAYS) + 1)
    days = range(span * SPAN_DAYS, min(today - 1, last_day) + 1)
    largest = max((row[2 * RING + at % SPAN_RING] for at in spans), default=0)
    return max(largest, max((row[RING + at % RING] for at in days), default=0))


def spread(counts: Sequence[int], amount: int, cost: int, start: int = 0) -> list[tuple[int, int]] | None:
    """(step, units) pieces that pay for a charge larger than the limit, as early as there is room; None: 48 are too few."""
    row = list(counts)
    pieces: list[tuple[int, int]] = []
    for step in range(start, FUTURE + 1):
        sums = windows(row)
        piece = min(cost, amount - max(sums[step : step + PAST]))
        if piece > 0:
            pieces.append((step, piece))
            row[NOW + step] += piece
            cost -= piece
        if not cost:
            return pieces
    return None
