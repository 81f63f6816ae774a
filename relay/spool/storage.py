"""Whether the disk under the queue takes mail, and when to try it again."""

from __future__ import annotations

import os
from pathlib import Path

from relay.observe import events
from relay.observe.log import log

PROBE_SECONDS = 1.0
FAILED = "queue.unavailable"
SPACE_LOW = "queue.full"


class Storage:
    """What the last commit and the last look at the free space said. `min_free_bytes` 0: space is not looked at."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free = min_free_bytes
        self._next_probe = 0.0
        self.failure = ""
        self.space = ""

    def note(self, error: BaseException | None) -> None:
        """A commit or a new segment succeeded or failed."""
        if error is None and self.failure:
            log.info(events.QUEUE_RECOVERED)
        elif error is not None and not self.failure:
            log.error(events.QUEUE_UNAVAILABLE, why=f"{type(error).__name__}: {error}"[:200])
        self.failure = "" if error is None else FAILED

    def look(self) -> None:
        """Is there room for new mail? What is over `min_free_bytes` is kept for writing down outcomes."""
        if not self._min_free:
            return
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return  # the next commit will say what is wrong
        low = disk.f_bavail * disk.f_frsize < self._min_free
        if low and not self.space:
            log.error(events.QUEUE_UNAVAILABLE, why=SPACE_LOW)
        elif self.space and not low:
            log.info(events.QUEUE_RECOVERED)
        self.space = SPACE_LOW if low else ""

    def wants_probe(self, now: float) -> bool:
        """It failed, and the last probe is long enough ago. `now` is monotonic."""
        if not self.failure or now < self._next_probe:
            return False
        self._next_probe = now + PROBE_SECONDS
        return True
