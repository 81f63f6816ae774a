"""One gateway's counters as a process of its own, whose sessions charge all the time.

    python -m tests.faults.limits_node URL FOLDER

Each line on standard input is answered with one JSON line on standard output: what happened since the start. The end of the
input ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relay.counters.contract import DAY, MINUTE, Charge, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import open_shared
from relay.observe import metrics
from relay.policy.facts import Allowance
from relay.settings.storage import Storage

SESSIONS = 20
SHARE = 0.1
TIMEOUT_SECONDS = 1.5
PACE_SECONDS = 0.032
# A day gives nothing back while a test runs, so every unit above the amount is excess.
DAILY = Limit("recipients_per_day", "tenant", "t:7", 3000, DAY, 0, 7)
# In a cluster this one lies in a slot of its own; it never bites.
CLIENT = Limit("messages_per_minute", "client", "i:192.0.2.1", 1_000_000, MINUTE, 1_000_000)
CHARGES: list[Charge] = [(DAILY, 1), (CLIENT, 1)]


class Watched(EmbeddedCounters):
    """The node's own counters, which tell how much they have let through."""

    granted = 0

    def take(self, charges: Sequence[Charge], now: float, *, park: bool, max_parked: int = 0) -> Allowance:
        answer = super().take(charges, now, park=park, max_parked=max_parked)
        self.granted += answer.granted
        return answer


class Node:
    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.here = Watched(folder)
        storage = Storage(counters=url, counters_degraded_share=SHARE, counters_timeout_seconds=TIMEOUT_SECONDS)
        self.shared = open_shared(storage, self.here)
        self.granted = self.refused = self.number = 0
        self.longest = self.latest = 0.0

    async def session(self) -> None:
        while True:
            self.number += 1
            begun = time.monotonic()
            answer = self.shared.take(CHARGES, time.time(), once=self.number, park=False)
            allowance = answer if isinstance(answer, Allowance) else await answer
            self.longest = max(self.longest, time.monotonic() - begun)
            self.granted += allowance.granted
            self.refused += not allowance.granted
            await asyncio.sleep(PACE_SECONDS)

    async def lag(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            self.latest = max(self.latest, time.monotonic() - begun - 0.01)

    def told(self) -> dict[str, Any]:
        degraded = bool(self.shared.note)
        assert degraded == bool(metrics.LIMITS_DEGRADED.values[()])
        return {
            "granted": self.granted, "refused": self.refused, "local": self.here.granted, "degraded": degraded,
            "longest": self.longest, "lag": self.latest, "why": self.shared.note,
        }  # fmt: skip


async def main(url: str, folder: Path) -> None:
    node = Node(url, folder)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = [loop.create_task(node.shared.watch()), loop.create_task(node.lag())]
    tasks += [loop.create_task(node.session()) for _ in range(SESSIONS)]
    while await reader.readline():
        broken = [task for task in tasks if task.done()]
        sys.stdout.write(json.dumps({**node.told(), "broken": [repr(task) for task in broken]}) + "\n")
        sys.stdout.flush()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await node.shared.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
