"""The suppression store: who may not be mailed, by keyed hash, whatever any consent says (CONSENT-11, UNSUB-13, GDPR-8).

Objection, complaint and restriction are kept under the wide address, a bounce under the narrow one (CONSENT-16).
An objection goes only when the person confirms an opt-in afterwards: the entry remembers the purpose in `lifted`, so that no
other purpose comes back with one for all; one of that purpose stands no more. It stands again without the confirmation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from relay.store.schema import suppression
from relay.store.upsert import upsert

ALL = "all"
REASONS = ("objection", "bounce", "complaint", "restriction")
OBJECTIONS = frozenset(("objection", "complaint"))  # FB-6: a complaint counts as an objection
BOUNCE_SECONDS = 90 * 86_400  # REP-3


class Standing(NamedTuple):
    """One row of the store."""

    key: bytes
    scope: str
    reason: str
    at: float
    expires_at: float
    lifted: frozenset[str]

    @property
    def stands(self) -> bool:
        """False for one of a purpose that the person lifted."""
        return self.scope not in self.lifted

    def bars(self, purpose: str) -> bool:
        """Whether it forbids recording or using consent for `purpose`."""
        return self.reason != "bounce" and self.scope in (ALL, purpose) and purpose not in self.lifted


def stands() -> sa.ColumnElement[bool]:
    """`Standing.stands`, of rows."""
    return sa.or_(suppression.c.scope == ALL, suppression.c.lifted == "")


def standing(connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, list[Standing]]:
    """What stands under these keys."""
    found = {key: [entry for entry in entries if entry.stands] for key, entries in said(connection, keys).items()}
    return {key: entries for key, entries in found.items() if entries}


def said(connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, list[Standing]]:
    """The same with what was lifted."""
    table = suppression.c
    query = sa.select(table.key, table.scope, table.reason, table.at, table.expires_at, table.lifted)
    result: dict[bytes, list[Standing]] = {}
    for row in connection.execute(query.where(table.key.in_(list(keys)))):
        result.setdefault(row[0], []).append(Standing(*row[:5], frozenset(row[5].split())))
    return result


def put(
    connection: sa.Connection,
    tenant_id: int,
    entry: Standing,
    *,
    source: str,
    subject_id: int | None,
    sealed: bytes | None,
) -> None:
    """Write an entry; one that is there is renewed, and what was lifted is barred again."""
    row = {
        "key": entry.key,
        "scope": entry.scope,
        "reason": entry.reason,
        "tenant_id": tenant_id,
        "at": entry.at,
        "expires_at": entry.expires_at,
        "lifted": " ".join(sorted(entry.lifted)),
        "source": source,
    }
    # An opt-out by token knows no address; it must not take away the one that is there.
    if subject_id is not None:
        row["subject_id"] = subject_id
    if sealed is not None:
        row["sealed"] = sealed
    upsert(connection, suppression, [row])


def renew(connection: sa.Connection, entry: Standing, *, at: float) -> None:
    """The same was said again: it counts as of `at`, and nothing else of it changes."""
    where = sa.and_(_is(entry.key, entry.scope, entry.reason), suppression.c.at < at)
    connection.execute(suppression.update().where(where).values(at=at))


def ended_at(entries: Iterable[Standing], purpose: str) -> float:
    """When the person last said no to `purpose`, lifted since or not; 0.0: never. What he had agreed to before ended then."""
    noes = (entry.at for entry in entries if entry.reason in OBJECTIONS and entry.scope in (ALL, purpose))
    return max(noes, default=0.0)


def lift(connection: sa.Connection, keys: Sequence[bytes], purpose: str, *, before: float) -> int:
    """Make way for a consent that the person confirmed: objections of `purpose` up to `before` are lifted. Returns how many."""
    lifted = 0
    for entries in standing(connection, keys).values():
        for entry in entries:
            if entry.reason not in OBJECTIONS or entry.at > before or not entry.bars(purpose):
                continue
            lifted += 1
            where = _is(entry.key, entry.scope, entry.reason)
            value = " ".join(sorted(entry.lifted | {purpose}))
            connection.execute(suppression.update().where(where).values(lifted=value))
    return lifted


def remove(connection: sa.Connection, keys: Sequence[bytes], *, scope: str, reason: str) -> int:
    """Delete entries that stand; returns how many. Who may do this for which reason is the owner's to know."""
    table = suppression.c
    where = sa.and_(table.key.in_(list(keys)), table.scope == scope, table.reason == reason, stands())
    return connection.execute(suppression.delete().where(where)).rowcount


def _is(key: bytes, scope: str, reason: str) -> sa.ColumnElement[bool]:
    table = suppression.c
    return sa.and_(table.key == key, table.scope == scope, table.reason == reason)
