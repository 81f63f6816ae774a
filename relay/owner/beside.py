"""What stands beside the ledger about one spelling of an address, and goes with its erasure (GDPR-8, CONSENT-16).

Codes, a change of address that waits for its confirmation, people of incidents, and what a marketing tool has not taken yet.
All are kept under the hash that every spelling shares, so each is read, and goes where it names this one and is not later than
the person's `until`.
"""

from __future__ import annotations

import sqlalchemy as sa

from relay.owner.desk import Desk, Person
from relay.owner.hook_events import opened_body
from relay.owner.incident_record import opened
from relay.store.schema import access_code, address_change, deletion_request, incident, incident_person, webhook_event

_INCIDENT_PARTS = ((incident_person, "person"), (deletion_request, "recipient"))


def forget(desk: Desk, person: Person) -> str:
    """All of it; answers the tool's own id for the person, where something told it."""
    code = access_code.c
    his = sa.and_(code.key.in_(person.hashes), code.asked_at <= person.until)
    desk.connection.execute(access_code.delete().where(his))
    _forget_changes(desk, person)
    _forget_incidents(desk, person)
    return _forget_news(desk, person)


def _forget_changes(desk: Desk, person: Person) -> None:
    table = address_change.c
    his = sa.and_(table.key.in_(person.hashes), table.requested_at <= person.until)
    for row in desk.connection.execute(sa.select(address_change).where(his)).all():
        subject = desk.ledger.by_id(desk.connection, row.subject_id)
        told = desk.ledger.unseal(subject, b"move", row.sealed)
        if told is None or desk.is_own(person, told["old"]):
            desk.connection.execute(address_change.delete().where(table.key == row.key))


def forget_moves_to(desk: Desk, person: Person) -> None:
    """Changes of other people to his address, which they have not confirmed: they name it."""
    table = address_change.c
    asked = sa.and_(table.tenant_id == person.tenant_id, table.requested_at <= person.until)
    for row in desk.connection.execute(sa.select(address_change).where(asked)).all():
        told = desk.ledger.unseal(desk.ledger.by_id(desk.connection, row.subject_id), b"move", row.sealed)
        new = desk.person(person.tenant_id, told["new"]) if told is not None else None
        if new is not None and not set(new.hashes).isdisjoint(person.hashes) and desk.is_own(person, new.address):
            desk.connection.execute(address_change.delete().where(table.key == row.key))


def _forget_incidents(desk: Desk, person: Person) -> None:
    for table, part in _INCIDENT_PARTS:
        his = sa.and_(table.c.key.in_(person.hashes), incident.c.opened_at <= person.until)
        rows = desk.connection.execute(sa.select(table, incident.c.ref).join(incident).where(his)).all()
        for row in rows:
            if desk.is_own(person, opened(desk, row.ref, part, row.sealed).get("address", "")):
                this = sa.and_(table.c.incident_id == row.incident_id, table.c.key == row.key)
                desk.connection.execute(table.delete().where(this))


def _forget_news(desk: Desk, person: Person) -> str:
    """A row without an address is his where the tool's own id in it is."""
    table = webhook_event.c
    his = sa.and_(table.tenant_id == person.tenant_id, table.subject.in_(person.hashes), table.at <= person.until)
    rows = desk.connection.execute(sa.select(webhook_event).where(his).order_by(table.id)).all()
    told = [(row.id, opened_body(desk.keyring, row) or {}) for row in rows]
    named = {number for number, body in told if body.get("address") and desk.is_own(person, body["address"])}
    ids = [body["subscriber"] for number, body in told if number in named and body["subscriber"]]
    known = {person.subscriber, *ids} - {""}
    gone = named | {number for number, body in told if not body.get("address") and body.get("subscriber") in known}
    desk.connection.execute(webhook_event.delete().where(table.id.in_(gone)))
    return str(person.subscriber or (ids[-1] if ids else ""))
