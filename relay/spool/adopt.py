"""Taking over queue files without an owner: after a crash, a restart with fewer workers, or a copied folder."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from relay.spool.segment import FINAL, MESSAGE, STATE, Row, Segment

NODES = 4096


class Adopted(NamedTuple):
    """A segment that is ours now: its live messages (without data) and the newest state row of those that have one."""

    segment: Segment
    rows: list[Row]
    states: dict[int, Row]


UNREADABLE: Final = "unreadable"
TAKEN: Final = "taken"


def adopt(path: Path, number: int) -> Adopted | str:
    """The segment at `path`, or TAKEN (somebody holds it) or UNREADABLE (left in place for a person). Runs in a thread."""
    try:
        segment = Segment.adopt(path, number)
        if segment is None:
            return TAKEN
        states = {row.id: row for row in segment.select(_STATES)}
        rows = list(segment.select(_LIVE))
    except sqlite3.Error:
        return UNREADABLE
    segment.clear_orphan_bodies({row.id for row in rows})
    return Adopted(segment, rows, states)


_LIVE = (
    "SELECT seq,id,kind,due,tenant,rank,held,NULL FROM log "
    f"WHERE kind={MESSAGE} AND id NOT IN (SELECT id FROM log WHERE kind={FINAL}) ORDER BY seq"
)
_STATES = (
    "SELECT max(seq),id,kind,due,tenant,rank,held,NULL FROM log "
    f"WHERE kind={STATE} AND id NOT IN (SELECT id FROM log WHERE kind={FINAL}) GROUP BY id"
)


def claim_node(folder: Path) -> tuple[int, int]:
    """A number that no other live process of this machine has, and the lock's descriptor; so that queue ids never meet."""
    folder.mkdir(parents=True, exist_ok=True)
    start = int.from_bytes(os.urandom(2), "big") % NODES
    for step in range(NODES):
        node = (start + step) % NODES
        fd = os.open(folder / f"node-{node}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return node, fd
    raise RuntimeError(f"all {NODES} node numbers are taken")
