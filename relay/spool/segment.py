"""One queue file: an append-only log in SQLite, owned by whoever holds its lock.

Theory of operation. SQLite has one writer at a time, so no two processes share a queue file. A segment is a table of
log rows: a message, a new state of it, or its final outcome. Rows are only ever appended, many sessions' rows in one
INSERT statement, which in autocommit mode is also the one transaction and the one fsync (WAL, synchronous=FULL). A
segment whose every message is final is deleted whole, often before its write-ahead log was ever copied back. Where a few
messages stay for days, the final ones around them are purged in place.

Bodies over LARGE_BYTES lie in files of their own, encrypted and synced before the row that names them.

Failures: sqlite3.Error from `append` and `load` means the disk or the file is bad; the caller answers 4xx.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from relay.spool.remains import lock, remove_remains, sync_folder, write_file
from relay.store.rows import MOST_ROWS, put_rows

MESSAGE, STATE, FINAL = 0, 1, 2
LARGE_BYTES = 128 * 1024

MAKE_LOG = """
CREATE TABLE log(
  seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, kind INTEGER NOT NULL,
  due REAL NOT NULL, tenant INTEGER NOT NULL, rank INTEGER NOT NULL, held INTEGER NOT NULL, data BLOB)
"""
_INSERT = "INSERT INTO log VALUES"

_FINISHED = f"SELECT id FROM log WHERE kind={FINAL}"
_EXTENT = f"SELECT min(id), max(id), max(seq), total(length(data)), total(kind={FINAL}) FROM log"
# SQLite takes the other columns from the row that has the maximum.
_NEWEST = f"SELECT max(seq), id, kind, due, tenant, rank, held, NULL FROM log WHERE id NOT IN ({_FINISHED}) GROUP BY id"
_OLDEST = f"SELECT rank, min(id) FROM ({_NEWEST}) WHERE NOT held GROUP BY rank"
_DELETE_FINAL = f"DELETE FROM log WHERE id IN ({_FINISHED})"
_DELETE_OLD_STATES = (
    f"DELETE FROM log WHERE kind={STATE} AND seq NOT IN (SELECT max(seq) FROM log WHERE kind={STATE} GROUP BY id)"
)
LIVE_IDS = f"SELECT id FROM log WHERE kind={MESSAGE} AND id NOT IN ({_FINISHED})"
LIVE_ROWS = (
    f"SELECT * FROM log WHERE id NOT IN ({_FINISHED}) AND (kind={MESSAGE} OR seq IN "
    f"(SELECT max(seq) FROM log WHERE kind={STATE} GROUP BY id)) ORDER BY seq"
)
LIVE_ROWS_OF = f"SELECT * FROM log WHERE kind={MESSAGE} AND tenant=? AND id NOT IN ({_FINISHED})"
_NO_ID = (1 << 63) - 1
_USES = itertools.count(1)
DAMAGED = ".damaged"


class PagesInUse(sqlite3.OperationalError):
    """A reader, such as a backup, keeps pages alive that were to go: later again."""


class Row(NamedTuple):
    """One log row. `data` is sealed; None for a final row."""

    seq: int
    id: int
    kind: int
    due: float
    tenant: int
    rank: int
    held: int
    data: bytes | None


class Segment:
    """A locked queue file. One thread appends, others load; its connections are opened when needed and closed by `rest`."""

    def __init__(self, path: Path, lock_fd: int, number: int) -> None:
        self.path = path
        self.number = number
        self.stem = path.with_suffix("")
        self.next_seq = 1
        self.bytes = 0  # of rows appended, by the writer's thread
        self.added = 0  # messages, counted by the writer's thread
        self.finished = 0  # messages, counted by the loop
        self.reserved = 0  # messages whose large body is being written, counted by the loop
        self.purged = 0  # final messages that have left the file, counted by the loop
        self.pending = 0  # rows on their way to this file by name, counted by the loop
        self.oldest_ids: dict[int, int] = {}  # by rank: nothing that waits here has a smaller id
        self.low = _NO_ID  # no live message here has a smaller id
        self.high = 0  # nor a larger one
        self.used = 0
        self.made_at = 0.0  # monotonic seconds; 0.0 for an adopted one
        self.damaged = False
        self.has_bodies = self.bodies.exists()
        self._lock_fd = lock_fd
        self._write: sqlite3.Connection | None = None
        self._read: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._gone = False

    @classmethod
    def create(cls, path: Path, number: int) -> Segment:
        """A new, empty, locked segment whose schema is on disk when this returns; after an error nothing is left of it."""
        lock_fd = lock(path)
        if lock_fd is None:
            raise BlockingIOError(path)
        segment = cls(path, lock_fd, number)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))  # its log takes over the mode
            segment._writing().execute(MAKE_LOG)
            sync_folder(path.parent)
        except FileExistsError:  # somebody's mail lies there under the name: the clock went back
            segment.close()
            raise
        except BaseException:
            segment.delete()
            raise
        return segment

    @classmethod
    def adopt(cls, path: Path, number: int) -> Segment | None:
        """An existing segment, or None while somebody else holds it. Raises sqlite3.Error if the file cannot be used."""
        lock_fd = lock(path)
        if lock_fd is None:
            return None
        segment = cls(path, lock_fd, number)
        if not path.exists():  # its owner finished and deleted it between our listing and our lock
            segment.delete()
            return None
        try:
            segment._writing().execute("CREATE TABLE IF NOT EXISTS" + MAKE_LOG.strip().removeprefix("CREATE TABLE"))
            low, high, last, size, final = segment._writing().execute(_EXTENT).fetchone()
        except sqlite3.Error:
            segment.close()
            raise
        segment.next_seq = 1 + (last or 0)
        segment.bytes = size
        segment.purged = -int(final)  # they are in the file, and of nobody's count
        segment.low, segment.high = low or _NO_ID, high or 0
        return segment

    @classmethod
    def hold(cls, path: Path) -> Segment | None:
        """A file whose content nobody asks for, locked; None while somebody else holds it."""
        lock_fd = lock(path)
        return None if lock_fd is None else cls(path, lock_fd, 0)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=MOST_ROWS + 16)
        db.execute("PRAGMA page_size=8192")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=8000")  # 64 MB: most segments are deleted before they are checkpointed
        db.execute("PRAGMA cache_size=-2000")
        db.execute("PRAGMA temp_store=MEMORY")  # no temporary file may hold a message
        return db

    def _writing(self) -> sqlite3.Connection:
        if self._write is None:
            if self._gone:
                raise sqlite3.OperationalError("this queue file is no longer ours")
            self._write = self._connect()
        self.used = next(_USES)
        return self._write

    def _reading(self) -> sqlite3.Connection:
        if self._read is None:
            if self._gone:
                raise sqlite3.OperationalError("this queue file is no longer ours")
            self._read = self._connect()
        self.used = next(_USES)
        return self._read

    @property
    def is_open(self) -> bool:
        return self._write is not None or self._read is not None

    @property
    def live(self) -> int:
        """Messages that are not final, those being written included."""
        return self.added - self.finished + self.reserved

    @property
    def total(self) -> int:
        """Messages in the file, final ones included."""
        return self.added - self.purged

    def append(self, rows: Sequence[Row]) -> None:
        """All rows in one durable transaction; when this returns a power cut loses none of them."""
        with self._write_lock:
            db = self._writing()
            if len(rows) <= MOST_ROWS:
                put_rows(db, _INSERT, rows)
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                put_rows(db, _INSERT, rows)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk has rolled it back already
                    db.execute("ROLLBACK")
                raise

    def load(self, seq: int) -> Row | None:
        """One row."""
        with self._read_lock:
            row = self._reading().execute("SELECT * FROM log WHERE seq=?", (seq,)).fetchone()
        return Row(*row) if row else None

    def newest(self, number: int) -> int | None:
        """The newest row of the live message `number`. Reads the whole segment: for people, not for the hot path."""
        if not self.low <= number <= self.high:
            return None
        with self._read_lock:
            rows = self._reading().execute("SELECT seq, kind FROM log WHERE id=? ORDER BY seq", (number,)).fetchall()
        return rows[-1][0] if rows and rows[-1][1] != FINAL else None

    def newest_of(self, numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Place and kind of the newest row of each of these messages; without those that left. Reads the whole segment."""
        query = "SELECT id, max(seq), kind FROM log WHERE id IN (SELECT value FROM json_each(?)) GROUP BY id"
        with self._read_lock:
            rows = self._reading().execute(query, (json.dumps(numbers),)).fetchall()
        return {row[0]: (row[1], row[2]) for row in rows}

    def messages_after(self, seq: int, most: int, *, tenants: Collection[int], last_id: int) -> list[Row]:
        """The next rows; data only of messages of `tenants` with ids up to `last_id`."""
        names = ",".join(map(str, sorted(tenants)))
        data = f"CASE WHEN kind={MESSAGE} AND id<=? AND tenant IN ({names}) THEN data END"
        query = f"SELECT seq, id, kind, due, tenant, rank, held, {data} FROM log WHERE seq>? ORDER BY seq LIMIT ?"
        with self._read_lock:
            return [Row(*row) for row in self._reading().execute(query, (last_id, seq, most)).fetchall()]

    def newest_rows(self) -> list[Row]:
        """The newest row of every live message, without its data, oldest message first."""
        with self._read_lock:
            return [Row(*row) for row in self._reading().execute(_NEWEST)]

    def oldest(self) -> dict[int, int]:
        """By rank the smallest id that is neither final nor held; a rank without one is not there."""
        with self._read_lock:
            return dict(self._reading().execute(_OLDEST).fetchall())

    def purge(self, *, rewrite: bool) -> int:
        """Final messages leave the disk (GDPR-3); how many rows that were. Blocks appends, so keep them away meanwhile.

        A message's rows go in one transaction, so a crash at any point finds it whole and live, or final, or gone.
        `rewrite`: build the file anew from what is live, which is cheap when that is little, and gives the space back;
        else overwrite what goes with zeros where it stands. Raises sqlite3.Error; then it is to be done again.
        """
        with self._write_lock:
            db = self._writing()
            db.execute(f"PRAGMA secure_delete={'OFF' if rewrite else 'ON'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                gone = db.execute(_DELETE_FINAL).rowcount + db.execute(_DELETE_OLD_STATES).rowcount
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            if rewrite:
                db.execute("VACUUM")
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                raise PagesInUse("a reader kept the old pages alive")
            low, high, _, size, _ = db.execute(_EXTENT).fetchone()
            self.low, self.high, self.bytes = low or _NO_ID, high or 0, size
            return gone

    @property
    def bodies(self) -> Path:
        """The folder of this segment's large bodies."""
        return self.path.with_suffix(".bodies")

    def write_body(self, number: int, parts: Sequence[bytes]) -> None:
        """Keep the large body of a message, joined on the disk only. Synced when this returns; an error leaves nothing."""
        if not self.bodies.exists():
            self.bodies.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self.path.parent)
        self.has_bodies = True
        path = self._body(number)
        try:
            write_file(path, parts)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def read_body(self, number: int) -> bytes:
        """Raises OSError."""
        return self._body(number).read_bytes()

    def body_size(self, number: int) -> int:
        """About the octets of a large body. Raises OSError."""
        return self._body(number).stat().st_size

    def forget_body(self, number: int) -> None:
        """The message is final: its large body leaves the disk."""
        self._body(number).unlink(missing_ok=True)

    def _body(self, number: int) -> Path:
        return self.bodies / f"{number:016x}"

    def clear_orphan_bodies(self, live: set[int]) -> None:
        """Bodies whose row was never committed, or is final."""
        if self.has_bodies:
            names = {f"{number:016x}" for number in live}
            for path in self.bodies.iterdir():
                if path.name not in names:
                    path.unlink(missing_ok=True)

    def delete(self) -> None:
        """The segment leaves the disk. The file goes before its log, or a crash between would bring final mail to life."""
        with self._write_lock, self._read_lock:
            self._gone = True
            self.path.unlink(missing_ok=True)
            self._close_connections(keep=False)
            remove_remains(self.stem)
            os.close(self._lock_fd)

    def set_aside(self) -> Path:
        """A damaged file, out of the way under another name for a person to look at; that name."""
        with self._write_lock, self._read_lock:
            self._gone = True
            self._close_connections(keep=True)
            aside = self.stem.with_suffix(DAMAGED)
            for suffix in ("-wal", ""):
                source = Path(f"{self.path}{suffix}")
                if source.exists():
                    source.rename(f"{aside}{suffix}")
            if self.bodies.exists():
                self.bodies.rename(f"{aside}-bodies")
            sync_folder(self.path.parent)
            remove_remains(self.stem)
            os.close(self._lock_fd)
            return aside

    def rest(self) -> None:
        """Close the connections: their log is copied back. They are opened again when needed; the lock stays ours."""
        with self._write_lock, self._read_lock:
            self._close_connections(keep=True)

    def _close_connections(self, *, keep: bool) -> None:
        for db in (self._read, self._write):
            if db is not None:
                if not keep:  # the last to close copies the log back; nobody will read it, so no sync
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("PRAGMA synchronous=OFF")
                with contextlib.suppress(sqlite3.Error):
                    db.close()
        self._read = self._write = None

    def close(self) -> None:
        """Give the segment up: another worker may adopt it."""
        with self._write_lock, self._read_lock:
            self._gone = True
            self._close_connections(keep=True)
            os.close(self._lock_fd)
