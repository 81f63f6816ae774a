"""The files of a queue file on the disk: its lock, what may be left of it, and names that last."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def remove_remains(stem: Path) -> None:
    """What lies beside a queue file that is gone; its lock goes last. The caller holds the lock."""
    for suffix in (".queue-wal", ".queue-shm"):
        stem.with_suffix(suffix).unlink(missing_ok=True)
    shutil.rmtree(stem.with_suffix(".bodies"), ignore_errors=True)
    stem.with_suffix(".lock").unlink(missing_ok=True)


def sweep(stem: Path) -> None:
    """Remove the remains of a queue file that is gone, unless somebody holds them or is making it this moment."""
    lock_fd = lock(stem.with_suffix(".queue"))
    if lock_fd is None:
        return
    if not stem.with_suffix(".queue").exists():
        remove_remains(stem)
    os.close(lock_fd)


def lock(path: Path) -> int | None:
    """The descriptor of the lock of the queue file `path`; None when somebody has it, or has just removed it."""
    beside = path.with_suffix(".lock")
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner may have removed the lock file while we opened it: then we hold a lock that nobody else can see.
        if os.fstat(fd).st_ino == os.stat(beside).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, parts: Sequence[bytes]) -> None:
    """A new file, on disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)
