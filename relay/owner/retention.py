"""Delete what has had its time: evidence, bounces, requests, codes, incidents, audit (GDPR-11, GDPR-14)."""

from __future__ import annotations

import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.incidents import expire
from relay.store.schema import (
    access_code,
    address_change,
    audit,
    confirm_request,
    consent_event,
    idempotency,
    refusal_tally,
    suppression,
    tenant_told,
    told_outcome,
    webhook_event,
)

DAY = 86_400
INCIDENT_DAYS = 1_830
BATCH_ROWS = 500  # so that an opt-out never waits behind a clean-up


def run(desk: Desk, args: Args) -> Result:
    """`evidence_days` (default 730), `request_days` (30), `audit_days` (1830), `outcome_days` (28). One batch of each.

    Answers how many rows of each kind went, and `more` where a kind had a full batch: call again then.
    """
    evidence = desk.now - args.number("evidence_days", 730, least=1) * DAY
    requests = desk.now - args.number("request_days", 30, least=7) * DAY
    outcomes = desk.now - args.number("outcome_days", 28, least=1) * DAY
    audits = desk.now - args.number("audit_days", 1_830, least=30) * DAY
    events = consent_event.c
    old = sa.select(events.tenant_id, events.seq).where(events.evidence.is_not(None), events.at < evidence)
    numbers = [tuple(row) for row in desk.connection.execute(old.limit(BATCH_ROWS))]
    # The digest of the evidence stays, so the chain still verifies (CONSENT-14).
    for tenant_id, seq in numbers:
        where = sa.and_(events.tenant_id == tenant_id, events.seq == seq)
        desk.connection.execute(consent_event.update().where(where).values(evidence=None))
    gone = {
        "evidence": len(numbers),
        "bounces": _delete(
            desk, suppression, sa.and_(suppression.c.expires_at > 0, suppression.c.expires_at < desk.now)
        ),
        "requests": _delete(desk, confirm_request, confirm_request.c.requested_at < requests),
        "codes": _delete(desk, access_code, access_code.c.asked_at < desk.now - DAY),
        "moves": _delete(desk, address_change, address_change.c.requested_at < desk.now - DAY),
        "outcomes": _delete(desk, told_outcome, told_outcome.c.at < outcomes),
        "answers": _delete(desk, idempotency, idempotency.c.at < desk.now - DAY),
        "audit": _delete(desk, audit, audit.c.at < audits),
        "webhooks": _delete(desk, webhook_event, webhook_event.c.at < desk.now - 28 * DAY),
        "tallies": _delete(desk, refusal_tally, refusal_tally.c.first_at < desk.now - 30 * DAY),
        "incidents": expire(desk, desk.now - INCIDENT_DAYS * DAY, BATCH_ROWS),
        "digests": _delete(
            desk, tenant_told, sa.and_(tenant_told.c.kind == "digest", tenant_told.c.at < desk.now - 30 * DAY)
        ),
    }
    desk.note(**gone)
    return {**gone, "more": any(count >= BATCH_ROWS for count in gone.values())}


def _delete(desk: Desk, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    key = list(table.primary_key.columns)
    chosen = sa.select(*key).where(where).limit(BATCH_ROWS)
    return desk.connection.execute(table.delete().where(sa.tuple_(*key).in_(chosen))).rowcount


def note_release(desk: Desk, args: Args) -> Result:
    """The operator has let the queue of a restore go: `cut_at`, `restored_at`, `messages`, `files` (GDPR-2)."""
    times = {name: args.time(name, 0.0) for name in ("cut_at", "restored_at")}
    numbers = {name: args.number(name, 0, most=1_000_000_000) for name in ("messages", "files")}
    desk.note(**times, **numbers)
    return {**times, **numbers}
