"""The processes under a supervisor, each in its place, and how workers take in new certificates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from relay.observe import metrics
from relay.serve.channel import Channel, OpRefused, OpUnavailable
from relay.serve.zygote import Process

RELOAD_SECONDS = 5.0
WEB = -1  # the place of the web process


class Child:
    """One place: the process in it, its channel, and the metrics of those before it."""

    def __init__(self, place: int, sockets: list[tuple[int, int]]) -> None:
        self.place = place
        self.sockets = sockets
        self.process: Process | None = None
        self.channel: Channel | None = None
        self.ready = asyncio.Event()  # for the first time
        self.here = asyncio.Event()  # the process that is in it now has said hello
        self.ended_early = asyncio.Event()  # one ended without that
        self.is_leaving = False  # its process was asked to end, for a successor
        self.is_renewed = False  # that, and until the successor is there
        self.snapshot: metrics.Snapshot | None = None
        self.must_reload = False  # it was asked for while this one started
        self.state = "missing"  # one of relay.serve.vitals.STATES

    @property
    def name(self) -> str:
        """For people."""
        return "the web process" if self.place == WEB else f"worker {self.place}"


async def reload_certificates(workers: Sequence[Child]) -> list[str]:
    """What workers refused, or that they gave no answer; each thing once."""
    told = await asyncio.gather(*map(_reloaded, workers))
    return list(dict.fromkeys(problem for problems in told for problem in problems))


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
