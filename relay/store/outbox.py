"""The outbox of capture mode: what came in beside what would have left, for people to look at (demo and sandbox).

Theory of operation. Workers write one entry per refusal, per waiting message and per captured copy; the web process
reads. It is one SQLite file in WAL mode, so that several processes write in turn (busy timeout) and readers never
wait. Everything that could name a person is sealed with the queue's key (GDPR-19): envelope, head and trace as one
sealed JSON, each distinct body once, however many copies a split made of it. The file keeps the newest entries only,
and none for longer than the delivery log tells of its mail.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.mail.edits import Edit

FILE = "outbox.db"
KEEP_ENTRIES = 2_000
KEEP_BYTES = 512 * 1024 * 1024  # of sealed bodies; a demo must not fill the disk
TRIM_EVERY = 25  # inserts between two clean-ups
BUSY_TIMEOUT_SECONDS = 10.0

WAITING = ("hold", "parked")
VERDICTS = ("accept", "reject", "defer", "hold", "parked")

_SCHEMA = """
create table if not exists entries (
  id integer primary key autoincrement,
  at real not null,
  queue_id text not null,
  verdict text not null,
  in_body blob,
  out_body blob,
  sealed blob not null
);
create index if not exists entries_by_queue_id on entries (queue_id);
create index if not exists entries_by_verdict on entries (verdict, id);
create table if not exists bodies (digest blob primary key, size integer not null, sealed blob not null) without rowid;
create index if not exists bodies_by_size on bodies (size);
"""

_DROP_BODIES = (
    "delete from bodies where digest not in (select in_body from entries where in_body is not null "
    "union select out_body from entries where out_body is not null)"
)


class QueueKeys(Protocol):
    """The part of the keyring that the outbox needs: 32-byte keys by id, and which one is current."""

    @property
    def queue_keys(self) -> Mapping[Any, bytes]: ...

    @property
    def current_queue_key_id(self) -> Any: ...


class Entry(NamedTuple):
    """One thing that happened to one message. Times are seconds since the epoch; `due` is 0.0 where nothing waits.

    `incoming` and `outgoing` are whole messages with CRLF line ends, b"" where there is none (a refusal at RCPT).
    `trace` is the list of policy steps as `explain --json` prints them.
    """

    queue_id: str
    at: float
    tenant: str
    credential: str
    stream: str
    verdict: str  # one of VERDICTS
    mail_class: str = ""
    rule: str = ""
    reason: str = ""
    reply: str = ""
    mail_from: str = ""
    recipients: tuple[str, ...] = ()
    incoming: bytes = b""
    outgoing: bytes = b""
    edits: tuple[Edit, ...] = ()
    trace: tuple[Mapping[str, Any], ...] = ()
    due: float = 0.0
    stage: str = "data"  # rcpt | data | delivery


class Stored(NamedTuple):
    """An entry as read back, with its number in the file."""

    id: int
    entry: Entry


class Outbox:
    """Writer and reader. Every method is synchronous and safe from several threads; call it off the event loop.

    Raises sqlite3.Error where the file cannot be used; an entry whose key is gone is left out of what is read.
    """

    def __init__(self, path: Path, keys: QueueKeys) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._db.execute("pragma journal_mode = wal")
        # A captured copy counts as delivered: its queue row goes after this, so it must survive a power cut.
        self._db.execute("pragma synchronous = full")
        self._db.execute("pragma secure_delete = on")  # what was let go leaves nothing in a free page (GDPR-8)
        self._db.executescript(_SCHEMA)
        self._db.execute("pragma optimize")

    def close(self) -> None:
        """Closes the file; the object is of no use afterwards."""
        with self._lock:
            self._db.close()

    def record_refusal(self, entry: Entry) -> int:
        """Keeps a mail, or one recipient of it, that was answered with 4xx or 5xx. The entry's number comes back."""
        return self._record(entry, replaces_waiting=False)

    def record_waiting(self, entry: Entry) -> int:
        """Keeps a mail that was accepted and waits: verdict `hold`, or `parked` with its due time.

        Writers run in threads, so the copies may be there first; then nothing is kept and 0 comes back.
        """
        return self._record(entry, replaces_waiting=True)

    def record_copy(self, entry: Entry) -> int:
        """Keeps one copy as it would have left. A waiting entry of the same queue id goes."""
        return self._record(entry, replaces_waiting=True)

    def entries(self, *, verdict: str = "", before: int = 0, limit: int = 50) -> list[Stored]:
        """Entries, newest first; of one verdict, and older than number `before`, where given. Bodies are left out."""
        clauses: list[str] = ["1"]
        values: list[str | int] = []
        if verdict:
            clauses.append("verdict = ?")
            values.append(verdict)
        if before:
            clauses.append("id < ?")
            values.append(before)
        sql = f"select id, sealed from entries where {' and '.join(clauses)} order by id desc limit ?"
        with self._lock:
            rows = self._db.execute(sql, (*values, limit)).fetchall()
        return [stored for row in rows if (stored := self._open(row[0], row[1])) is not None]

    def entry(self, number: int) -> Stored | None:
        """One entry whole, bodies included; None where there is none any more."""
        sql = (
            "select e.id, e.sealed, i.sealed, o.sealed from entries e left join bodies i on i.digest = e.in_body "
            "left join bodies o on o.digest = e.out_body where e.id = ?"
        )
        with self._lock:
            row = self._db.execute(sql, (number,)).fetchone()
        stored = self._open(row[0], row[1]) if row else None
        if stored is None:
            return None
        incoming, outgoing = (self._unseal(sealed) if sealed else b"" for sealed in row[2:])
        if incoming is None or outgoing is None:
            return None
        entry = stored.entry
        return Stored(number, entry._replace(incoming=entry.incoming + incoming, outgoing=entry.outgoing + outgoing))

    def siblings(self, queue_id: str) -> list[Stored]:
        """Every entry of one message (the copies of a split), oldest first, bodies left out."""
        with self._lock:
            rows = self._db.execute(
                "select id, sealed from entries where queue_id = ? order by id limit 500", (queue_id,)
            ).fetchall()
        return [stored for row in rows if (stored := self._open(*row)) is not None]

    def counts(self) -> dict[str, int]:
        """How many entries there are of each verdict."""
        with self._lock:
            rows = dict(self._db.execute("select verdict, count(*) from entries group by verdict").fetchall())
        return {verdict: rows.get(verdict, 0) for verdict in VERDICTS}

    def erase(self, tenant: str, names: Callable[[Entry], bool]) -> int:
        """Drops what a tenant sent that `names` a person, with its bodies; how many entries (GDPR-8)."""
        with self._lock:
            rows = self._db.execute("select id, sealed from entries").fetchall()
        found = [stored for row in rows if (stored := self._open(*row)) is not None and stored.entry.tenant == tenant]
        return self._drop([stored.id for stored in found if names(stored.entry)])

    def forget(self, moment: float, ends: Mapping[str, float]) -> int:
        """Drops what is older than `moment`, or than what `ends` says for its tenant, with its bodies; how many entries."""
        latest = max((moment, *ends.values()))
        with self._lock:
            rows = self._db.execute("select id, at, sealed from entries where at < ?", (latest,)).fetchall()
        gone = []
        for number, at, sealed in rows:
            stored = None if at < moment else self._open(number, sealed)
            if at < moment or (stored is not None and at < ends.get(stored.entry.tenant, moment)):
                gone.append(number)
        return self._drop(gone)

    def _drop(self, numbers: list[int]) -> int:
        """Also of the log of the file, and of what was dropped before while somebody read."""
        with self._transaction() as db:
            db.executemany("delete from entries where id = ?", [(number,) for number in numbers])
            if numbers:
                db.execute(_DROP_BODIES)
        with self._lock:
            if self._db.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                raise sqlite3.OperationalError("a reader kept old pages of the outbox alive")
        return len(numbers)

    def _record(self, entry: Entry, *, replaces_waiting: bool) -> int:
        in_head, in_body = _cut(entry.incoming)
        out_head, out_body = _cut(entry.outgoing)
        values = entry._replace(incoming=b"", outgoing=b"")._asdict()
        values |= {"incoming": in_head.decode("latin-1"), "outgoing": out_head.decode("latin-1")}
        sealed = self._seal(json.dumps(values, default=str).encode())
        with self._transaction() as db:
            if entry.verdict in WAITING and _has_left(db, entry.queue_id):
                return 0
            if replaces_waiting:
                db.execute(
                    "delete from entries where queue_id = ? and verdict in ('hold', 'parked')", (entry.queue_id,)
                )
            digests = [self._keep_body(db, body) for body in (in_body, out_body)]
            cursor = db.execute(
                "insert into entries (at, queue_id, verdict, in_body, out_body, sealed) values (?, ?, ?, ?, ?, ?)",
                (entry.at, entry.queue_id, entry.verdict, *digests, sealed),
            )
            number = cursor.lastrowid or 0
            if number % TRIM_EVERY == 0 or len(entry.incoming) > KEEP_BYTES // 100:
                _trim(db, number)
        return number

    def _keep_body(self, db: sqlite3.Connection, body: bytes) -> bytes | None:
        if not body:
            return None
        # Keyed, so that the file does not tell whether a known text was sent.
        key = self._keys.queue_keys[self._keys.current_queue_key_id]
        digest = hashlib.blake2b(body, digest_size=24, key=key, person=b"zegel.outbox").digest()
        if db.execute("select 1 from bodies where digest = ?", (digest,)).fetchone() is None:
            sealed = self._seal(body)
            db.execute("insert into bodies (digest, size, sealed) values (?, ?, ?)", (digest, len(sealed), sealed))
        return digest

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def _seal(self, clear: bytes) -> bytes:
        key_id = self._keys.current_queue_key_id
        name = str(key_id).encode()
        nonce = secrets.token_bytes(12)
        box = AESGCM(self._keys.queue_keys[key_id]).encrypt(nonce, zlib.compress(clear, 1), name)
        return bytes((len(name),)) + name + nonce + box

    def _unseal(self, sealed: bytes) -> bytes | None:
        name = sealed[1 : 1 + sealed[0]]
        key = {str(key_id).encode(): key for key_id, key in self._keys.queue_keys.items()}.get(name)
        if key is None:
            return None
        start = 1 + len(name)
        try:
            return zlib.decompress(AESGCM(key).decrypt(sealed[start : start + 12], sealed[start + 12 :], name))
        except InvalidTag:
            return None

    def _open(self, number: int, sealed: bytes) -> Stored | None:
        clear = self._unseal(sealed)
        if clear is None:
            return None
        values = json.loads(clear)
        values["incoming"] = values["incoming"].encode("latin-1")
        values["outgoing"] = values["outgoing"].encode("latin-1")
        values["recipients"] = tuple(values["recipients"])
        values["edits"] = tuple(Edit(*edit) for edit in values["edits"])
        values["trace"] = tuple(values["trace"])
        return Stored(number, Entry(**values))


def forget_before(path: Path, keys: QueueKeys, moment: float, ends: Mapping[str, float]) -> int:
    """`Outbox.forget` on the file at `path`, whether mail is still captured or not; 0 where there is none (GDPR-3, GDPR-14).

    Raises sqlite3.Error; then it is to be done again.
    """
    if not path.exists():
        return 0
    with closing(Outbox(path, keys)) as outbox:
        return outbox.forget(moment, ends)


def _has_left(db: sqlite3.Connection, queue_id: str) -> bool:
    sql = "select 1 from entries where queue_id = ? and verdict = 'accept' limit 1"
    return db.execute(sql, (queue_id,)).fetchone() is not None


def _cut(raw: bytes) -> tuple[bytes, bytes]:
    """Head with its closing empty line, and body."""
    if raw.startswith(b"\r\n"):
        return raw[:2], raw[2:]
    at = raw.find(b"\r\n\r\n")
    return (raw, b"") if at < 0 else (raw[: at + 4], raw[at + 4 :])


def _trim(db: sqlite3.Connection, newest: int) -> None:
    """Drops what is over the bounds, oldest first, and the bodies that nothing names any more."""
    db.execute("delete from entries where id <= ?", (newest - KEEP_ENTRIES,))
    while True:
        db.execute(_DROP_BODIES)
        total, count = db.execute(
            "select coalesce(sum(size), 0), (select count(*) from entries) from bodies"
        ).fetchone()
        if total <= KEEP_BYTES or count <= 1:
            return
        db.execute(
            "delete from entries where id in (select id from entries order by id limit ?)", (max(1, count // 4),)
        )
