"""The delivery log of one tenant: that keeps it for less long than the others (GDPR-13), or leaves (GDPR-18).

A line tells whose it is only when it is opened, so a day that has become too old for some tenant is opened once, and what was
learned of it is kept in its file (`sender`). A line of before every line told that, whose first line is gone, is nobody's: it
goes with its day.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from relay.store.connection import place
from relay.store.history import BUSY_SECONDS, PLAIN, Event, day_of, has_tables, paths

BATCH = 500
Unseal = Callable[[int, bytes], bytes]


def thin(folder: Path, ends: Mapping[str, float], unseal: Unseal) -> int:
    """Delete what each tenant of `ends` sent on days that ended before its moment; how many lines. May be done again.

    Raises sqlite3.Error.
    """
    due = {
        path: [tenant for tenant, end in ends.items() if path.name[:10] < day_of(end)] for path in paths(folder, PLAIN)
    }
    days = [path for path, tenants in due.items() if tenants]
    for index, path in enumerate(days):
        with contextlib.suppress(FileNotFoundError), _opened(path, "rw") as db:
            if has_tables(db):
                _learn_senders(db, unseal, days[:index])
    gone = 0
    for path in days:
        with contextlib.suppress(FileNotFoundError), _opened(path, "rw") as db:
            if _has_senders(db):
                marks = ",".join("?" * len(due[path]))
                found = db.execute(f"SELECT id FROM sender WHERE tenant IN ({marks})", due[path]).fetchall()
                gone += _delete(db, [number for (number,) in found])
                if found:
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
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
    with contextlib.closing(
        sqlite3.connect(place(path, mode), uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    ) as db:
        yield db


def _senders(db: sqlite3.Connection, unseal: Unseal) -> dict[int, str]:
    """Tenants by message, where a line says so."""
    found: dict[int, str] = {}
    for number, blob in db.execute("SELECT id, data FROM event"):
        data: dict[str, Any] = orjson.loads(unseal(number, blob))
        if "tenant" in data:
            found[number] = data["tenant"]
    return found


def _learn_senders(db: sqlite3.Connection, unseal: Unseal, older: Iterable[Path]) -> None:
    """Make the table of messages and their tenants, once. Who is not named in this file may be in one of the `older`."""
    if _has_senders(db):
        return
    found = _senders(db, unseal)
    unknown = {row[0] for row in db.execute("SELECT DISTINCT id FROM event")} - found.keys()
    for path in older if unknown else ():
        with contextlib.suppress(FileNotFoundError), _opened(path, "ro") as other:
            if _has_senders(other):
                found |= {
                    number: name for number, name in other.execute("SELECT id, tenant FROM sender") if number in unknown
                }
    db.execute("BEGIN IMMEDIATE")
    db.execute("CREATE TABLE sender(id INTEGER PRIMARY KEY, tenant TEXT NOT NULL)")
    db.executemany("INSERT INTO sender VALUES(?,?)", found.items())
    db.execute("CREATE INDEX sender_tenant ON sender(tenant)")
    db.execute("COMMIT")


def _has_senders(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_master WHERE name='sender'").fetchone()[0])


def _delete(db: sqlite3.Connection, numbers: list[int]) -> int:
    """The lines of messages, and what leads to them."""
    if not numbers:
        return 0
    db.execute("PRAGMA secure_delete=ON")
    db.execute("PRAGMA temp_store=MEMORY")
    gone, known = 0, _has_senders(db)
    for lot in _lots(numbers):
        marks = ",".join("?" * len(lot))
        db.execute("BEGIN IMMEDIATE")
        gone += db.execute(f"DELETE FROM event WHERE id IN ({marks})", lot).rowcount
        if known:
            db.execute(f"DELETE FROM sender WHERE id IN ({marks})", lot)
        db.execute("COMMIT")
    db.execute("DELETE FROM who WHERE id NOT IN (SELECT id FROM event)")  # found by hash first, so with a look at all
    return gone


def _lots(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH))
