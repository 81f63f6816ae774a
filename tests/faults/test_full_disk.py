"""A disk that fills up under a running gateway: senders hear 4xx, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.disk import fill
from tests.faults.world import Clients, Sink, World, gone

pytestmark = pytest.mark.anyio

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("min_free", "leave", "reply"), [(0, 0, "451 4.3.0"), (32 * MEGABYTE, 16 * MEGABYTE, "452 4.3.1")]
)
async def test_a_disk_that_fills_up(
    tmp_path: Path, disk: Path, sink: Sink, min_free: int, leave: int, reply: str
) -> None:
    world = World(tmp_path, sink.port, data=disk / "data", min_free_bytes=min_free)
    clients = Clients(world, sessions=4, pace=0.005)
    try:
        await world.start(2)
        clients.start()
        await clients.acknowledge(100)
        ballast = fill(disk, leave)
        refusals = await clients.be_refused(20)
        assert {refusal[: len(reply)] for refusal in refusals[5:]} == {reply}
        ballast.unlink()
        await clients.acknowledge(200)
        await clients.stop()
        assert not await sink.wait_for(clients.acknowledged, 20.0)
        assert sink.arrived.keys() <= clients.acknowledged | clients.in_doubt, "a refused message was sent"
        assert all(len(times) == 1 for times in sink.arrived.values())
        await world.stop()
    finally:
        if world.process is not None:
            world.crash()
    assert "queue.recovered" in world.log()


async def test_a_start_on_a_full_disk(tmp_path: Path, disk: Path, sink: Sink) -> None:
    """Killed while the disk is full, started while it is full: somebody answers 451, and it goes on by itself."""
    world = World(tmp_path, sink.port, data=disk / "data")
    clients = Clients(world, sessions=4, pace=0.005)
    try:
        await world.start(2)
        sink.answers = False
        clients.start()
        await clients.acknowledge(50)
        ballast = fill(disk, 0)
        await clients.be_refused(5)
        killed = world.crash()
        await gone(killed)
        told = len(world.log())
        await world.start(2)
        reasons = await asyncio.to_thread(world.reasons)
        refusals = await clients.be_refused(20)
        assert {refusal[:9] for refusal in refusals[5:]} == {"451 4.3.0"}
        assert reasons.count("queue: queue.unavailable") == 1, reasons
        sink.answers = True
        assert not await sink.wait_for(clients.acknowledged, 20.0), "what lay there did not go out"
        ballast.unlink()
        await clients.acknowledge(50)
        await clients.stop()
        assert not await sink.wait_for(clients.acknowledged, 20.0)
        assert sink.arrived.keys() <= clients.acknowledged | clients.in_doubt, "a refused message was sent"
        await world.stop()
    finally:
        if world.process is not None:
            world.crash()
    log = world.log()[told:]
    assert "Traceback" not in log and "child.ended" not in log and "crashed" not in log
    assert log.count('"queue.stopped"') == 2 and "queue.recovered" in log, "one event for each worker"
