"""What is sudden for an account (THROTTLE-7): the last hour beside the days before it, in one slot of the table.

A slot holds RING spells of five minutes, then RING days, each at its number modulo RING; of a campaign also the largest day of
each span of three. Its value is the spell that was written last, its head the second in which counting began: before 14 days are
counted nothing is sudden, so that a store that was lost holds up nobody. It is kept for a year of silence, since who has been
silent for long is whom a thief likes best.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from relay.counters.cell_rate import (
    DAY_SECONDS,
    DAY_SPELLS,
    HISTORY_DAYS,
    HOUR_SPELLS,
    RING,
    SPAN_DAYS,
    SPAN_RING,
    SPANS,
    largest_day,
    last_hour,
    spell_of,
    times_over,
)
from relay.counters.contract import CAMPAIGN, Limit
from relay.counters.table import FIRST_CELL, KEY_BYTES, VALUES, Table

_SPELLS = struct.Struct(f"<{RING}I")
KEPT_SECONDS = 400 * DAY_SECONDS


def read(table: Table, place: int, now: float) -> tuple[Sequence[int], int, int, int]:
    """(row, last spell written, second in which counting began, present spell); nothing counted is (.., 0, 0, ..)."""
    if place < 0:
        return (), 0, 0, spell_of(now, 0)
    _, last, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    first = place // 4 + FIRST_CELL
    return table.cells[first : first + 2 * RING + SPAN_RING].tolist(), last, began, spell_of(now, last)


def ask(table: Table, place: int, limit: Limit, cost: int, now: float) -> int:
    """Units of the last hour with `cost` more, where that would be sudden; else 0."""
    if place >= 0:
        _, last, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
        known = sum(_SPELLS.unpack_from(table.raw, place + 4 * FIRST_CELL))  # more than an hour
        if began and last <= spell_of(now, last) and cost + known <= limit.amount:
            return 0
    row, last, began, spell = read(table, place, now)
    is_new = not began or spell < last
    if limit.name == CAMPAIGN:
        if is_new:
            return cost if not limit.behind and cost > limit.amount else 0
        hour = cost + last_hour(row, last, spell)
        if hour <= limit.amount or (limit.behind and now - began < limit.behind * DAY_SECONDS):
            return 0
        return hour if hour > limit.burst * largest_day(row, last, spell) else 0
    if is_new or now - began < HISTORY_DAYS * DAY_SECONDS:
        return 0
    hour = cost + last_hour(row, last, spell)
    return hour if hour > limit.amount and times_over(row, last, spell, hour, limit.burst) else 0


def used(table: Table, place: int, now: float) -> int:
    """Units of the last hour."""
    row, last, began, spell = read(table, place, now)
    return last_hour(row, last, spell) if began and spell >= last else 0


def write(table: Table, place: int, limit: Limit, cost: int, now: float) -> None:
    """Count `cost`. Only under the table's lock."""
    _, last, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    spell = spell_of(now, last)
    first, cells = place // 4 + FIRST_CELL, table.cells
    if began and spell == last:  # as nearly always: nothing is to be cleared, and no slot ends sooner for it
        _count(cells, first, spell, cost, is_campaign=limit.name == CAMPAIGN, last_day=last // DAY_SPELLS)
        return
    day, last_day = spell // DAY_SPELLS, last // DAY_SPELLS
    if not began or spell < last:  # new, or written by a clock that was wrong
        began, last, last_day = max(1, int(now)), spell - RING, day - SPAN_DAYS * SPAN_RING
    for at in range(max(last, spell - RING) + 1, spell + 1):
        cells[first + at % RING] = 0
    for at in range(max(last_day, day - RING) + 1, day + 1):
        cells[first + RING + at % RING] = 0
    VALUES.pack_into(table.raw, place + KEY_BYTES, now + KEPT_SECONDS, spell, began)
    _count(cells, first, spell, cost, is_campaign=limit.name == CAMPAIGN, last_day=last_day)


def take_back(table: Table, place: int, cost: int, now: float) -> None:
    """Take back what was counted a moment ago. Only under the table's lock. The largest day of a span stays as it is."""
    _, last, _ = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    spell, first = spell_of(now, last), place // 4 + FIRST_CELL
    for cell in (first + spell % RING, first + RING + spell // DAY_SPELLS % RING):
        table.cells[cell] -= min(cost, table.cells[cell])


def _count(cells: memoryview[int], first: int, spell: int, cost: int, *, is_campaign: bool, last_day: int) -> None:
    day = spell // DAY_SPELLS
    cells[first + spell % RING] += cost
    cells[first + RING + day % RING] += cost
    if is_campaign:
        _write_span(cells, first + RING, day, last_day)


def _write_span(cells: memoryview[int], days: int, day: int, last_day: int) -> None:
    """The largest day of the span of `day`, where the cells of the days begin at `days`."""
    span, last_span, spans = day // SPAN_DAYS, last_day // SPAN_DAYS, days + RING
    for at in range(max(last_span, span - SPAN_RING) + 1, span + 1) if span > last_span else ():
        cells[spans + at % SPAN_RING] = 0
    place = spans + span % SPAN_RING
    cells[place] = max(cells[place], cells[days + day % RING])


assert HOUR_SPELLS < RING and HISTORY_DAYS < RING and SPANS < SPAN_RING
