"""The proof of a consent that nobody has used for years is deleted; its place in the chain stays (CONSENT-15, CONSENT-14)."""

from __future__ import annotations

import calendar
import time

import sqlalchemy as sa

from relay.owner.desk import Desk
from relay.policy.ageing import month_of
from relay.store.schema import confirm_request, consent_event, consent_state, subject


def years_before(now: float, years: int) -> float:
    """The same day and hour so many years before; of 29 February 1 March."""
    then = time.gmtime(now)
    return float(calendar.timegm((then.tm_year - years, *then[1:6])))


def expire_proofs(desk: Desk, moment: float, limit: int) -> int:
    """Take the content of every event about at most `limit` consents that were given, renewed and used before the month of
    `moment`, and forget their states; how many consents. An end of them does not keep them longer.

    What somebody said against mail as a whole is no proof of a consent: it stays with the suppression that follows from it.
    """
    before = month_of(moment)
    table = consent_state.c
    old = sa.and_(*(column < before for column in (table.used_at, table.given_at, table.confirmed_at, table.sale_at)))
    query = sa.select(table.key, table.tenant_id, table.event).where(old).order_by(table.used_at).limit(limit)
    found = desk.connection.execute(query).all()
    for tenant_id in sorted({row.tenant_id for row in found}):
        _expire(desk, tenant_id, {row.key: row.event for row in found if row.tenant_id == tenant_id})
    keys = [row.key for row in found]
    if keys:
        desk.connection.execute(confirm_request.delete().where(confirm_request.c.key.in_(keys)))
        desk.connection.execute(consent_state.delete().where(table.key.in_(keys)))
    return len(found)


def _expire(desk: Desk, tenant_id: int, gone: dict[bytes, int]) -> None:
    """`gone`: consent -> the sequence of an event about it."""
    numbers = [
        row.seq
        for row in desk.connection.execute(_of_the_same_people(tenant_id, list(gone.values())))
        if row.key in gone and not row.expired_at
    ]
    desk.ledger.empty(desk.connection, tenant_id, numbers, what="content", now=desk.now)


def _of_the_same_people(tenant_id: int, numbers: list[int]) -> sa.Select[tuple[int, bytes, float]]:
    """Every event about the people of these events of a tenant; who was erased and came back is another subject of one hash.

    Nothing but the subject narrows the search: beside a tenant SQLite reads all events of that tenant.
    """
    events = consent_event.c
    these = sa.and_(events.tenant_id == tenant_id, events.seq.in_(numbers))
    hashes = sa.select(subject.c.hash).join(consent_event, events.subject_id == subject.c.id).where(these)
    people = sa.select(subject.c.id).where(subject.c.hash.in_(hashes))
    return sa.select(events.seq, events.key, events.expired_at).where(events.subject_id.in_(people))
