"""The delivery log: what happened to each message, for `zegel trace` and the API, kept for a limited time.

Two files a day and process, written by a thread in small batches: it is a record for people and stays out of the
durable path of a message. Rows hold the id of the message, the time, a word and a sealed JSON object; addresses are
found by keyed hash (GDPR-14, OPS-2). What belongs to a mailing is in a file of its own, since it is kept for another
time (GDPR-12): there each row says of which mailing it is, and a row for each mailing says which that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from relay.mail.mailing import Mailing
from relay.observe import metrics
from relay.store.connection import place
from relay.store.rows import put_rows

Seal = Callable[[int, bytes], bytes]

_EVENTS = """
CREATE TABLE IF NOT EXISTS event(seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, at REAL NOT NULL, word TEXT NOT NULL, data BLOB);
"""
_MAILED = """
CREATE TABLE IF NOT EXISTS event(
    seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, at REAL NOT NULL, word TEXT NOT NULL, data BLOB, mailing INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS mailing(
    number INTEGER PRIMARY KEY, name BLOB NOT NULL, first INTEGER NOT NULL, last REAL NOT NULL, mails INTEGER NOT NULL
);
"""
_INDEXES = """
CREATE INDEX IF NOT EXISTS event_id ON event(id);
CREATE TABLE IF NOT EXISTS who(hash INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(hash, id)) WITHOUT ROWID;
"""
FOLDER = "history"  # in the data folder
PLAIN, MAILINGS = ".history", ".mailings.history"
MOST_NAMES = 1_000  # of mailings whose number is remembered; one that is not gets another row
TAKEN = frozenset(("accepted", "parked", "held"))
FLUSH_SECONDS = 0.5
TRACE = "trace\0"  # before what is hashed for `who`
PERSON = (
    "trace person\0"  # the same for the wide form of an address that has a +part: an erasure counts for all of them
)
WIDE = 1  # user_version of a file whose lines all have that hash
BUSY_SECONDS = 10.0
DAY = 86_400.0


class Event(NamedTuple):
    """One line of a message's history. `word` is e.g. accepted, refused, delivered, deferred, failed, dropped."""

    id: int
    at: float
    word: str
    data: dict[str, Any]
    who: tuple[int, ...] = ()  # 63-bit keyed hashes of addresses and of the Message-ID
    mailing: Mailing | None = None


class Cut(NamedTuple):
    """Who is taken out: `without` gives data without him, `spelled` hashes of whatever else it has taken out so far."""

    without: Callable[[Any], Any]
    spelled: Callable[[], Iterable[int]] = tuple


def short_hash(digest: bytes) -> int:
    """63 bits of a keyed hash, to be found by."""
    return int.from_bytes(digest[:8], "big") >> 1


class _Day:
    """The open file of a day, of one kind. For one thread."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._db: sqlite3.Connection | None = None
        self._path: Path | None = None
        self.numbers: dict[Mailing, int] = {}  # in this file

    def open(self, path: Path) -> sqlite3.Connection:
        """Kept open: closing it would copy its log back and sync, twice a second. Raises sqlite3.Error."""
        if self._db is None or self._path != path or not path.exists():
            self.close()
            self._db, self._path = sqlite3.connect(path, isolation_level=None), path
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if not has_tables(self._db):
                self._db.execute(f"PRAGMA user_version={WIDE}")
            self._db.executescript(self._schema)
        return self._db

    def close(self) -> None:
        self.numbers.clear()
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


class History:
    """Collects events and writes them twice a second. `add` is for the loop's thread and never waits."""

    def __init__(self, folder: Path, process: str, seal: Seal) -> None:
        self.folder = folder
        self.process = process
        self._seal = seal
        self._waiting: list[Event] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failed = 0
        # of the thread
        self._plain = _Day(_EVENTS + _INDEXES)
        self._mailings = _Day(_MAILED + _INDEXES)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def add(self, event: Event) -> None:
        self._waiting.append(event)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()
        self._plain.close()
        self._mailings.close()

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        self._write(self._plain, PLAIN, [event for event in batch if event.mailing is None])
        self._write(self._mailings, MAILINGS, [event for event in batch if event.mailing is not None])

    def _write(self, day: _Day, suffix: str, lot: list[Event]) -> None:
        kept = [(event, row) for event in lot if (row := self._row(event)) is not None]
        if not kept:
            return
        try:
            db = day.open(self.folder / f"{day_of(lot[0].at)}-{self.process}{suffix}")
            db.execute("BEGIN IMMEDIATE")
            if day is self._plain:
                put_rows(db, "INSERT INTO event(id, at, word, data) VALUES", [row for _, row in kept])
            else:
                numbers = self._number(db, day, [event for event, _ in kept])
                rows = [(*row, numbers[event.mailing]) for event, row in kept]
                put_rows(db, "INSERT INTO event(id, at, word, data, mailing) VALUES", rows)
            put_rows(db, "INSERT OR IGNORE INTO who VALUES", sorted((h, e.id) for e in lot for h in e.who))
            db.execute("COMMIT")
        except sqlite3.Error:
            self._lost(len(kept))
            day.close()

    def _number(self, db: sqlite3.Connection, day: _Day, lot: list[Event]) -> dict[Mailing | None, int]:
        """The mailings of these events by their rows, which know of the events when this returns."""
        found: dict[Mailing | None, int] = {}
        lots: dict[Mailing, list[Event]] = {}
        for event in lot:
            if event.mailing is not None:
                lots.setdefault(event.mailing, []).append(event)
        for mailing, own in lots.items():
            first, last = min(event.id for event in own), max(event.at for event in own)
            mails = sum(event.word in TAKEN and bool(event.who) for event in own)
            number = day.numbers.get(mailing)
            if number is None:
                if len(day.numbers) >= MOST_NAMES:
                    day.numbers.clear()
                number = int(db.execute("SELECT coalesce(max(number), 0) + 1 FROM mailing").fetchone()[0])
                day.numbers[mailing] = number
                name = self._seal(number, orjson.dumps([*mailing]))
                db.execute("INSERT INTO mailing VALUES(?,?,?,?,?)", (number, name, first, last, mails))
            else:
                change = "UPDATE mailing SET first=min(first,?), last=max(last,?), mails=mails+? WHERE number=?"
                db.execute(change, (first, last, mails, number))
            found[mailing] = number
        return found

    def _row(self, event: Event) -> tuple[int, float, str, bytes] | None:
        """An event as stored; None where its data are no JSON, which must not end the thread that writes."""
        try:
            return event.id, event.at, event.word, self._seal(event.id, orjson.dumps(event.data))
        except orjson.JSONEncodeError:
            self._lost(1)
            return None

    def _lost(self, number: int) -> None:
        self.failed += number
        metrics.RECORDS_LOST.inc(("delivery_log",), number)

    async def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)


def read(folder: Path, ids: Iterable[int], open_blob: Callable[[int, bytes], bytes]) -> list[Event]:
    """Every event of the messages `ids`, oldest first, from all processes' files."""
    wanted = list(ids)
    events: list[Event] = []
    for db in _files(folder):
        for number in wanted:
            for row in _rows(db, "SELECT id, at, word, data FROM event WHERE id=? ORDER BY seq", number):
                events.append(Event(row[0], row[1], row[2], orjson.loads(open_blob(row[0], row[3]))))
    return sorted(events, key=lambda event: event.at)


def find(folder: Path, hashes: Sequence[int], limit: int = 1000) -> list[int]:
    """Ids of the messages with one of these hashes, newest first."""
    found: set[int] = set()
    for db in _files(folder):
        for value in hashes:
            found.update(row[0] for row in _rows(db, "SELECT id FROM who WHERE hash=? LIMIT ?", value, limit))
    return sorted(found, reverse=True)[:limit]


def forget_before(folder: Path, moment: float) -> int:
    """Delete the files of days that ended before `moment`, but those of mailings; how many (GDPR-14)."""
    gone = [path for path in paths(folder, PLAIN) if path.name[:10] < day_of(moment)]
    for path in gone:
        remove(path)
    return len(gone)


def paths(folder: Path, kind: str) -> list[Path]:
    """The files of one kind, PLAIN or MAILINGS, oldest first."""
    return [path for path in sorted(folder.glob("*.history")) if path.name.endswith(MAILINGS) == (kind == MAILINGS)]


def remove(path: Path) -> None:
    """A file with its log. Raises OSError."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def erase(
    folder: Path,
    hashes: Sequence[int],
    mails: tuple[str, int],
    cut: Cut,
    box: tuple[Seal, Seal],
    *,
    last: bool,
) -> int:
    """Take a person out of what is known of `mails`: of a tenant, with ids up to a number; out of how many lines (GDPR-8). May be
    done again.

    `box` seals and opens. Only the `last` time nothing leads to these messages any more: until then a line of one of them may
    still be written. Raises sqlite3.Error; then it is to be done again.
    """
    count, (tenant, newest) = 0, mails
    met = [number for number in find(folder, hashes, limit=1_000_000) if number <= newest]
    senders = {number: {e.data.get("tenant", tenant) for e in read(folder, [number], box[1])} for number in met}
    numbers = [number for number, names in senders.items() if names <= {tenant}]
    for path in sorted(folder.glob("*.history")):
        log = Path(f"{path}-wal")
        place = f"file:{path}?mode=rw"  # retention may have taken it this moment: then none is made
        with contextlib.closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=BUSY_SECONDS)) as db:
            if numbers and has_tables(db):
                gone = (hashes if last else (), lambda: {*cut.spelled()}.difference(hashes))
                count += _take_out(db, numbers, gone, cut.without, box)
            if log.exists() and log.stat().st_size and db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise sqlite3.OperationalError("a reader kept old pages of the delivery log alive")
    return count


def _take_out(
    db: sqlite3.Connection,
    numbers: Sequence[int],
    gone: tuple[Sequence[int], Callable[[], Iterable[int]]],
    without: Callable[[Any], Any],
    box: tuple[Seal, Seal],
) -> int:
    """One transaction for a message, so that the process whose file it is never waits long."""
    (seal, unseal), count = box, 0
    db.execute("PRAGMA secure_delete=ON")
    for number in numbers:
        changed = []
        for seq, blob in db.execute("SELECT seq, data FROM event WHERE id=?", (number,)).fetchall():
            data = orjson.loads(unseal(number, blob))
            after = without(data)
            if after != data:
                changed.append((seal(number, orjson.dumps(after)), seq))
        hashes = {*gone[0], *(gone[1]() if changed else ())}
        if not changed and not hashes:
            continue
        count += len(changed)
        db.execute("BEGIN IMMEDIATE")
        db.executemany("UPDATE event SET data=? WHERE seq=?", changed)
        db.executemany("DELETE FROM who WHERE hash=? AND id=?", [(value, number) for value in hashes])
        db.execute("COMMIT")
    return count


def has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_master WHERE name='who'").fetchone()[0])


def _files(folder: Path) -> Iterator[sqlite3.Connection]:
    for path in sorted(folder.glob("*.history")):
        db = sqlite3.connect(place(path, "ro"), uri=True)
        with contextlib.closing(db):
            yield db


def _rows(db: sqlite3.Connection, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows, none where the file is just being made and has no tables yet. Raises sqlite3.Error otherwise."""
    try:
        return db.execute(statement, values).fetchall()
    except sqlite3.OperationalError:
        if not has_tables(db):
            return []
        return db.execute(statement, values).fetchall()  # they were made meanwhile; if not, it is said again


def day_of(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
