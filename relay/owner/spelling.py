"""Erasure of one spelling of an address, by who was proven to read exactly that one (GDPR-8, CONSENT-16).

`jan+x@` is `jan@` at most hosts and somebody else at some. Who shows that he reads `jan+x@` is shown what is held under that
spelling, and erases that. What is held under another one stays, and the key that all spellings share with it.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from relay.owner import requests
from relay.owner.desk import Desk, Person, TenantRow
from relay.store.schema import confirm_request, incident_person, suppression


def own_keys(desk: Desk, person: Person) -> dict[bytes, str]:
    """Keys of the consents whose records name this spelling, with their purposes."""
    past = desk.ledger.history(desk.connection, person.tenant_id, person.hashes)
    return {
        one.key: one.purpose
        for one in past
        if one.key and one.personal is not None and desk.is_own(person, one.personal.get("email", ""))
    }


def is_alone(desk: Desk, person: Person, stopped: Iterable[str]) -> bool:
    """Whether nothing is held of another spelling; `stopped` are addresses that the suppression store has of the person."""
    told = desk.ledger.history(desk.connection, person.tenant_id, person.hashes)
    named = [*stopped, *requests.addresses(desk, person), *((one.personal or {}).get("email", "") for one in told)]
    shown_to = incident_person.c
    exposed = desk.connection.execute(sa.select(shown_to.key).where(shown_to.key.in_(person.hashes)).limit(1)).first()
    return exposed is None and all(desk.is_own(person, address) for address in named if address)


def forget_own(desk: Desk, person: Person, keys: Iterable[bytes], suppressions: Iterable[TenantRow]) -> int:
    """Destroy what names this spelling, and no more: what was sealed is overwritten, for the key of it is the other one's too.

    `suppressions` are those that name it. Answers in how many events of the ledger it stood.
    """
    past = desk.ledger.history(desk.connection, person.tenant_id, person.hashes)
    named = [
        one.seq
        for one in past
        if one.personal is not None and one.personal.get("email") and desk.is_own(person, one.personal["email"])
        if one.recorded_at <= person.until
    ]
    desk.ledger.empty(desk.connection, person.tenant_id, named, what="personal", now=desk.now)
    stops = suppression.c
    for stop in suppressions:
        place = (stops.key == stop.key, stops.scope == stop.scope, stops.reason == stop.reason)
        desk.connection.execute(suppression.update().where(*place).values(sealed=None))
    desk.connection.execute(confirm_request.delete().where(confirm_request.c.key.in_(list(keys))))
    requests.forget_person(desk, person)
    return len(named)
