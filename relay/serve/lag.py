"""How late the event loop of this process is: what it is asked to do in a quarter of a second, and when it does it."""

from __future__ import annotations

import asyncio

from relay.observe import metrics

PROBE_SECONDS = 0.25


async def probe() -> None:
    """Without end."""
    loop = asyncio.get_running_loop()
    while True:
        start = loop.time()
        await asyncio.sleep(PROBE_SECONDS)
        metrics.LOOP_LAG.observe(max(0.0, loop.time() - start - PROBE_SECONDS))
