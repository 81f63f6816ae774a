"""Disks of their own for tests that fill or break them, and where mail goes meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.disk import Disk
from tests.faults.world import Sink


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    made.port = await made.start()
    yield made
    await made.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """64 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs the superuser to mount it")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Disk]:
    """One that fails from one moment to the next, as a power cut or a broken controller has it."""
    missing = [name for name in ("mkfs.xfs", "xfs_io", "mount") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a failing disk needs the superuser and XFS ({', '.join(missing) or 'not the superuser'})")
    try:
        made = Disk(tmp_path)
        made.mount()
    except OSError as error:
        pytest.skip(f"a failing disk needs loop devices: {error}")
    yield made
    subprocess.run(["umount", "-l", str(made.place)], capture_output=True, check=False)
