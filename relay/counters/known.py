"""Whom an account has written to before, in slots of the table: for the limit on recipients of the first time in a day.

Of each recipient there are four octets, a keyed hash that differs for each account, and one octet that says in which week he was
last written to. A bucket, one slot, holds 57 of them. Buckets stand in levels of 1, 8, 64 and 512: who finds the bucket of one
level full lies in the next. So an account with 50 correspondents takes one slot, and none ever takes more than 585, which is
room for 30,000. For whom there is no place counts as known: such an account is too large for this sign.

Who was not written to for a year is a stranger again, and his place is another's. A bucket's value says that some lie further
down; the head of the first bucket is the second in which the account began to be known.

take.lua keeps the same buckets in one string, and answers the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from mmap import mmap
from typing import NamedTuple

from relay.counters.contract import DAY, MARK_BYTES, Charge, Limit
from relay.counters.table import FIRST_CELL, KEY_BYTES, VALUES, Table
from relay.mail.address import narrow

PLACES = 57
LEVELS = (1, 8, 64, 512)
WEEK = 7 * DAY
KEPT_WEEKS = 52
KEPT_SECONDS = (KEPT_WEEKS + 2) * WEEK
_EARLIER_WEEKS = 248  # of 256, from which on it is a clock that was set back
_NOBODY = bytes(MARK_BYTES)
_MARKS = FIRST_CELL * 4
_AGES = _MARKS + PLACES * MARK_BYTES
_NUMBERS = [[f"{level}.{number}" for number in range(size)] for level, size in enumerate(LEVELS)]


class Met(NamedTuple):
    """Whom a message goes to: the strangers, and who is known but not of this week."""

    key: str
    strangers: Sequence[bytes]
    seen: Sequence[bytes]


class _Way(NamedTuple):
    """Where a mark lives: its level (-1: nowhere), place and week; and level (-1: none) and place that are free on its way."""

    level: int
    at: int
    week: int
    free: int
    free_at: int


def marks_of(addresses: Iterable[str], key: bytes) -> bytes:
    """Who the recipients are, each once: hashes under a key of the login's own."""
    made = [blake2b(narrow(address).encode(), key=key, digest_size=MARK_BYTES).digest() for address in addresses]
    return b"".join(dict.fromkeys(mark if any(mark) else b"\0\0\0\1" for mark in made))


def met(table: Table, charges: Sequence[Charge], now: float) -> tuple[Sequence[Charge], Met | None]:
    """The charges with strangers counted in place of recipients; without that limit where there are none, or where the account
    is not known for as long as the limit wants.
    """
    for index, (limit, _) in enumerate(charges):
        if limit.people:
            return _sorted_out(table, charges, index, now)
    return charges, None


def _sorted_out(table: Table, charges: Sequence[Charge], index: int, now: float) -> tuple[Sequence[Charge], Met | None]:
    limit = charges[index][0]
    strangers: list[bytes] = []
    seen: list[bytes] = []
    week = int(now // WEEK) & 255
    for start in range(0, len(limit.people), MARK_BYTES):
        mark = limit.people[start : start + MARK_BYTES]
        way = _way(table, limit.key, mark, now)
        if way.level < 0 <= way.free:
            strangers.append(mark)
        elif way.level >= 0 and way.week != week:
            seen.append(mark)
    if not strangers and not seen:
        return [*charges[:index], *charges[index + 1 :]], None
    found = Met(limit.key, strangers, seen)
    if not strangers or (limit.behind and not _is_known(table, limit, now)):
        return [*charges[:index], *charges[index + 1 :]], found
    return [*charges[:index], (limit, len(strangers)), *charges[index + 1 :]], found


def remember(table: Table, people: Met, now: float) -> None:
    """Everybody of a message is known from now on. Only under the table's lock; moves other slots."""
    week = int(now // WEEK) & 255
    for mark in (*people.strangers, *people.seen):
        way = _way(table, people.key, mark, now)
        level, at = (way.level, way.at) if way.level >= 0 else (way.free, way.free_at)
        if level < 0:
            continue
        names = [_name(people.key, above, mark) for above in range(level + 1)]
        places = [table.find(name) for name in names]
        if -1 in places:
            for name in names:
                table.claim(name, now)
            places = [table.find(name) for name in names]  # claiming may have moved them all
        for above, place in enumerate(places):
            _keep(table, place, above < level, now)
        start = places[-1] + _MARKS + at * MARK_BYTES
        table.raw[start : start + MARK_BYTES] = mark
        table.raw[places[-1] + _AGES + at] = week


def _keep(table: Table, place: int, is_deeper: bool, now: float) -> None:
    """Keep a bucket for another year. What lies in one whose time was over is forgotten first."""
    expires, deeper, began = VALUES.unpack_from(table.raw, place + KEY_BYTES)
    if expires < now:
        table.clear(place)
        expires = deeper = began = 0
    if expires < now + KEPT_SECONDS - WEEK or not began or is_deeper > deeper:
        expires = now + KEPT_SECONDS if expires < now + KEPT_SECONDS - WEEK else expires
        VALUES.pack_into(table.raw, place + KEY_BYTES, expires, deeper or int(is_deeper), began or max(1, int(now)))


def _way(table: Table, key: str, mark: bytes, now: float) -> _Way:
    """A bucket has its children for itself, so where it says that nobody lies deeper, they are empty."""
    week = int(now // WEEK) & 255
    raw = table.raw
    passed: list[int] = []
    for level in range(len(LEVELS)):
        place = table.find(_name(key, level, mark))
        expires, deeper, _ = VALUES.unpack_from(raw, place + KEY_BYTES) if place >= 0 else (0.0, 0, 0)
        if expires < now:
            break
        at = _find(raw, place, mark)
        if at >= 0 and _lives(age := raw[place + _AGES + at], week):
            return _Way(level, at, age, -1, -1)
        passed.append(place)
        if not deeper:
            break
    for level, place in enumerate(passed):
        at = _free_at(raw, place, week)
        if at >= 0:
            return _Way(-1, 0, 0, level, at)
    return _Way(-1, 0, 0, len(passed) if len(passed) < len(LEVELS) else -1, 0)


def _is_known(table: Table, limit: Limit, now: float) -> bool:
    """Whether the account is known for as long as the limit wants."""
    place = table.find(_name(limit.key, 0, _NOBODY))
    expires, _, began = VALUES.unpack_from(table.raw, place + KEY_BYTES) if place >= 0 else (0.0, 0, 0)
    return bool(expires >= now and now - began >= limit.behind * DAY)


def _name(key: str, level: int, mark: bytes) -> tuple[str, str, str]:
    return ("known", key, _NUMBERS[level][int.from_bytes(mark, "big") % LEVELS[level]])


def _find(raw: mmap, place: int, mark: bytes) -> int:
    """Which of the places of a bucket holds a mark; -1: none."""
    start, end = place + _MARKS, place + _AGES
    at = raw.find(mark, start, end)
    while at >= 0 and (at - start) % MARK_BYTES:
        at = raw.find(mark, at + 1, end)
    return (at - start) // MARK_BYTES if at >= 0 else -1


def _free_at(raw: mmap, place: int, week: int) -> int:
    """The first place of a bucket that holds nobody, or somebody of more than a year ago; -1: none."""
    empty = _find(raw, place, _NOBODY)
    ages = raw[place + _AGES : place + _AGES + (empty if empty >= 0 else PLACES)]
    if not ages.translate(None, _living(week)):
        return empty
    return next(at for at, age in enumerate(ages) if not _lives(age, week))


@lru_cache(maxsize=4)
def _living(week: int) -> bytes:
    """The weeks that are not long ago."""
    return bytes(age for age in range(256) if _lives(age, week))


def _lives(age: int, week: int) -> bool:
    past = (week - age) & 255
    return past <= KEPT_WEEKS or past >= _EARLIER_WEEKS
