"""Rates of a node: a slot of the shared table holds the theoretical arrival time, and of which pace it is, see cell_rate.py.

`relay.counters.quick` reads and writes them itself, where nothing has to be rescaled.
"""

from __future__ import annotations

from relay.counters.answer import Asked
from relay.counters.cell_rate import NANOSECONDS, cell_rate, interval_ns, tat_as
from relay.counters.contract import Limit
from relay.counters.table import KEY_BYTES, RATE, Table


def ask(table: Table, place: int, limit: Limit, cost: int, now: float) -> Asked:
    """`place` -1 is a slot that nobody has taken."""
    now_ns = int(now * NANOSECONDS)
    interval = interval_ns(limit.amount, limit.period_seconds)
    tat, free = cell_rate(_tat(table, place, now_ns, interval), now_ns, interval, limit.burst, cost)
    if free <= now_ns:
        return Asked(limit, 0.0, tat_ns=tat)
    return Asked(limit, free / NANOSECONDS, backlog=-((now_ns - free) // interval), tat_ns=tat)


def write(table: Table, place: int, answer: Asked, now: float) -> None:
    limit, tat = answer.limit, answer.tat_ns
    interval = interval_ns(limit.amount, limit.period_seconds)
    RATE.pack_into(table.raw, place + KEY_BYTES, tat / NANOSECONDS, tat, interval, int(now * NANOSECONDS))


def used(table: Table, place: int, limit: Limit, now: float) -> int:
    now_ns = int(now * NANOSECONDS)
    interval = interval_ns(max(limit.amount, 1), limit.period_seconds)
    return max(0, -((now_ns - _tat(table, place, now_ns, interval)) // interval))


def _tat(table: Table, place: int, now_ns: int, interval: int) -> int:
    if place < 0:
        return 0
    _, tat, made, made_at_ns = RATE.unpack_from(table.raw, place + KEY_BYTES)
    return tat_as(tat, made, made_at_ns, now_ns, interval)
