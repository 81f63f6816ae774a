"""Many rows in few statements, for the threads that write beside the event loop.

The module of sqlite3 gives up the interpreter's lock for each row that it inserts, and `executemany` inserts them one by one.
A thread that writes a few thousand rows a second that way asks the loop for the lock as often, and each asking costs both a
switch; one statement of many rows asks once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

MOST_ROWS = 64  # of one statement


def put_rows(db: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows of one width by `statement`, which ends in VALUES; up to MOST_ROWS of them are one statement.

    Raises sqlite3.Error; what went before the statement that failed is in the caller's transaction, if there is one.
    """
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        db.execute(_with_places(statement, len(some), len(some[0])), [*chain.from_iterable(some)])


@lru_cache(maxsize=1024)
def _with_places(statement: str, rows: int, columns: int) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    return f"{statement} {','.join([row] * rows)}"
