"""A tenant leaves: what goes, what stays as proof, and in which order (GDPR-18, GDPR 28(3)(g)).

Theory of operation. `delete` is one short commit: from then on the tenant is suspended for good, and no operation knows it by its
name but those that show the proof. Queue, files and counters forget it next (relay.serve.departures). Then `empty` takes its rows
away, a batch to a commit, so that who opts out of another tenant's mail never waits; `emptied` says that it is done. Every step
may be done again, so whatever dies in between, the next start goes on. Its row stays: its number is in the chain of the proof, in
suppressions and in the links of mail that was sent, and must never be another tenant's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from relay.consent.erased import Deleted
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import (
    api_key,
    audit,
    consent_event,
    dkim_key,
    metadata,
    policy_mode,
    retention_period,
    subject,
    suppression,
    tenant,
)

BATCH_ROWS = 500  # so that an opt-out never waits behind it
JUDGING = ("consent", "suppression")
TOLD = ("tenant.delete", "tenant.emptied")
_ERASED = {"contact": "", "postal_address": "", "suspended_reason": ""}
Condition = sa.ColumnElement[bool]


class Kept(NamedTuple):
    """Why rows of a table stay; `goes` picks those of it that go all the same, None: none does."""

    why: str
    goes: Callable[[], Condition] | None = None


KEPT = {
    "tenant": Kept("its number is in the proof and in the links of mail that was sent; contact and postal address go"),
    "purpose": Kept("what each consent was for, and towards whom (CONSENT-4, CONSENT-15)"),
    "policy_mode": Kept("by which rule a consent counted (CONSENT-15)", lambda: policy_mode.c.policy.not_in(JUDGING)),
    "subject": Kept("the key of each person in the proof: erasing it erases the person (CONSENT-14)"),
    "consent_text": Kept("what people agreed to (CONSENT-2, CONSENT-15)"),
    "consent_event": Kept("the proof (CONSENT-15)"),
    "consent_state": Kept("when each consent was used last: its proof goes five years after that (CONSENT-15)"),
    "ledger_head": Kept("the end of the chain (CONSENT-14)"),
    "suppression": Kept(
        "who left stays away, and the links keep working (UNSUB-15, GDPR-8); addresses and bounces go",
        # Only bounces end by themselves; said as the index says it, so that it is used.
        lambda: sa.and_(suppression.c.expires_at > sa.literal_column("0"), suppression.c.reason == "bounce"),
    ),
    "retention_period": Kept(
        "evidence in the proof goes as early as the tenant chose (GDPR-13)",
        lambda: retention_period.c.kind != "evidence",
    ),
    "audit": Kept("that it was deleted, by whom and when (GDPR-2)", lambda: audit.c.op.not_in(TOLD)),
}


def delete(desk: Desk, args: Args) -> Result:
    """`name`; optional `id`, which it must have then (of a list, for a restore): it is gone from now on, for good. Again
    says the same and changes nothing.
    """
    row = desk.tenant(args.text("name"), gone=True)
    if args.number("id", row.id, most=1 << 53) != row.id:
        raise OwnerError("tenant.unknown", "the tenant of that name is another one")
    if row.deleted_at:
        return shown(row)
    since = row.suspension_at if row.suspended else max(desk.now, row.suspension_at + 0.001)
    values = {"deleted_at": desk.now, "suspended": True, "suspension_at": since, "suspension_told": True}
    desk.connection.execute(tenant.update().where(tenant.c.id == row.id).values(**values))
    live = sa.and_(api_key.c.tenant_id == row.id, api_key.c.revoked_at == 0)
    desk.connection.execute(api_key.update().where(live).values(revoked_at=desk.now))
    desk.gone.append(Deleted(row.id, row.name, desk.now))
    desk.note(name=row.name)
    return shown(desk.tenant(row.name, gone=True))


def leaving(desk: Desk, args: Args) -> Result:
    """Tenants that were deleted and are not gone from everywhere yet."""
    where = sa.and_(tenant.c.deleted_at > 0, tenant.c.emptied_at == 0)
    return [shown(row) for row in desk.connection.execute(sa.select(tenant).where(where).order_by(tenant.c.id))]


def holds(desk: Desk, args: Args) -> Result:
    """`name`: how many rows of which table are its own, those that `delete` takes and those that stay, with the reason."""
    row = desk.tenant(args.text("name"), gone=True)
    goes: dict[str, int] = {}
    stays: dict[str, int] = {}
    for table, own in _tables(row.id):
        kept = KEPT.get(table.name)
        here = _count(desk, table, own)
        there = here if kept is None else _count(desk, table, sa.and_(own, kept.goes())) if kept.goes else 0
        goes |= {table.name: there} if there else {}
        stays |= {table.name: here - there} if here - there else {}
    return {**shown(row), "goes": goes, "stays": stays, "why": {name: KEPT[name].why for name in stays}}


def empty(desk: Desk, args: Args) -> Result:
    """`name`, of one that was deleted: take one batch of its rows away. Answers how many went, by table, whether there may be
    `more`, and `next`, the `after` of the batch that follows: addresses up to there have gone.
    """
    row, after = _deleted(desk, args), args.time("after", 0.0)
    gone: dict[str, int] = {}
    left = BATCH_ROWS
    for table, where in _goes(row.id):
        if left <= 0:
            break
        count = _take(desk, table, where, left)
        left -= count
        gone |= {table.name: count} if count else {}
    unsealed, after = _unseal(desk, row.id, left, after) if left > 0 else (0, after)
    return {"gone": gone, "more": left - unsealed < BATCH_ROWS, "next": after}


def emptied(desk: Desk, args: Args) -> Result:
    """`name`: nothing is left of it but what stays. Raises OwnerError while there is."""
    row = _deleted(desk, args)
    if _is_left(desk, row.id):
        raise OwnerError("tenant.not_empty", "something of it is left: it goes on")
    _unname(desk, row.name)
    if not row.emptied_at:
        values = {**_ERASED, "emptied_at": desk.now}
        desk.connection.execute(tenant.update().where(tenant.c.id == row.id).values(**values))
    desk.note(name=row.name)
    return shown(desk.tenant(row.name, gone=True))


def shown(row: TenantRow) -> dict[str, Any]:
    """A tenant that leaves, as these operations answer it; times are None where it has not come to that."""
    return {
        "id": row.id, "name": row.name, "deleted_at": row.deleted_at or None, "emptied_at": row.emptied_at or None,
    }  # fmt: skip


def own_rows(table: sa.Table, number: int) -> Condition | None:
    """Which rows of a table are of the tenant; None where no column says whose they are, nor does what they hang on."""
    if table is tenant:
        return tenant.c.id == number
    if "tenant_id" in table.c:
        return table.c.tenant_id == number
    for key in table.foreign_keys:
        above = own_rows(key.column.table, number)
        if above is not None:
            return key.parent.in_(sa.select(key.column).where(above))
    return None


def _tables(number: int) -> Iterator[tuple[sa.Table, Condition]]:
    """Every table with rows of tenants, those that hang on others first."""
    for table in reversed(metadata.sorted_tables):
        own = own_rows(table, number)
        if own is not None:
            yield table, own


def _goes(number: int) -> Iterator[tuple[sa.Table, Condition]]:
    """What a tenant that leaves does not leave behind, by table."""
    for table, own in _tables(number):
        kept = KEPT.get(table.name)
        if kept is None:
            yield table, own
        elif kept.goes is not None:
            yield table, sa.and_(own, kept.goes())


def _is_left(desk: Desk, number: int) -> bool:
    found = (
        sa.select(sa.exists(sa.select(sa.literal(1)).select_from(table).where(own))) for table, own in _goes(number)
    )
    return any(desk.connection.scalar(query) for query in found)


def _deleted(desk: Desk, args: Args) -> TenantRow:
    row = desk.tenant(args.text("name"), gone=True)
    if not row.deleted_at:
        raise OwnerError("tenant.stays", "nobody has deleted this tenant: `zegel tenant delete` does")
    return row


def _count(desk: Desk, table: sa.Table, where: Condition) -> int:
    return desk.connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0


def _take(desk: Desk, table: sa.Table, where: Condition, most: int) -> int:
    """Delete at most so many rows; how many. What hangs on a row outside of the database goes first, since it may go twice."""
    if table is dkim_key:
        for row in desk.connection.execute(sa.select(dkim_key).where(where).limit(most)):
            desk.keyring.remove_dkim(row.domain, row.selector)
    key = list(table.primary_key.columns)
    about = [suppression.c.subject_id] if table is suppression else []
    chosen = desk.connection.execute(sa.select(*key, *about).where(where).limit(most)).all()
    if chosen:
        desk.connection.execute(table.delete().where(_each(key)), _values(key, chosen))
    if about:
        _forget_people(desk, [row.subject_id for row in chosen if row.subject_id is not None])
    return len(chosen)


def _each(key: Sequence[sa.Column[Any]]) -> Condition:
    """One row by its key, for `_values`: SQLite would look for many pairs at once by a walk through the table."""
    return sa.and_(*(column == sa.bindparam(f"of_{column.name}") for column in key))


def _values(key: Sequence[sa.Column[Any]], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows that begin with the columns of a key."""
    return [{f"of_{column.name}": row[place] for place, column in enumerate(key)} for row in rows]


def _forget_people(desk: Desk, people: list[int]) -> None:
    """The keys of people whom only a bounce was about: they are in no proof."""
    used = sa.or_(
        sa.exists().where(consent_event.c.subject_id == subject.c.id),
        sa.exists().where(suppression.c.tenant_id == subject.c.tenant_id, suppression.c.subject_id == subject.c.id),
    )
    desk.connection.execute(subject.delete().where(subject.c.id.in_(people), sa.not_(used)))


def _unseal(desk: Desk, number: int, most: int, after: float) -> tuple[int, float]:
    """What is kept of who left is a hash: the address, which the tenant could see, goes. How many did; when the last was set."""
    table = suppression.c
    key = (table.key, table.scope, table.reason)
    query = sa.select(*key, table.at).where(table.tenant_id == number, table.at >= after, table.sealed.is_not(None))
    rows = desk.connection.execute(query.order_by(table.at).limit(most)).all()
    if rows:
        desk.connection.execute(suppression.update().where(_each(key)).values(sealed=None), _values(key, rows))
    return len(rows), rows[-1].at if rows else after


def _unname(desk: Desk, name: str) -> None:
    """Lines of the audit that are of no tenant, and name this one: what another gateway said of it (THROTTLE-9)."""
    named = re.compile(rf'"(?:tenant|credential):{re.escape(name)}["-]')
    query = sa.select(audit.c.id, audit.c.detail).where(audit.c.tenant_id == 0, audit.c.op == "suspension.follow")
    for row in desk.connection.execute(query).all():
        if named.search(row.detail):
            desk.connection.execute(audit.delete().where(audit.c.id == row.id))
