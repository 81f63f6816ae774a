"""Errors by which nothing is broken: there are no descriptors left. Told as what they are, and not for each connection."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

from relay.clock import SystemClock
from relay.observe import events, metrics
from relay.observe.log import log

EVERY_SECONDS = 60.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)


class Scarcity:
    """Tells of the want of descriptors once in `EVERY_SECONDS`, with how often it was met since."""

    def __init__(self) -> None:
        self._monotonic = SystemClock().monotonic
        self._told_at = float("-inf")
        self._count = 0

    def met(self, error: BaseException | None) -> bool:
        """True where `error` is that want; then it needs no other word in the log."""
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            return False
        self._count += 1
        metrics.DESCRIPTORS_EXHAUSTED.inc()
        now = self._monotonic()
        if now - self._told_at >= EVERY_SECONDS:
            log.error(events.DESCRIPTORS_EXHAUSTED, error_count=self._count)
            self._told_at, self._count = now, 0
        return True

    def heard(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For `loop.set_exception_handler`: accept() fails so too."""
        if not self.met(context.get("exception")):
            loop.default_exception_handler(context)


scarcity = Scarcity()
"""The one of this process."""
