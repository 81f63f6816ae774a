"""Power cuts: the file system under the data folder is shut down under load, so what was not synced is gone (OUT-1).

ZEGEL_TEST_POWER_CUTS says how many; 2 by default, 20 for the full run. Needs the superuser, loop devices and XFS.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.disk import Disk
from tests.faults.world import Clients, Sink, World, gone

pytestmark = pytest.mark.anyio

CUTS = int(os.environ.get("ZEGEL_TEST_POWER_CUTS", "2"))


@pytest.fixture
async def world(tmp_path: Path, failing_disk: Disk, sink: Sink) -> AsyncIterator[World]:
    made = World(tmp_path, sink.port, data=failing_disk.place / "data")
    yield made
    if made.process is not None:
        made.crash()


async def test_power_cuts(world: World, sink: Sink, failing_disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random()
    clients = Clients(world)
    cuts: list[float] = []
    await world.start(2)
    clients.start()
    for _ in range(CUTS):
        await clients.acknowledge(dice.randint(30, 200))
        await asyncio.sleep(dice.random() * 0.3)
        # First the processor, then the disk: an fsync that the shutdown itself cuts short may answer that all is well (seen
        # with a bare write and fdatasync), and a machine without power tells nobody.
        await world.freeze()
        failing_disk.cut()
        cuts.append(time.monotonic())
        await gone(world.crash())
        failing_disk.unmount()
        failing_disk.mount()
        await world.start(dice.choice([1, 2, 3]))
    await clients.stop()
    lost = await sink.wait_for(clients.acknowledged, 20.0)
    await world.stop()
    with capsys.disabled():
        sys.stderr.write(
            f"\n{CUTS} power cuts: {len(clients.acknowledged)} acknowledged, {len(lost)} lost, "
            f"{len(sink.twice())} arrived twice, {len(clients.in_doubt)} without an answer, {len(clients.refusals)} refused\n"
        )
    assert not lost, sorted(lost)[:20]
    assert not sink.unexplained(cuts, slack=1.0)
