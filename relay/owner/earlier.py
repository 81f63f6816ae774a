"""Addresses that a person had before the one of now: who is erased at the new one is erased at the old one too (GDPR-7, GDPR-8).

A change is known by the consents that went along, each of which names the event that it rests on, and by the request that it was.
Only backwards, and only the spelling from which he moved: who has the old mailbox today, or another spelling of it, may be
somebody else (CONSENT-16).
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.consent.subject import person_text
from relay.mail.address import narrow, wide
from relay.owner import requests
from relay.owner.desk import Desk, Person

MOST = 100


def earlier(desk: Desk, person: Person) -> list[Person]:
    """Who this person was, newest first; to be asked before anything of him is erased."""
    found, asked = dict[str, Person](), [person]
    while asked and len(found) < MOST:
        for address in _before(desk, asked.pop(0)):
            one = _at(desk, person.tenant_id, address)
            is_of_now = not set(one.hashes).isdisjoint(person.hashes) and desk.is_own(person, address)
            if not is_of_now and narrow(address) not in found:
                found[narrow(address)] = one
                asked.append(one)
    return list(found.values())


def _at(desk: Desk, tenant_id: int, address: str) -> Person:
    hashes = desk.keyring.subject_hashes(person_text(tenant_id, wide(address)))
    exact = desk.keyring.subject_hashes(person_text(tenant_id, narrow(address)))
    return Person(tenant_id, address, hashes, exact=tuple(exact))


def _before(desk: Desk, person: Person) -> Iterator[str]:
    """The last addresses before this one, where they are not erased."""
    yield from requests.moved_from(desk, person)
    for past in list(desk.ledger.history(desk.connection, person.tenant_id, person.hashes)):
        seq = past.clear.get("moved_from_event")
        if not isinstance(seq, int) or not desk.is_own(person, (past.personal or {}).get("email", "")):
            continue
        before = desk.ledger.event(desk.connection, person.tenant_id, seq)
        if before is not None and before.personal and before.personal.get("email"):
            yield before.personal["email"]
