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
    events = consent_event.c
    for key, tenant_id, seq in found:
        one = sa.select(subject.c.hash).join(consent_event, events.subject_id == subject.c.id)
        whose = one.where(events.tenant_id == tenant_id, events.seq == seq).scalar_subquery()
        people = sa.select(subject.c.id).where(subject.c.hash == whose)  # who was erased and came back is another one
        about = sa.and_(events.subject_id.in_(people), events.tenant_id == tenant_id, events.key == key)
        content = {"clear": "", "sealed": None, "evidence": None, "expired_at": desk.now}
        desk.connection.execute(consent_event.update().where(about, events.expired_at == 0).values(**content))
    keys = [row.key for row in found]
    if keys:
        desk.connection.execute(confirm_request.delete().where(confirm_request.c.key.in_(keys)))
        desk.connection.execute(consent_state.delete().where(table.key.in_(keys)))
    return len(found)
