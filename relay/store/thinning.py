"""The delivery log of one tenant: that keeps it for less long than the others (GDPR-13), or leaves (GDPR-18).

A line tells whose it is only when it is opened, so a whole day is read, once, when it has become too old for this tenant. A line
of before every line told that, whose first line is gone, is nobody's: it goes with its day.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from relay.store.history import BUSY_SECONDS, PLAIN, Event, day_of, has_tables, paths

BATCH = 500
Unseal = Callable[[int, bytes], bytes]


def thin(folder: Path, moment: float, tenant: str, unseal: Unseal, done: set[tuple[str, str]]) -> int:
    """Delete what `tenant` sent on days that ended before `moment`; how many lines. `done` remembers days that were read.

    Raises sqlite3.Error; then it is to be done again.
    """
    gone = 0
    senders: dict[int, str] = {}
    for path in paths(folder, PLAIN):
        if path.name[:10] >= day_of(moment) or (path.name, tenant) in done:
            continue
        place = f"file:{path}?mode=rw"
        with contextlib.closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=BUSY_SECONDS)) as db:
            if has_tables(db):
                senders |= _senders(db, unseal)
                numbers = [row[0] for row in db.execute("SELECT DISTINCT id FROM event")]
                gone += _delete(db, [number for number in numbers if senders.get(number) == tenant])
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        done.add((path.name, tenant))
    return gone


def forget_tenant(folder: Path, tenant: str, unseal: Unseal) -> int:
    """Delete what a tenant sent, of all days; how many lines. May be done again, and says 0 when nothing is left.

    Raises sqlite3.Error; then it is to be done again.
    """
    gone = 0
    senders: dict[int, str] = {}
    for path in sorted(folder.glob("*.history")):
        with _opened(path, "rw") as db:
            if not has_tables(db):
                continue
            senders |= _senders(db, unseal)
            numbers = [row[0] for row in db.execute("SELECT DISTINCT id FROM event")]
            lines = _delete(db, [number for number in numbers if senders.get(number) == tenant])
            gone += lines
            if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] and lines:
                raise sqlite3.OperationalError("a reader kept old pages of the delivery log alive")
    return gone


def lines_of(folder: Path, tenant: str, unseal: Unseal) -> Iterator[Event]:
    """What is known of the mail of a tenant, day by day; of a day that just goes, nothing. Raises sqlite3.Error."""
    senders: dict[int, str] = {}
    for path in sorted(folder.glob("*.history")):
        with contextlib.suppress(FileNotFoundError), _opened(path, "ro") as db:
            if not has_tables(db):
                continue
            for number, at, word, blob in db.execute("SELECT id, at, word, data FROM event ORDER BY seq"):
                data: dict[str, Any] = orjson.loads(unseal(number, blob))
                if "tenant" in data:
                    senders[number] = data["tenant"]
                if senders.get(number) == tenant:
                    yield Event(number, at, word, data)


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Raises FileNotFoundError where retention has taken it this moment."""
    if not path.exists():
        raise FileNotFoundError(path)
    place = f"file:{path}?mode={mode}"
    with contextlib.closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=BUSY_SECONDS)) as db:
        yield db


def _senders(db: sqlite3.Connection, unseal: Unseal) -> dict[int, str]:
    """Tenants by message, where a line says so."""
    found: dict[int, str] = {}
    for number, blob in db.execute("SELECT id, data FROM event"):
        data: dict[str, Any] = orjson.loads(unseal(number, blob))
        if "tenant" in data:
            found[number] = data["tenant"]
    return found


def _delete(db: sqlite3.Connection, numbers: list[int]) -> int:
    db.execute("PRAGMA secure_delete=ON")
    db.execute("PRAGMA temp_store=MEMORY")
    gone = 0
    for lot in _lots(numbers):
        marks = ",".join("?" * len(lot))
        db.execute("BEGIN IMMEDIATE")
        gone += db.execute(f"DELETE FROM event WHERE id IN ({marks})", lot).rowcount
        db.execute("COMMIT")
    if numbers:  # found by hash first, so by message only with a look at all
        db.execute("DELETE FROM who WHERE id NOT IN (SELECT id FROM event)")
    return gone


def _lots(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH))
