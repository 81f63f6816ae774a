"""Mailings in the delivery log: which there are, and what of them has had its time (GDPR-12).

Theory of operation. What was handed in before the end of its invoice goes when that has come; a name that is used again
later is another mailing. Without an invoice date a mailing goes when its last line is old enough. A day is looked at once it
is over; and no file outlives the latest end that an invoice could give it, so that a name that is used for ever keeps nobody.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from relay.clock import ID_EPOCH
from relay.mail.mailing import DAY, Mailing
from relay.store.connection import place
from relay.store.history import BUSY_SECONDS, MAILINGS, day_of, has_tables, paths, remove

Unseal = Callable[[int, bytes], bytes]
ALL = (1 << 63) - 1
SETTLE_SECONDS = 3_600
"""So long after its day a process may still have a line for it in hand, or a clock be behind."""
BATCH = 2_000  # lines that are looked at under one lock


class Seen(NamedTuple):
    """What the files know of a mailing: its lowest message id, its last line, how many mails were taken."""

    first: int
    last: float
    mails: int

    @property
    def began(self) -> float:
        return (self.first >> 22) / 1000 + ID_EPOCH


class Periods(NamedTuple):
    """How long lines are kept, and from when. Days; `chosen` by tenant; `invoiced` is the day's beginning in UTC."""

    days: int
    invoice_days: int
    chosen: Mapping[str, int]
    invoiced: Mapping[Mailing, float]

    def end(self, mailing: Mailing, seen: Seen) -> float:
        """When what is left of a mailing goes."""
        invoiced = self._invoice_end(mailing, seen)
        return invoiced if seen.began < invoiced else seen.last + self._seconds(mailing)

    def gone_below(self, mailing: Mailing, seen: Seen, now: float) -> int:
        """Messages of a mailing with a lower id than this have had their time."""
        invoiced = self._invoice_end(mailing, seen)
        if now < invoiced:
            return 0
        if seen.last + self._seconds(mailing) <= now:
            return ALL
        return max(0, int((invoiced - ID_EPOCH) * 1000)) << 22

    def day_over(self, now: float) -> str:
        """What was written on an earlier day than this one has had its time, whatever mailing it is of."""
        return day_of(now - (self.invoice_days + self.days) * DAY)

    def _seconds(self, mailing: Mailing) -> float:
        return min(self.days, self.chosen.get(mailing.tenant, self.days)) * DAY

    def _invoice_end(self, mailing: Mailing, seen: Seen) -> float:
        """0 where it has no invoice date."""
        if mailing not in self.invoiced:
            return 0.0
        return min(self.invoiced[mailing], seen.last + self.invoice_days * DAY) + self._seconds(mailing)


def seen_in(folder: Path, unseal: Unseal, tenant: str = "") -> dict[Mailing, Seen]:
    """Every mailing of `tenant`, or of all, that the delivery log knows. Raises sqlite3.Error."""
    found: dict[Mailing, Seen] = {}
    for path in paths(folder, MAILINGS):
        with _opened(path, "ro") as db:
            for _, mailing, seen in _rows(db, unseal):
                if tenant in ("", mailing.tenant):
                    known = found.get(mailing, Seen(ALL, 0.0, 0))
                    found[mailing] = Seen(min(known[0], seen[0]), max(known[1], seen[1]), known[2] + seen[2])
    return found


def forget(folder: Path, unseal: Unseal, periods: Periods, now: float) -> int:
    """Delete what has had its time; how many lines. May be done again. Raises sqlite3.Error or OSError."""
    gone = 0
    for path in paths(folder, MAILINGS):
        if path.name[:10] < periods.day_over(now):
            with _opened(path, "ro") as db:
                gone += _count(db)
            remove(path)
    known = seen_in(folder, unseal)
    below = {mailing: periods.gone_below(mailing, seen, now) for mailing, seen in known.items()}
    for path in paths(folder, MAILINGS):
        if path.name[:10] < day_of(now - SETTLE_SECONDS):
            gone += _thin(path, unseal, below)
    return gone


def _thin(path: Path, unseal: Unseal, below: Mapping[Mailing, int]) -> int:
    with _opened(path, "rw") as db:
        rows = list(_rows(db, unseal))
        ends = [(number, below[mailing]) for number, mailing, seen in rows if seen.first < below.get(mailing, 0)]
        if ends and (len(ends) < len(rows) or any(end < ALL for _, end in ends)):
            gone = _delete(db, ends)
            is_empty = not _count(db)
        else:
            gone, is_empty = _count(db) if ends else 0, bool(ends)
    if is_empty:
        remove(path)
    return gone


def _delete(db: sqlite3.Connection, ends: Collection[tuple[int, int]]) -> int:
    """The lines of messages below the end of their mailing, by its number; then what only led to them."""
    db.execute("PRAGMA secure_delete=ON")
    db.execute("PRAGMA temp_store=MEMORY")
    db.execute("CREATE TEMP TABLE ending(number INTEGER PRIMARY KEY, below INTEGER NOT NULL)")
    db.executemany("INSERT INTO ending VALUES(?,?)", ends)
    gone, last = 0, db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0]
    for start in range(1, last + 1, BATCH):
        db.execute("BEGIN IMMEDIATE")
        gone += db.execute(
            "DELETE FROM event WHERE seq BETWEEN ? AND ?"
            " AND id < coalesce((SELECT below FROM ending WHERE number = event.mailing), 0)",
            (start, start + BATCH - 1),
        ).rowcount
        db.execute("COMMIT")
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM who WHERE id NOT IN (SELECT id FROM event)")
    db.execute("DELETE FROM mailing WHERE number NOT IN (SELECT mailing FROM event)")
    db.execute("UPDATE mailing SET first=max(first, below) FROM ending WHERE ending.number=mailing.number")
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return gone


def _rows(db: sqlite3.Connection, unseal: Unseal) -> Iterator[tuple[int, Mailing, Seen]]:
    if not has_tables(db):
        return
    for number, name, *seen in db.execute("SELECT number, name, first, last, mails FROM mailing"):
        yield number, Mailing(*orjson.loads(unseal(number, name))), Seen(*seen)


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM event").fetchone()[0]) if has_tables(db) else 0


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(
        sqlite3.connect(place(path, mode), uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    ) as db:
        yield db
