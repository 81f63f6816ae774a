"""Delete what has had its time: evidence, bounces, requests, codes, incidents, audit (GDPR-11, GDPR-13, GDPR-14)."""

from __future__ import annotations

import sqlalchemy as sa

from relay.owner import requests as people
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.expiry import end_people, expire_proofs, expire_requests, years_before
from relay.owner.incidents import expire
from relay.owner.periods import DAY, KINDS, before, with_choice
from relay.store.history import day_of
from relay.store.schema import (
    access_code,
    address_change,
    audit,
    consent_event,
    idempotency,
    mailing,
    refusal_tally,
    suppression,
    tenant,
    tenant_told,
    told_outcome,
    webhook_event,
)

BATCH_ROWS = 500  # so that an opt-out never waits behind a clean-up
_EVIDENCE = sa.text("consent_event.evidence IS NOT NULL")  # as the index has it, or SQLite does not use that
_BOUNCE = sa.text("suppression.expires_at > 0")


def run(desk: Desk, args: Args) -> Result:
    """`evidence_days`, `request_days`, `audit_days`, `outcome_days`, `bounce_days`, `mailing_days`: see relay.owner.periods;
    `proof_years` (5). One batch of each.

    Answers how many rows of each kind went, and `more` where a kind had a full batch: call again then.
    """
    least = {"request": 7, "audit": 30}
    given = ("evidence", "request", "audit", "outcome", "bounce", "mailing")
    days = {
        kind: args.number(f"{kind}_days", KINDS[kind].days, least=least.get(kind, 1))
        if kind in given
        else KINDS[kind].days
        for kind in KINDS
    }
    ends = {kind: desk.now - number * DAY for kind, number in days.items()}
    proofs = years_before(desk.now, args.number("proof_years", 5, least=1, most=100))
    is_invoiced = sa.and_(mailing.c.invoice_date < day_of(ends["mailing"]), mailing.c.changed_at < ends["mailing"])
    is_digest = sa.and_(tenant_told.c.kind == "digest", tenant_told.c.at < ends["told"])
    gone = {
        "evidence": _forget_evidence(desk, days["evidence"]),
        "proofs": expire_proofs(desk, proofs, BATCH_ROWS),
        "bounces": _delete_due(desk, suppression, "bounce", days["bounce"]),
        "requests": expire_requests(desk, ends["request"], proofs, BATCH_ROWS),
        "codes": _delete(desk, access_code, access_code.c.asked_at < ends["code"]),
        "moves": _delete(desk, address_change, address_change.c.requested_at < ends["code"]),
        "mailings": _delete(desk, mailing, is_invoiced),
        "outcomes": _delete_due(desk, told_outcome, "outcome", days["outcome"]),
        "answers": _delete(desk, idempotency, idempotency.c.at < ends["idempotency"]),
        "audit": _delete(desk, audit, audit.c.at < ends["audit"]),
        "webhooks": _delete(desk, webhook_event, webhook_event.c.at < ends["webhook"]),
        "tallies": _delete(desk, refusal_tally, refusal_tally.c.first_at < ends["told"]),
        "incidents": expire(desk, ends["incident"], BATCH_ROWS),
        "people": people.expire(desk, ends["request_file"], BATCH_ROWS),
        "digests": _delete(desk, tenant_told, is_digest),
        "keys": end_people(desk, proofs),
    }
    desk.note(**gone)
    return {**gone, "more": any(count >= BATCH_ROWS for count in gone.values())}


def _forget_evidence(desk: Desk, days: int) -> int:
    """Its digest stays, and an event says what went, so the chain still verifies (CONSENT-14)."""
    events, count = consent_event.c, 0
    for tenant_id, end in _due(desk, consent_event, "evidence", days):
        which = sa.and_(events.tenant_id == tenant_id, events.at < end, _EVIDENCE)
        numbers = list(desk.connection.scalars(sa.select(events.seq).where(which).limit(BATCH_ROWS - count)))
        desk.ledger.empty(desk.connection, tenant_id, numbers, what="evidence", now=desk.now)
        count += len(numbers)
    return count


def _delete_due(desk: Desk, table: sa.Table, kind: str, days: int) -> int:
    count = 0
    for tenant_id, end in _due(desk, table, kind, days):
        if count < BATCH_ROWS:
            where = sa.and_(table.c.tenant_id == tenant_id, table.c.at < end, *_only(table))
            count += _delete(desk, table, where, BATCH_ROWS - count)
    return count


def _due(desk: Desk, table: sa.Table, kind: str, days: int) -> list[tuple[int, float]]:
    """Tenants of which something has had its time, each with its end: one look into the index for each, never at all rows."""
    end = before(desk.now, kind, days)
    old = sa.select(sa.literal(1)).where(table.c.tenant_id == tenant.c.id, table.c.at < end, *_only(table))
    query = sa.select(tenant.c.id, end).select_from(with_choice(kind)).where(sa.exists(old.correlate_except(table)))
    return [(row[0], row[1]) for row in desk.connection.execute(query)]


def _only(table: sa.Table) -> list[sa.TextClause]:
    return [condition for named, condition in ((consent_event, _EVIDENCE), (suppression, _BOUNCE)) if named is table]


def _delete(desk: Desk, table: sa.Table, where: sa.ColumnElement[bool], most: int = BATCH_ROWS) -> int:
    key = list(table.primary_key.columns)
    chosen = sa.select(*key).where(where).limit(most)
    return desk.connection.execute(table.delete().where(sa.tuple_(*key).in_(chosen))).rowcount


def note_release(desk: Desk, args: Args) -> Result:
    """The operator has let the queue of a restore go: `cut_at`, `restored_at`, `messages`, `files` (GDPR-2)."""
    times = {name: args.time(name, 0.0) for name in ("cut_at", "restored_at")}
    numbers = {name: args.number(name, 0, most=1_000_000_000) for name in ("messages", "files")}
    desk.note(**times, **numbers)
    return {**times, **numbers}
