"""Who may not log in for a while (THROTTLE-10), one slot of the table each: when the block ends, and when it began."""

from __future__ import annotations

from relay.counters.cell_rate import NANOSECONDS
from relay.counters.table import KEY_BYTES, VALUES, Table

CLOCKS_APART_SECONDS = 60.0


def block(table: Table, key: str, until: float, now: float) -> None:
    """Until then at least; a block is never shortened."""
    table.lock()
    try:
        place = table.claim(("block", key), now)
        until_ns = max(int(until * NANOSECONDS), _end_ns(table, place, now))
        VALUES.pack_into(table.raw, place + KEY_BYTES, until_ns / NANOSECONDS, until_ns, int(now))
    finally:
        table.unlock()


def blocked_until(table: Table, key: str, now: float) -> float:
    """When its block ends; 0.0 where there is none."""
    table.look()
    try:
        place = table.find(("block", key))
        until = 0.0 if place < 0 else _end_ns(table, place, now) / NANOSECONDS
        return until if until > now else 0.0
    finally:
        table.done()


def _end_ns(table: Table, place: int, now: float) -> int:
    """The end of a block; 0 for one that a clock ahead of this one began, which would last as long as it was wrong."""
    _, until_ns, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    return until_ns if began <= now + CLOCKS_APART_SECONDS else 0
