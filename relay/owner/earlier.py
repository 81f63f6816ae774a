"""Addresses that a person had before the one of now: who is erased at the new one is erased at the old one too (GDPR-7, GDPR-8).

A change is known by the consents that went along, each of which names the event that it rests on, and by the request that it was.
Only backwards, only the spelling from which he moved, and only what was recorded until then: who has the old mailbox today, or
another spelling of it, may be somebody else (CONSENT-16).
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.consent.subject import person_text
from relay.mail.address import narrow, wide
from relay.owner import requests
from relay.owner.desk import Desk, Person

MOST = 100


def earlier(desk: Desk, person: Person) -> list[Person]:
    """Who this person was, newest first, and until when; to be asked before anything of him is erased."""
    found, asked = dict[str, Person](), [person]
    while asked and len(found) < MOST:
        for address, until in _before(desk, asked.pop(0)):
            one, known = _at(desk, person.tenant_id, address, until), found.get(narrow(address))
            is_of_now = not set(one.hashes).isdisjoint(person.hashes) and desk.is_own(person, address)
            if not is_of_now and (known is None or known.until < until):  # he may have been there more than once
                found[narrow(address)] = one
                asked.append(one)
    return sorted(found.values(), key=lambda one: -one.until)


def _at(desk: Desk, tenant_id: int, address: str, until: float) -> Person:
    hashes = desk.keyring.subject_hashes(person_text(tenant_id, wide(address)))
    exact = desk.keyring.subject_hashes(person_text(tenant_id, narrow(address)))
    return Person(tenant_id, address, hashes, exact=tuple(exact), until=until)


def _before(desk: Desk, person: Person) -> Iterator[tuple[str, float]]:
    """The last addresses before this one, where they are not erased, and when he left each."""
    yield from requests.moved_from(desk, person)
    for past in list(desk.ledger.history(desk.connection, person.tenant_id, person.hashes)):
        seq = past.clear.get("moved_from_event")
        is_his = past.recorded_at <= person.until and desk.is_own(person, (past.personal or {}).get("email", ""))
        before = desk.ledger.event(desk.connection, person.tenant_id, seq) if isinstance(seq, int) and is_his else None
        if before is not None and before.personal and before.personal.get("email"):
            yield before.personal["email"], past.recorded_at
