"""The road of nearly every message through the counters of one node: all limits have room now, and nothing is ahead of them.

It is walked under the lock that all workers share, so it has no calls and makes no values that can be spared. What a limit asks
of its slot, and where that lies, is worked out once: its `_Plan`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from mmap import mmap

from relay.counters import sudden
from relay.counters.cell_rate import CELLS, FURTHEST_NS, NANOSECONDS, NOW, PAST, step_of, warm_up_day
from relay.counters.contract import DAY, HABITS, IN_LINE, Charge, Limit
from relay.counters.table import FIRST_CELL, HEAD, KEY_BYTES, RATE, Table
from relay.policy.facts import Allowance

_GRANTED = Allowance(True)
_WINDOW = struct.Struct(f"<{PAST}I")
_ROW = struct.Struct(f"<{CELLS}I")
_NONE, _RATE, _DAYS, _WARM_UP, _HABIT = range(5)
_MAX_PLANS = 16_384

_Plan = tuple[Limit, int, int, bytes, int, int]
"""The limit, which kind it is, offset and key of its slot; of a rate also nanoseconds of a unit, and those of its burst."""


def take(table: Table, charges: Sequence[Charge], now: float) -> Allowance | None:
    """Charge every limit if all have room now, nothing is reserved ahead and every slot is in step; else change nothing.

    None: it has to be asked with care. Only under the table's lock.
    """
    raw, cells, plans = table.raw, table.cells, table.plans
    now_ns = int(now * NANOSECONDS)
    today = step_of(now, DAY)
    paces: list[tuple[int, int, int]] = []
    days: list[tuple[int, int]] = []
    counted: list[tuple[int, Limit, int]] = []
    hour = 0
    for limit, cost in charges:
        # A plan holds its limit, so the number is no other's while the plan is kept.
        plan = plans.get(id(limit)) or _plan(table, limit)
        if plan is None:
            return None
        _, kind, place, digest, interval, room = plan
        if kind == _NONE:
            continue
        key, _, value, head = HEAD.unpack_from(raw, place)
        if key != digest:
            plans.pop(id(limit), None)
            return None
        if kind == _RATE:
            if head != interval and head and value > now_ns:  # made by another pace
                return None
            tat = (value if value > now_ns else now_ns) + cost * interval
            if tat - room > now_ns or tat - now_ns > FURTHEST_NS:
                return None
            paces.append((place, tat, interval))
        elif kind == _DAYS:
            step = today if limit[4] == DAY else step_of(now, limit[4])
            # Equal to its present step: written in this hour, with nothing after it, so it needs a count and no more.
            if head != step or value != step or sum_at(raw, place, step) + cost > limit[3]:
                return None
            days.append((place // 4 + FIRST_CELL + step % CELLS, cost))
        elif kind == _HABIT:
            hour = max(hour, sudden.ask(table, place, limit, cost, now))
            counted.append((place, limit, cost))
        else:
            day = warm_up_day(limit.since, now)
            cell = place // 4 + FIRST_CELL + day
            if not head or day >= CELLS or cells[cell] + cost > limit.amount << max(day - limit.behind, 0):
                return None
            if raw[4 * cell + 4 : 4 * (cell + CELLS - day)].strip(b"\0"):
                return None
            days.append((cell, cost))
    for place, tat, interval in paces:
        RATE.pack_into(raw, place + KEY_BYTES, tat / NANOSECONDS, tat, interval, now_ns)
    for cell, cost in days:
        cells[cell] += cost
    for place, limit, cost in counted:
        sudden.write(table, place, limit, cost, now)
    return Allowance(True, sudden=hour) if hour else _GRANTED


def _plan(table: Table, limit: Limit) -> _Plan | None:
    """None where the limit has no slot yet, or lets nothing through."""
    if limit.since == IN_LINE:  # nothing waits
        return _keep(table, (limit, _NONE, 0, b"", 0, 0))
    place = table.find(limit[:3])
    if place < 0 or limit.amount <= 0:
        return None
    digest = table.raw[place : place + KEY_BYTES]
    if limit.name in HABITS:
        return _keep(table, (limit, _HABIT, place, digest, 0, 0))
    if limit.since > 0:
        return _keep(table, (limit, _WARM_UP, place, digest, 0, 0))
    if limit.period_seconds >= DAY:
        plan = (limit, _DAYS, place, digest, 0, 0)
        return plan if limit.people else _keep(table, plan)  # made for one message, and never met again
    interval = limit.period_seconds * NANOSECONDS // limit.amount or 1
    return _keep(table, (limit, _RATE, place, digest, interval, (limit.burst or 1) * interval))


def _keep(table: Table, plan: _Plan) -> _Plan:
    if len(table.plans) >= _MAX_PLANS:
        table.plans.clear()
    table.plans[id(plan[0])] = plan
    return plan


def sum_at(raw: mmap, place: int, step: int) -> int:
    """Units in the window that ends at `step`, of a slot that is known to reach from before the window to its end."""
    first = place + FIRST_CELL * 4
    begin = (step - NOW) % CELLS
    if begin <= CELLS - PAST:
        return sum(_WINDOW.unpack_from(raw, first + begin * 4))
    cells = _ROW.unpack_from(raw, first)
    total: int = sum(cells[begin:]) + sum(cells[: begin + PAST - CELLS])
    return total
