"""Disks that fill up or fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

SIZE = 400 << 20


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all but `leave` octets of what the gateway leaves it."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while (space := os.statvfs(disk)).f_bavail * space.f_frsize > leave:
            file.write(b"\0" * 4096)
    return ballast


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
