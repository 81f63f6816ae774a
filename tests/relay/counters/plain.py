"""The limits once more, written to be read and not to be fast: lists of charges, fractions, and every hour tried in turn."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from relay.counters.contract import DAY, PARK_HORIZON_SECONDS, Charge, Limit

HOUR = 3600


class Plain(NamedTuple):
    """What the model says of one take: granted, and the earliest time that the message may leave (now at the earliest)."""

    granted: bool
    due: Fraction


class PlainLimits:
    """Charges as they were made: rates as the units that were ahead, at which time and pace; days as lists of (hour, units)."""

    def __init__(self) -> None:
        self.rates: dict[str, tuple[Fraction, int, Fraction]] = {}
        self.days: dict[Limit, list[tuple[int, int]]] = {}

    def take(self, charges: Sequence[Charge], now: int, *, park: bool) -> Plain:
        due = Fraction(now)
        rates: dict[str, tuple[Fraction, int, Fraction]] = {}
        for limit, cost in charges:
            if limit.period_seconds < DAY:
                if not park and cost > limit.burst:
                    return Plain(False, due)
                interval = Fraction(limit.period_seconds, limit.amount)
                units = self._ahead(limit.key, now, interval) + cost
                rates[limit.key] = units, now, interval
                due = max(due, now + (units - limit.burst) * interval)
        daily = [(limit, cost) for limit, cost in charges if limit.period_seconds == DAY]
        hour = self._hour(daily, now // HOUR, int(due) // HOUR)
        if hour is None or (not park and (due > now or hour > now // HOUR)):
            return Plain(False, due)
        if daily and hour > now // HOUR:
            filled = max(Fraction(self._at(limit, hour), limit.amount) for limit, _ in daily)
            due = max(due, (hour + filled) * HOUR)
        if due > now + PARK_HORIZON_SECONDS:
            return Plain(False, due)
        self.rates.update(rates)
        for limit, cost in daily:
            self.days.setdefault(limit, []).append((hour, cost))
        return Plain(True, due)

    def _ahead(self, key: str, now: int, interval: Fraction) -> Fraction:
        """Units that are not over at `now`; since they were charged they went down by the faster of both paces."""
        units, at, made = self.rates.get(key, (Fraction(0), now, interval))
        return max(Fraction(0), units - (now - at) / min(made, interval))

    def _hour(self, daily: Sequence[Charge], present: int, earliest: int) -> int | None:
        for hour in range(earliest, present + 49):
            if all(self._fits(limit, cost, hour, present) for limit, cost in daily):
                return hour
        return None

    def _fits(self, limit: Limit, cost: int, hour: int, present: int) -> bool:
        """`cost` more in `hour` leaves every window that holds it, as far as reservations reach, within the limit."""
        ends = range(hour, min(hour + 24, present + 49))
        return all(self._window(limit, end) + cost <= limit.amount for end in ends)

    def _window(self, limit: Limit, end: int) -> int:
        return sum(units for hour, units in self.days.get(limit, ()) if end - 24 < hour <= end)

    def _at(self, limit: Limit, wanted: int) -> int:
        return sum(units for hour, units in self.days.get(limit, ()) if hour == wanted)
