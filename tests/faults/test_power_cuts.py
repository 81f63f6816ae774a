"""Power cuts: the file system under the data folder is shut down under load, so what was not synced is gone (OUT-1).

ZEGEL_TEST_POWER_CUTS says how many; 2 by default, 20 for the full run. Needs the superuser, loop devices and XFS.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.world import Clients, Sink, World, gone

pytestmark = pytest.mark.anyio

CUTS = int(os.environ.get("ZEGEL_TEST_POWER_CUTS", "2"))
SIZE = 400 << 20
DOUBT_SECONDS = 3.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Disk:
    """An XFS image that can lose its power."""

    def __init__(self, folder: Path) -> None:
        self.image, self.place = folder / "image", folder / "disk"
        self.place.mkdir()
        self.image.touch()
        os.truncate(self.image, SIZE)
        _run("mkfs.xfs", "-q", str(self.image))

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.place))

    def cut(self) -> None:
        """Nothing that is not on the disk by now will ever be: not even the journal is flushed."""
        _run("xfs_io", "-x", "-c", "shutdown", str(self.place))

    def unmount(self) -> None:
        _run("umount", str(self.place))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    missing = [name for name in ("mkfs.xfs", "xfs_io", "mount") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a power cut needs the superuser and XFS ({', '.join(missing) or 'not the superuser'})")
    try:
        made = Disk(tmp_path)
        made.mount()
    except OSError as error:
        pytest.skip(f"a power cut needs loop devices: {error}")
    yield made
    subprocess.run(["umount", "-l", str(made.place)], capture_output=True, check=False)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    made.port = await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def world(tmp_path: Path, disk: Disk, sink: Sink) -> AsyncIterator[World]:
    made = World(tmp_path, sink.port, data=disk.place / "data")
    yield made
    if made.process is not None:
        made.crash()


async def test_power_cuts(world: World, sink: Sink, disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
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
        disk.cut()
        cuts.append(time.monotonic())
        await gone(world.crash())
        disk.unmount()
        disk.mount()
        await world.start(dice.choice([1, 2, 3]))
    await clients.stop()
    lost = await sink.wait_for(clients.acknowledged, 20.0)
    await world.stop()
    twice = {number: times for number, times in sink.arrived.items() if len(times) > 1}
    unexplained = [
        number
        for number, times in twice.items()
        if not all(any(-1.0 <= cut - at <= DOUBT_SECONDS for cut in cuts) for at in times[:-1])
    ]
    with capsys.disabled():
        sys.stderr.write(
            f"\n{CUTS} power cuts: {len(clients.acknowledged)} acknowledged, {len(lost)} lost, "
            f"{len(twice)} arrived twice, {len(clients.in_doubt)} without an answer, {len(clients.refusals)} refused\n"
        )
    assert not lost, sorted(lost)[:20]
    assert not unexplained
