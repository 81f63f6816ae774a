"""Addresses that a person had before the one of now: who is erased at the new one is erased at the old one too (GDPR-7, GDPR-8).

A change is known by the consents that went along, each of which names the event that it rests on, and by the request that it was.
Only backwards: who has the old mailbox today may be somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.consent.subject import person_text
from relay.mail.address import wide
from relay.owner import requests
from relay.owner.desk import Desk, Person

MOST = 100


def earlier(desk: Desk, person: Person) -> list[Person]:
    """Who this person was, newest first; to be asked before anything of him is erased."""
    seen, found, asked = set(person.hashes), list[Person](), [person]
    while asked and len(found) < MOST:
        for address in _before(desk, asked.pop(0)):
            hashes = desk.keyring.subject_hashes(person_text(person.tenant_id, wide(address)))
            if seen.isdisjoint(hashes):
                seen.update(hashes)
                found.append(Person(person.tenant_id, address, hashes))
                asked.append(found[-1])
    return found


def _before(desk: Desk, person: Person) -> Iterator[str]:
    """The last addresses before this one, where they are not erased."""
    yield from requests.moved_from(desk, person)
    events = list(desk.ledger.history(desk.connection, person.tenant_id, person.hashes))
    for seq in [past.clear.get("moved_from_event") for past in events]:
        past = desk.ledger.event(desk.connection, person.tenant_id, seq) if isinstance(seq, int) else None
        if past is not None and past.personal and past.personal.get("email"):
            yield past.personal["email"]
