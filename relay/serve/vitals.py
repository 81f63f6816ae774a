"""What only the supervisor can measure: the disk, its processes, keys that DNS shows otherwise, how long it runs."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from relay.clock import SystemClock
from relay.dkim import rotation
from relay.observe import events, metrics
from relay.observe.log import log
from relay.serve.ownership import Ownership
from relay.settings.model import Settings

DISK_SECONDS = 5.0
KEYS_EVERY = 60  # looks at the disk to one at the keys
STATES = ("running", "silent", "missing")


class Vitals:
    """Call `watch` once."""

    def __init__(self, settings: Settings, ownership: Ownership) -> None:
        self.settings = settings
        self._ownership = ownership
        metrics.START_TIME.set(SystemClock().now())

    async def watch(self, stopping: asyncio.Event) -> None:
        """Measure until the gateway stops; what cannot be measured keeps its last value."""
        looks = 0
        while not stopping.is_set():
            try:
                await asyncio.to_thread(self._measure_disk)
                if looks % KEYS_EVERY == 0:
                    await self._measure_keys()
            except Exception as error:  # a number that cannot be had ends neither the others nor the gateway
                log.warning(events.MEASURE_FAILED, kind=type(error).__name__)
            looks += 1
            await asyncio.sleep(DISK_SECONDS)

    def _measure_disk(self) -> None:
        metrics.DISK_RESERVE.set(self.settings.limits.min_free_disk_bytes)
        disk = os.statvfs(self.settings.server.data_dir)
        metrics.DISK_FREE.set(disk.f_bavail * disk.f_frsize)
        metrics.DISK_SIZE.set(disk.f_blocks * disk.f_frsize)

    async def _measure_keys(self) -> None:
        rows = await self._ownership.call("dkim.list", {})
        metrics.DKIM_DUE.set(len(rotation.due(rows, SystemClock().now())))
        metrics.DKIM_MISMATCHED.set(sum(row["state"] == "active" and bool(row["mismatch_since"]) for row in rows))


def measure_processes(web: str, workers: list[str]) -> None:
    """Set the gauge of processes; each is one of STATES."""
    for kind, states in (("web", [web]), ("worker", workers)):
        counts = Counter(states)
        for state in STATES:
            metrics.PROCESSES.set(counts[state], (kind, state))
