"""The processes under a supervisor, each in its place, and how workers take in new certificates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from relay.observe import events, metrics
from relay.observe.log import log
from relay.serve.channel import Channel, OpRefused, OpUnavailable
from relay.serve.zygote import Process

RELOAD_SECONDS = 5.0


class Child:
    """One place: the process in it, its channel, and the metrics of those before it."""

    def __init__(self, place: int, sockets: list[tuple[int, int]]) -> None:
        self.place = place
        self.sockets = sockets
        self.process: Process | None = None
        self.channel: Channel | None = None
        self.ready = asyncio.Event()
        self.snapshot: metrics.Snapshot | None = None
        self.must_reload = False  # it was asked for while this one started
        self.state = "missing"  # one of relay.serve.vitals.STATES


async def reload_certificates(workers: Sequence[Child]) -> bool:
    """Whether a worker refused its pair, or gave no answer."""
    problems = [problem for told in await asyncio.gather(*map(_reloaded, workers)) for problem in told]
    for problem in problems:
        log.error(events.RELOAD_REFUSED, problem=problem)
    return bool(problems)


async def _reloaded(child: Child) -> list[str]:
    """What one worker could not take. One that does not answer is replaced, since it would go on with what is old.

    A worker that starts at this moment may have read the old files: it is asked as soon as it has said hello.
    """
    process = child.process
    if child.channel is None:
        child.must_reload = True
        return []
    try:
        problems: list[str] = await child.channel.call("worker.reload", timeout=RELOAD_SECONDS)
    except (OpUnavailable, OpRefused):
        child.must_reload = True  # for its successor, and then nothing is refused any more
        if process is not None and process is child.process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return [f"worker {child.place} did not answer and is replaced; its successor reads what is new"]
    return problems
