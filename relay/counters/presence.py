"""Who is present in the workers of a node: one count for each worker, in one slot of the table."""

from __future__ import annotations

from relay.counters.cell_rate import CELLS
from relay.counters.table import EXPIRES, FIRST_CELL, KEY_BYTES, VALUES, Table

HELD = float("inf")  # a slot that ends when it is told to, not by time


def enter(table: Table, key: str, member: int, now: float) -> int:
    """One more of `key` in worker number `member`; how many are present in all."""
    with table:
        place = table.claim(("present", key), now)
        VALUES.pack_into(table.raw, place + KEY_BYTES, HELD, 0, 0)
        first = place // 4 + FIRST_CELL
        table.cells[first + _checked(member)] += 1
        return sum(table.cells[first : first + CELLS])


def leave(table: Table, key: str, member: int, now: float) -> int:
    """One less; how many are left in all."""
    with table:
        place = table.find(("present", key))
        first = place // 4 + FIRST_CELL
        # Nothing there: the supervisor has vacated this worker meanwhile.
        if place < 0 or not table.cells[first + _checked(member)]:
            return 0
        table.cells[first + member] -= 1
        left = sum(table.cells[first : first + CELLS])
        if not left:
            EXPIRES.pack_into(table.raw, place + KEY_BYTES, now)
        return left


def present(table: Table, key: str) -> int:
    """How many are, in all workers."""
    table.look()
    try:
        place = table.find(("present", key))
        first = place // 4 + FIRST_CELL
        return sum(table.cells[first : first + CELLS]) if place >= 0 else 0
    finally:
        table.done()


def vacate(table: Table, member: int) -> None:
    """Nothing is present in worker `member` any more."""
    with table:
        for place in table.offsets():
            if EXPIRES.unpack_from(table.raw, place + KEY_BYTES)[0] == HELD:
                first = place // 4 + FIRST_CELL
                table.cells[first + _checked(member)] = 0
                if not any(table.cells[first : first + CELLS]):
                    EXPIRES.pack_into(table.raw, place + KEY_BYTES, 0.0)


def _checked(member: int) -> int:
    if not 0 <= member < CELLS:
        raise ValueError(f"worker number {member} is not one of {CELLS}")
    return member
