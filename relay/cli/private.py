"""Files with personal data: for our eyes, and never in place of another."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, BinaryIO

from relay.cli.trouble import NO, Trouble

if TYPE_CHECKING:
    from pathlib import Path

UNFINISHED = ".part"


def refuse_existing(file: Path) -> None:
    """Raises FileExistsError before anything is asked for; `open_private` would raise it afterwards."""
    if file.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))


def open_private(file: Path) -> IO[str]:
    """A new file that only its owner may read. Raises FileExistsError."""
    return open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="")


@contextlib.contextmanager
def new_file(path: Path, what: str) -> Iterator[BinaryIO]:
    """A private file that gets its name when it is whole and durable. Raises Trouble where there is one of that name.

    `what` it is, for who writes another one at the same moment.
    """
    from relay.backup.take import sync

    if path.exists():
        raise Trouble(NO, f"{path} is there already: choose another name, nothing is overwritten")
    begun = path.with_name(path.name + UNFINISHED)
    handle = os.open(begun, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(handle, "w+b") as file, _ended_by_signals():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(NO, f"another {what} is writing {path} at this moment") from None
        try:
            os.fchmod(handle, 0o600)
            file.truncate(0)  # what a backup that was killed left
            yield file
            sync(file, path.parent)
            _name(begun, path)
            sync(file, path.parent)
        finally:
            begun.unlink(missing_ok=True)


def _name(begun: Path, path: Path) -> None:
    """Give the file its name, unless somebody has taken that meanwhile."""
    try:
        os.link(begun, path)
    except FileExistsError:
        raise Trouble(NO, f"{path} is there already: choose another name, nothing is overwritten") from None
    except OSError:  # a file system without second names
        begun.rename(path)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: with its clean-up."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
