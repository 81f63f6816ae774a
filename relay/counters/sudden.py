"""What is sudden for an account (THROTTLE-7): the last hour beside the days before it, in one slot of the table.

A slot holds RING spells of five minutes, then RING days, each at its number modulo RING. Its value is the spell that was written
last, its head the second in which counting began: before 14 days are counted nothing is sudden, so that a store that was lost
holds up nobody. It is kept for a year of silence, since who has been silent for long is whom a thief likes best.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.counters.cell_rate import (
    DAY_SECONDS,
    DAY_SPELLS,
    HISTORY_DAYS,
    HOUR_SPELLS,
    RING,
    last_hour,
    spell_of,
    times_over,
)
from relay.counters.contract import Limit
from relay.counters.table import FIRST_CELL, KEY_BYTES, VALUES, Table

KEPT_SECONDS = 400 * DAY_SECONDS


def read(table: Table, place: int, now: float) -> tuple[Sequence[int], int, int, int]:
    """(row, last spell written, second in which counting began, present spell); nothing counted is (.., 0, 0, ..)."""
    if place < 0:
        return (), 0, 0, spell_of(now, 0)
    _, last, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    first = place // 4 + FIRST_CELL
    return table.cells[first : first + 2 * RING].tolist(), last, began, spell_of(now, last)


def ask(table: Table, place: int, limit: Limit, cost: int, now: float) -> bool:
    """Whether `cost` more would be sudden."""
    row, last, began, spell = read(table, place, now)
    if not began or spell < last or now - began < HISTORY_DAYS * DAY_SECONDS:
        return False
    hour = cost + last_hour(row, last, spell)
    return hour > limit.amount and times_over(row, last, spell, hour, limit.burst)


def used(table: Table, place: int, now: float) -> int:
    """Units of the last hour."""
    row, last, began, spell = read(table, place, now)
    return last_hour(row, last, spell) if began and spell >= last else 0


def write(table: Table, place: int, cost: int, now: float) -> None:
    """Count `cost`. Only under the table's lock."""
    _, last, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    spell = spell_of(now, last)
    first, cells = place // 4 + FIRST_CELL, table.cells
    day, last_day = spell // DAY_SPELLS, last // DAY_SPELLS
    if not began or spell < last:  # new, or written by a clock that was wrong
        began, last, last_day = max(1, int(now)), spell - RING, day - RING
    for at in range(max(last, spell - RING) + 1, spell + 1):
        cells[first + at % RING] = 0
    for at in range(max(last_day, day - RING) + 1, day + 1):
        cells[first + RING + at % RING] = 0
    VALUES.pack_into(table.raw, place + KEY_BYTES, now + KEPT_SECONDS, spell, began)
    cells[first + spell % RING] += cost
    cells[first + RING + day % RING] += cost


assert HOUR_SPELLS < RING and HISTORY_DAYS < RING
