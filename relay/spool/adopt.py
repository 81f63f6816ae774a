"""Taking over queue files without an owner: after a crash, a restart with fewer workers, or a copied folder."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from relay.spool.remains import sweep
from relay.spool.segment import DAMAGED, Row, Segment

NODES = 4096
_ERROR, _CORRUPT, _NOT_A_DATABASE = 1, 11, 26


class Adopted(NamedTuple):
    """A segment that is ours now, with the newest row of each of its live messages, without data."""

    segment: Segment
    rows: list[Row]


class Unusable(NamedTuple):
    """A queue file that cannot be opened. `aside`: it is damaged and lies there now; None: left, the next scan tries again."""

    path: Path
    aside: Path | None
    error: str


def candidates(folder: Path, known: Container[Path]) -> list[Path]:
    """Queue files that are not ours, oldest first; remains of files that are gone are removed. Runs in a thread."""
    found: list[Path] = []
    names = os.listdir(folder)
    present = {name for name in names if name.endswith(".queue")}
    for name in sorted(names):
        path = folder / name
        if name in present:
            if path not in known:
                found.append(path)
        elif _is_remains(name) and f"{name.partition('.')[0]}.queue" not in present:
            sweep(path.with_suffix(""))
    return found


def _is_remains(name: str) -> bool:
    return name.endswith((".lock", ".bodies", ".queue-wal")) and not name.startswith("node-")


def adopt(path: Path, number: int) -> Adopted | Unusable | None:
    """The segment at `path`; None when somebody holds it or it is gone. Runs in a thread."""
    try:
        segment = Segment.adopt(path, number)
    except (sqlite3.Error, OSError) as error:
        return _unusable(path, None, error)
    if segment is None:
        return None
    try:
        rows = segment.newest_rows()
        segment.clear_orphan_bodies({row.id for row in rows})
        return Adopted(segment, rows)
    except (sqlite3.Error, OSError) as error:
        return _unusable(path, segment, error)


def _unusable(path: Path, segment: Segment | None, error: Exception) -> Unusable:
    """Put a damaged file aside, so that it stops nothing; leave one that a full disk or a lack of memory keeps from us."""
    kind = f"{type(error).__name__}: {error}"
    if not is_damage(error):
        if segment is not None:
            segment.close()
        return Unusable(path, None, kind)
    try:
        segment = segment or Segment.hold(path)
        return Unusable(path, segment.set_aside() if segment is not None else None, kind)
    except OSError:
        return Unusable(path, None, kind)


def is_damage(error: BaseException) -> bool:
    """The file itself is bad, not the disk or the moment."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (_ERROR, _CORRUPT, _NOT_A_DATABASE)


def damaged(folder: Path) -> int:
    """Files that were put aside and wait for a person."""
    return sum(name.endswith(DAMAGED) for name in os.listdir(folder))


def claim_node(folder: Path) -> tuple[int, int]:
    """A number that no other live process of this machine has, and the lock's descriptor; so that queue ids never meet.

    Raises OSError where there is none to be had: no lock can be made, and all that lie there are taken.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = int.from_bytes(os.urandom(2), "big") % NODES
    failure: OSError | None = None
    for step in range(NODES):
        node = (start + step) % NODES
        try:
            fd = os.open(folder / f"node-{node}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:  # no room for a new name: one that was made before does as well
            failure = error
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return node, fd
    if failure is not None:
        raise failure
    raise RuntimeError(f"all {NODES} node numbers are taken")
