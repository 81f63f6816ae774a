"""Use records: which mail rested on which consent, kept as long as the proof of it (CONSENT-15, GDPR-14).

One file a month and process. A row holds the time, the id of the message, 63 bits of the keyed hash of purpose and address,
the tenant, the event of the ledger and the rule by which it counted: no address and nothing of the content. A batch is
durable when `write` returns; decision 017 says what may be lost.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relay.store.connection import place
from relay.store.rows import put_rows

FOLDER = "uses"  # in the data folder
_SCHEMA = """
CREATE TABLE IF NOT EXISTS use(
    hash INTEGER NOT NULL, at REAL NOT NULL, id INTEGER NOT NULL, tenant INTEGER NOT NULL, event INTEGER NOT NULL,
    rule TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS use_hash ON use(hash);
"""
_SUFFIX = ".uses"
_MOST_HASHES = 500  # of one statement


class Use(NamedTuple):
    """One mail to one person. `event` is 0 and `rule` "" where nothing on record stood behind it."""

    hash: int
    at: float
    id: int
    tenant: int
    event: int
    rule: str


class UseFiles:
    """The files of one process. For one thread."""

    def __init__(self, folder: Path, process: str) -> None:
        self.folder = folder
        self._process = process
        self._db: sqlite3.Connection | None = None
        self._path = folder

    def write(self, uses: Sequence[Use]) -> None:
        """Durable when this returns. Raises sqlite3.Error or OSError, and then what went before of another month may be kept."""
        times = [use[1] for use in uses]
        first, last = _month(min(times)), _month(max(times))
        if first == last:  # nearly always
            self._write(first, uses)
            return
        for month in sorted({_month(at) for at in times}):
            self._write(month, [use for use in uses if _month(use.at) == month])

    def _write(self, month: str, uses: Sequence[Use]) -> None:
        try:
            db = self._open(self.folder / f"{month}-{self._process}{_SUFFIX}")
            db.execute("BEGIN IMMEDIATE")
            put_rows(db, "INSERT INTO use(hash, at, id, tenant, event, rule) VALUES", sorted(uses))
            db.execute("COMMIT")
        except sqlite3.Error:
            self.close()
            raise

    def _open(self, path: Path) -> sqlite3.Connection:
        if self._db is None or self._path != path or not path.exists():
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db, self._path = sqlite3.connect(path, isolation_level=None), path
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        return self._db

    def close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def read(folder: Path, hashes: Collection[int], until: float) -> list[Use]:
    """Every use under one of `hashes` up to the moment `until`, oldest first. Raises sqlite3.Error."""
    wanted = list(hashes)
    found: set[Use] = set()  # a batch that failed half-way is written again
    for start in range(0, len(wanted), _MOST_HASHES):
        some = wanted[start : start + _MOST_HASHES]
        marks = ",".join("?" * len(some))
        for db in _files(folder, _month(until)):
            rows = _rows(db, f"SELECT hash, at, id, tenant, event, rule FROM use WHERE hash IN ({marks})", some)
            found.update(Use(*row) for row in rows if row[1] <= until)
    return sorted(found, key=lambda use: (use.at, use.id))


def of_tenant(folder: Path, tenant: int) -> Iterator[Use]:
    """Every use by a tenant, month by month, some of them twice. Raises sqlite3.Error."""
    for db in _files(folder, "9999-12"):
        for row in _rows(db, "SELECT hash, at, id, tenant, event, rule FROM use WHERE tenant = ?", [tenant]):
            yield Use(*row)


def forget_before(folder: Path, moment: float) -> int:
    """Delete the files of months that ended before `moment`; how many."""
    gone = 0
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.name[:7] < _month(moment):
            for beside in ("", "-wal", "-shm"):
                Path(f"{path}{beside}").unlink(missing_ok=True)
            gone += 1
    return gone


def _files(folder: Path, last: str) -> Iterator[sqlite3.Connection]:
    paths = sorted(folder.glob(f"*{_SUFFIX}"))
    for path in paths:
        if path.name[:7] <= last:
            is_over = path.name[:7] < paths[-1].name[:7] and not _has_log(path)
            db = sqlite3.connect(place(path, "ro") + "&immutable=1" * is_over, uri=True)
            with contextlib.closing(db):
                yield db


def _has_log(path: Path) -> bool:
    """Whether something is written that is not in the file yet. Nobody writes to a month that is over: it is read at a third
    of the cost, without locks.
    """
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _rows(db: sqlite3.Connection, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """The rows; none where the file is just being made and has no table yet."""
    try:
        return db.execute(statement, values).fetchall()
    except sqlite3.OperationalError:
        if not db.execute("SELECT count(*) FROM sqlite_master WHERE name='use'").fetchone()[0]:
            return []
        return db.execute(statement, values).fetchall()  # it was made meanwhile; if not, it is said again


def _month(moment: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(moment))
