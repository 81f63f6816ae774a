"""Every hash under which somebody is known, where all that came is one of them, in a link (UNSUB-20).

After a rotation of the hash key a link of before has the hash of then, while what came since may lie under the one of now.
One leads to the other by the address alone, so it is sought where the ledger can still read one: in what it has of this hash;
and where it has none, since mail went before anything was on record or he was erased since, among the newest events of the
tenant. Whoever is not found there is refused all the same: each live key is asked before a mail leaves (CONSENT-11).
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from relay.consent.ledger import Past
from relay.consent.subject import person_text
from relay.mail.address import wide
from relay.owner.desk import Desk, Person
from relay.store.schema import ledger_head

NEWEST_EVENTS = 500  # as many as a chunk of an import has rows


def with_every_hash(desk: Desk, person: Person) -> Person:
    """The same person with all of them behind the one that he came with; as he came where no address tells them."""
    if not desk.keyring.has_older_hash_keys:
        return person
    past = desk.ledger.history(desk.connection, person.tenant_id, person.hashes)
    return _found(desk, person, past) or _found(desk, person, _newest(desk, person)) or person


def _newest(desk: Desk, person: Person) -> list[Past]:
    last = desk.connection.scalar(sa.select(ledger_head.c.seq).where(ledger_head.c.tenant_id == person.tenant_id)) or 0
    after = max(0, last - NEWEST_EVENTS)
    return desk.ledger.page(desk.connection, person.tenant_id, after=after, limit=NEWEST_EVENTS)


def _found(desk: Desk, person: Person, events: Iterable[Past]) -> Person | None:
    for address in {wide(past.personal["email"]) for past in events if past.personal and past.personal.get("email")}:
        hashes = desk.keyring.subject_hashes(person_text(person.tenant_id, address))
        if not set(hashes).isdisjoint(person.hashes):
            return person._replace(hashes=[*person.hashes, *(one for one in hashes if one not in person.hashes)])
    return None
