"""What limits answer, each alone and all together; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relay.counters.cell_rate import (
    CELLS,
    FUTURE,
    NOW,
    PAST,
    first_room,
    spread,
    step_of,
    warm_up_amount,
    warm_up_day,
    windows,
)
from relay.counters.contract import DAY, PARK_HORIZON_SECONDS, SHARED, WARM_UP_HORIZON_SECONDS, Limit
from relay.policy.facts import Allowance

NEVER = float("inf")


class Asked(NamedTuple):
    """What one limit answers, and what to write if all agree.

    `due` is when this limit alone would let the charge through, in wall seconds (0.0: now, or when the others do; NEVER);
    `leaves` when all daily limits together would.
    """

    limit: Limit
    due: float
    leaves: float = 0.0
    backlog: int = 0
    tat_ns: int = 0
    pieces: Sequence[tuple[int, int]] = ()  # (steps ahead, units)
    sudden: int = 0


class Row(NamedTuple):
    """One daily limit and what is charged to it: `counts` of 24 past and 48 future steps, the present one is `step`."""

    limit: Limit
    cost: int
    step: int
    counts: list[int]


def combine(asked: Sequence[Asked], now: float, *, park: bool, max_parked: int) -> Allowance:
    """The answer of all limits: see `Counters.take`."""
    if not asked:
        return Allowance(True)
    strictest = asked[0]
    due, backlog, is_late = 0.0, 0, False
    for answer in asked:
        if answer.due > strictest.due:
            strictest = answer
        leaves = max(answer.due, answer.leaves)
        due = max(due, leaves)
        is_late = is_late or leaves > now + (
            WARM_UP_HORIZON_SECONDS if answer.limit.since > 0 else PARK_HORIZON_SECONDS
        )
        if answer.limit.behind != SHARED:
            backlog = max(backlog, answer.backlog)
    sudden = max(answer.sudden for answer in asked)
    if due <= now:
        return Allowance(True, backlog=backlog, sudden=sudden)
    granted = park and not is_late and (backlog <= max_parked or not max_parked)
    limit = strictest.limit
    return Allowance(granted, 0.0 if due == NEVER else due, limit.name, limit.scope, limit.amount, backlog, sudden)


def ask_warm_up(limit: Limit, cost: int, units: Sequence[int], now: float) -> Asked:
    """The first day with room for all of `cost`; `units` are those of each day so far, the pieces are days from the first."""
    today = warm_up_day(limit.since, now)
    reserved = sum(units[today + 1 :])
    for day in range(today, CELLS):
        amount = warm_up_amount(limit.amount, limit.burst, limit.behind, day)
        if amount and units[day] + cost > amount:
            continue
        if day == today:
            return Asked(limit, 0.0, backlog=reserved, pieces=((day, cost),))
        # As far on in that day as it is filled, so that not all leaves when it begins.
        due = limit.since + (day + (units[day] / amount if amount else 0.0)) * DAY
        return Asked(limit, due, backlog=reserved + cost, pieces=((day, cost),))
    return Asked(limit, 0.0 if today >= CELLS else NEVER, backlog=reserved)


def ask_days(rows: Sequence[Row], now: float, earliest: float, *, park: bool) -> list[Asked]:
    """Answers of the daily limits, for a message that leaves at `earliest` or later: the first step with room in all."""
    start = step_of(earliest, rows[0].limit.period_seconds) - step_of(now, rows[0].limit.period_seconds)
    sums = [windows(row.counts) for row in rows]
    own = [
        first_room(sum_, row.limit.amount, row.cost, start) if row.cost <= row.limit.amount else start
        for row, sum_ in zip(rows, sums, strict=True)
    ]
    common = _common(rows, sums, own)
    return [_place(row, step, common, at=(start, earliest), park=park) for row, step in zip(rows, own, strict=True)]


def _common(rows: Sequence[Row], sums: Sequence[list[int]], own: Sequence[int | None]) -> int | None:
    """First step where every charge that fits its limit at all has room in it; None within no 48."""
    found: int | None = max((FUTURE + 1 if step is None else step for step in own), default=0)
    settled = False
    while found is not None and not settled:
        settled = True
        for row, sum_ in zip(rows, sums, strict=True):
            if row.cost <= row.limit.amount:
                step = first_room(sum_, row.limit.amount, row.cost, found)
                if step != found:
                    found, settled = step, False
                    break
    return found


def _place(row: Row, own: int | None, common: int | None, *, at: tuple[int, float], park: bool) -> Asked:
    """Where one charge goes, given the step that suits all. `at`: the step and time in which the message leaves or later."""
    start, earliest = at
    limit, cost, _, counts = row
    reserved = sum(counts[NOW + 1 :])
    if cost > limit.amount:
        pieces = spread(counts, limit.amount, cost, common) if park and common is not None else None
        if pieces is None:
            return Asked(limit, NEVER, backlog=reserved)
        due = _time(row, pieces[-1][0], earliest)
        return Asked(limit, due, due, reserved + cost, 0, pieces)
    due = 0.0 if own == start else _time(row, own, earliest)  # with room in that step it is not what bites
    leaves = _time(row, common, earliest)
    return Asked(limit, due, leaves, reserved + (cost if common else 0), 0, ((common or 0, cost),))


def _time(row: Row, step: int | None, earliest: float) -> float:
    """Wall time at which a charge of `step` leaves: in a later hour, as far on as that hour is filled already.

    So what was parked does not leave in one heap when the hour begins. None: beyond what can be reserved.
    """
    if step == 0:
        return 0.0
    width = row.limit.period_seconds / PAST
    if step is None:
        return (row.step + FUTURE + 1) * width
    filled = min(row.counts[NOW + step] / row.limit.amount, 1.0)
    return max(earliest, (row.step + step + filled) * width)
