"""A clock that goes only when told to."""

from __future__ import annotations

START = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class FakeClock:
    """`relay.clock.Clock` under the test's control. `jump` moves the wall alone, as an operator or NTP does."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        if seconds < 0:
            raise ValueError("time does not run backwards; use jump for a wall clock that is set back")
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; the monotonic one does not notice."""
        self._now += seconds
