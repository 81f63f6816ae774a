"""Old files of the delivery log, in which an address with a +part is found by its own spelling alone (CONSENT-16, GDPR-8).

Who is erased has all his spellings erased, and nobody can name those that a file of before knows. So each such file is read once,
whole, in a thread, before the first erasure that meets it: 25,000 lines a second were measured. Newer files need none of that.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from relay.mail.address import narrow, wide
from relay.store.connection import place
from relay.store.history import BUSY_SECONDS, PERSON, WIDE, Seal, has_tables, short_hash
from relay.store.rows import put_rows

LINES = 1000
Digest = Callable[[str], bytes]


def person_hash(digest: Digest, address: str) -> int | None:
    """What all spellings of a person are found by in the delivery log; None for one that stands for itself."""
    return short_hash(digest(PERSON + wide(address))) if wide(address) != narrow(address) else None


def widen(folder: Path, unseal: Seal, digest: Digest) -> int:
    """Bring old files up to date; how many. Raises sqlite3.Error; then it is to be done again."""
    count = 0
    for path in sorted(folder.glob("*.history")):
        with contextlib.closing(
            sqlite3.connect(place(path, "rw"), uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        ) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] < WIDE and has_tables(db):
                _widen(db, unseal, digest)
                db.execute(f"PRAGMA user_version={WIDE}")
                count += 1
    return count


def _widen(db: sqlite3.Connection, unseal: Seal, digest: Digest) -> None:
    last = 0
    query = "SELECT seq, id, data FROM event WHERE seq>? ORDER BY seq LIMIT ?"
    while lines := db.execute(query, (last, LINES)).fetchall():
        last = lines[-1][0]
        found = {
            (value, number)
            for _, number, blob in lines
            for address in _addresses(orjson.loads(unseal(number, blob)))
            if (value := person_hash(digest, address)) is not None
        }
        if found:
            db.execute("BEGIN IMMEDIATE")
            put_rows(db, "INSERT OR IGNORE INTO who VALUES", sorted(found))
            db.execute("COMMIT")


def _addresses(data: dict[str, Any]) -> Iterator[str]:
    """Those that a line is found by."""
    if "rcpt" not in data or "tenant" not in data:
        return
    yield from (text for text in data["rcpt"] if "+" in text)
    yield from (row[0] for row in data.get("dropped", ()) if "+" in row[0])
    if "+" in data.get("from", ""):
        yield data["from"]
