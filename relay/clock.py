"""The only door to time: what waits, limits or retries is given a clock, so that tests run five days in a second."""

from __future__ import annotations

import time
from typing import Protocol

ID_EPOCH = 1_704_067_200.0
"""2024-01-01T00:00:00Z, from which the ids of messages count milliseconds (relay.spool.item.IdSource)."""


class Clock(Protocol):
    """Both are seconds. Wall time may jump; spans of time are measured with `monotonic`."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment, never going back; comparable within one machine until it restarts."""
        ...


class SystemClock:
    """The machine's own clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
