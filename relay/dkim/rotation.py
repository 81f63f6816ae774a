"""When a key is to be replaced, and how long the record of the one before must stay (DKIM-9). Pure.

A signature is verified when the mail arrives, and read again by forwarders and archives. So the record of a retired key
stays for as long as mail may wait in a queue and 14 days more, which is also how long a signature is good for (DKIM-7).
After that an empty `p=` says that nothing may be signed with it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

DAY: Final = 86_400.0
ROTATE_AFTER_DAYS: Final = 182
KEEP_DAYS: Final = 14
QUEUE_HOURS: Final = 120.0
CHECK_SECONDS: Final = DAY
FIRST_CHECK_SECONDS: Final = 3_600.0

Row = Mapping[str, Any]
"""A key as `dkim.list` shows it."""


def keep_seconds(give_up_hours: float) -> float:
    """How long the record of a retired key stays, where mail waits for at most so many hours."""
    return KEEP_DAYS * DAY + give_up_hours * 3_600.0


def retired_at(row: Row, rows: Sequence[Row]) -> float | None:
    """When the next key took over from this one; None for one that is not retired."""
    if row["state"] != "retired":
        return None
    mine = (row["domain"], row["algorithm"])
    since: float = row["activated_at"] or row["created_at"]
    later: list[float | None] = [
        other["activated_at"] for other in rows if (other["domain"], other["algorithm"]) == mine
    ]
    return min((at for at in later if at and at > since), default=since)


def is_due(row: Row, now: float) -> bool:
    """It signs for half a year or longer: time for the next one."""
    return row["state"] == "active" and now - (row["activated_at"] or now) >= ROTATE_AFTER_DAYS * DAY


def due(rows: Sequence[Row], now: float) -> list[Row]:
    """Keys that are to be replaced and of which the next is not in the making yet."""
    coming = {(row["domain"], row["algorithm"]) for row in rows if row["state"] == "inactive"}
    return [row for row in rows if is_due(row, now) and (row["domain"], row["algorithm"]) not in coming]


def to_check(rows: Sequence[Row], now: float) -> list[str]:
    """Domains whose records are to be looked at: each key once a day, one that is to take over once an hour (DKIM-8).

    Not those that the operator answers for, and not in the first hour: then he does it himself.
    """
    names = set()
    for row in rows:
        wait = {"active": CHECK_SECONDS, "inactive": FIRST_CHECK_SECONDS}.get(row["state"])
        since = row["checked_at"] or row["created_at"] + FIRST_CHECK_SECONDS - (wait or 0.0)
        if wait is not None and not row["vouched_by"] and now - since >= wait:
            names.add(str(row["domain"]))
    return sorted(names)
