"""Takes back what was charged in the table for a message that was not taken after all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relay.counters import sudden
from relay.counters.answer import Asked
from relay.counters.cell_rate import CELLS, FUTURE, NANOSECONDS, NOW, interval_ns, step_of, warm_up_day
from relay.counters.contract import DAY, HABITS, IN_LINE, Charge, Limit
from relay.counters.table import FIRST_CELL, KEY_BYTES, VALUES, Table
from relay.policy.facts import Allowance


class Taken(NamedTuple):
    """One charge as it was written; `pieces` as in `Asked`."""

    limit: Limit
    cost: int
    pieces: Sequence[tuple[int, int]]


def receipt(charges: Sequence[Charge], asked: Sequence[Asked]) -> list[Taken]:
    """What was written for charges that were asked with care."""
    pairs = zip(charges, asked, strict=True)
    return [Taken(limit, cost, answer.pieces) for (limit, cost), answer in pairs]


def give_back(table: Table, charges: Sequence[Charge], now: float, allowance: Allowance) -> None:
    """Only under the table's lock. People who were met stay met, so what they cost stays as well: it is not asked again."""
    kept = allowance.receipt
    for limit, cost, pieces in kept if isinstance(kept, list) else _at_once(charges, now):
        place = table.find(limit[:3])
        if place < 0 or limit.people:
            continue
        if limit.name in HABITS:
            sudden.take_back(table, place, cost, now)
        elif limit.since > 0:
            _lower(table, place, ((day % CELLS, units) for day, units in pieces))
        elif limit.period_seconds < DAY:
            _, tat, made = VALUES.unpack_from(table.raw, place + KEY_BYTES)
            tat = max(0, tat - cost * (made or interval_ns(limit.amount, limit.period_seconds)))
            VALUES.pack_into(table.raw, place + KEY_BYTES, tat / NANOSECONDS, tat, made)
        else:
            head, step = VALUES.unpack_from(table.raw, place + KEY_BYTES)[2], step_of(now, limit.period_seconds)
            here = ((step + ahead, units) for ahead, units in pieces)
            _lower(table, place, ((at % CELLS, units) for at, units in here if head - NOW <= at <= head + FUTURE))


def _at_once(charges: Sequence[Charge], now: float) -> Iterable[Taken]:
    """The charges as `relay.counters.quick` writes them."""
    for limit, cost in charges:
        if limit.since != IN_LINE:
            yield Taken(limit, cost, ((warm_up_day(limit.since, now) if limit.since > 0 else 0, cost),))


def _lower(table: Table, place: int, cells: Iterable[tuple[int, int]]) -> None:
    for at, units in cells:
        cell = place // 4 + FIRST_CELL + at
        table.cells[cell] -= min(units, table.cells[cell])
