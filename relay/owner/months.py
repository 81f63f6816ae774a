"""Terms in months, as the law counts them (GDPR 12(3); Regulation 1182/71 art. 3)."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime


def months_after(at: float, months: int) -> float:
    """The same day and time so many months later, UTC; the last day of the month where it has no such day.

    A term that ends on a Saturday, Sunday or holiday may by law run to the next working day: here it does not, to be sure.
    """
    moment = datetime.fromtimestamp(at, UTC)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day).timestamp()
