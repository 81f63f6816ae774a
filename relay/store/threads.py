"""Thread memory: who got a message and was shown in it, as keyed hashes, for 90 days (CC-11).

A reply-all to people who all got the mail that it answers, and saw each other in it, exposes nobody anew. A mail that hid
its readers from each other, or did not leave, is remembered as one that showed nobody. The owner writes; workers read.
"""

from __future__ import annotations

import re
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from relay.store.connection import place

KEEP_SECONDS = 90 * 86_400.0
FILE = "threads.db"
MAX_PARENTS = 20
MAX_SHOWN = 10_000  # addresses of one message; with more it begins anew
_MESSAGE_ID = re.compile(rb"<[^<>\s]{1,500}>")


def thread_hashes(digests: Callable[[str], Sequence[bytes]], tenant_id: int, text: str) -> list[int]:
    """What an address (narrow) or Message-ID is kept as, under every live key, current first."""
    return [int.from_bytes(digest[:8], "big") >> 1 for digest in digests(f"thread\0{tenant_id}\0{text}")]


class Threads:
    """The memory of one data folder."""

    def __init__(self, data_dir: Path, digests: Callable[[str], Sequence[bytes]], *, writable: bool) -> None:
        """`digests` is the keyring's `subject_hashes`: what was remembered under an older key is found too."""
        self._digests = digests
        self._path = data_dir / FILE
        self._db: sqlite3.Connection | None = None
        if writable:
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS thread(key INTEGER PRIMARY KEY, at REAL NOT NULL, shown BLOB NOT NULL)"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS thread_at ON thread(at)")
            if "tenant" not in {row[1] for row in self._db.execute("PRAGMA table_info(thread)")}:
                # What was remembered before is nobody's, and goes within 90 days.
                self._db.execute("ALTER TABLE thread ADD COLUMN tenant INTEGER NOT NULL DEFAULT 0")

    def _reader(self) -> sqlite3.Connection | None:
        if self._db is None and self._path.exists():
            self._db = sqlite3.connect(place(self._path, "ro"), uri=True, check_same_thread=False)
        return self._db

    def _hashes(self, tenant_id: int, text: str) -> list[int]:
        return thread_hashes(self._digests, tenant_id, text)

    def entry(self, tenant_id: int, message_id: bytes, shown: Iterable[str]) -> tuple[int, list[int]]:
        """What `remember` takes: keyed hashes of a Message-ID and of the addresses (narrow) that the message shows."""
        key = self._hashes(tenant_id, message_id.decode("latin-1"))[0]
        return key, [self._hashes(tenant_id, address)[0] for address in shown]

    def remember(self, key: int, shown: Sequence[int], at: float, tenant: int) -> None:
        """Owner only. What messages of one name showed adds up: programs send one in parts. Raises sqlite3.Error."""
        assert self._db is not None
        row = self._db.execute("SELECT at, shown FROM thread WHERE key=?", (key,)).fetchone()
        if row is not None:
            if not shown:
                return
            known = array("q")
            known.frombytes(row[1])
            shown = sorted({*known, *shown}) if len(known) < MAX_SHOWN and row[0] >= at - KEEP_SECONDS else shown
        packed = array("q", shown).tobytes()
        self._db.execute(
            "INSERT OR REPLACE INTO thread(key, at, shown, tenant) VALUES(?,?,?,?)", (key, at, packed, tenant)
        )

    def forget(self, now: float) -> int:
        """Owner only: drop what is older than 90 days; how many."""
        assert self._db is not None
        return self._db.execute("DELETE FROM thread WHERE at < ?", (now - KEEP_SECONDS,)).rowcount

    def erase(self, hashes: Sequence[int], until: float) -> int:
        """Owner only: no message showed this person; how many that were written down `until` then did (GDPR-8). Later ones may
        stand for parts of earlier ones too, so they forget as well, and are not counted. Reads all of it. Raises sqlite3.Error.
        """
        assert self._db is not None
        gone, found, early = set(hashes), {}, set()
        for number in gone:
            looked = self._db.execute(
                "SELECT key, shown, at FROM thread WHERE instr(shown, ?)", (array("q", [number]).tobytes(),)
            )
            for key, shown, at in looked:
                numbers = array("q")
                numbers.frombytes(shown)
                found[key] = numbers
                if at <= until:
                    early.add(key)
        self._db.execute("PRAGMA secure_delete=ON")
        for key, numbers in found.items():
            left = array("q", [number for number in numbers if number not in gone])
            self._db.execute(
                "UPDATE thread SET shown=? WHERE key=? AND shown=?", (left.tobytes(), key, numbers.tobytes())
            )
        if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("a reader kept old pages of the thread memory alive")
        return len(early)

    def erase_tenant(self, tenant_id: int) -> int:
        """Owner only: forget what mail of a tenant showed; how many messages (GDPR-18). Raises sqlite3.Error."""
        assert self._db is not None
        self._db.execute("PRAGMA secure_delete=ON")
        gone = self._db.execute("DELETE FROM thread WHERE tenant=?", (tenant_id,)).rowcount
        if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("a reader kept old pages of the thread memory alive")
        return gone

    def seen(self, tenant_id: int, references: bytes, addresses: Sequence[str], *, now: float) -> frozenset[str] | None:
        """Which of `addresses` (narrow) a known parent showed; None when no parent is known.

        `references` is In-Reply-To and References as they came. Raises sqlite3.Error.
        """
        db = self._reader()
        if db is None:
            return None
        shown: set[int] = set()
        known = False
        for match in _MESSAGE_ID.findall(references)[-MAX_PARENTS:]:
            for key in self._hashes(tenant_id, match.decode("latin-1")):
                row = db.execute("SELECT shown FROM thread WHERE key=? AND at>=?", (key, now - KEEP_SECONDS)).fetchone()
                if row:
                    known = True
                    numbers = array("q")
                    numbers.frombytes(row[0])
                    shown.update(numbers)
        if not known:
            return None
        return frozenset(address for address in addresses if not shown.isdisjoint(self._hashes(tenant_id, address)))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
