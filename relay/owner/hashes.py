"""Every hash under which somebody is known, where all that came is one of them, in a link or in what is on record (UNSUB-20).

After a rotation of the hash key a link of before has the hash of then, while what came since may lie under the one of now.
One leads to the other by the address alone, so it is sought where the ledger can still read one: in what it has of this hash;
and where it has none, since mail went before anything was on record or he was erased since, among the newest events of the
tenant. Whoever is not found there is refused all the same: each live key is asked before a mail leaves (CONSENT-11).
What a consent has under other keys than its state, and its person under other hashes, ends with it (CONSENT-15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import NamedTuple

import sqlalchemy as sa

from relay.consent.ledger import Past
from relay.consent.subject import person_text
from relay.mail.address import wide
from relay.owner.desk import Desk, Person
from relay.store.schema import consent_event, ledger_head, subject

NEWEST_EVENTS = 500  # as many as a chunk of an import has rows
_OF_ONE = 100  # of the events about somebody, among which the address of a consent is sought


class Known(NamedTuple):
    """Consents and their people by every hash that they are known under."""

    keys: dict[bytes, bytes]  # of a consent -> the one that was asked for
    people: dict[bytes, bytes]  # hash of somebody -> one that stands for all of his


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


def under_every_hash(desk: Desk, tenant_id: int, consents: Mapping[bytes, int]) -> Known:
    """`consents`: key -> sequence of an event about it, which may have been written under another key than that."""
    events = consent_event.c
    query = sa.select(events.seq, events.key, subject.c.hash).join(subject, subject.c.id == events.subject_id)
    where = (events.tenant_id == tenant_id, events.seq.in_(consents.values()))
    found = {row.seq: (row.key, row.hash) for row in desk.connection.execute(query.where(*where))}
    known = Known({key: key for key in consents}, {})
    is_rotated = desk.keyring.has_older_hash_keys
    told = {past.seq: past for past in desk.ledger.events(desk.connection, tenant_id, found)} if is_rotated else {}
    for key, seq in consents.items():
        if seq not in found:
            continue
        other, digest = found[seq]
        own = {key, other} - {b""}
        past = _named(desk, Person(tenant_id, "", [digest]), told[seq], own) if is_rotated else None
        if past is None or past.personal is None:
            known.people.setdefault(digest, digest)
        else:
            address = past.personal["email"]
            own.update(desk.consent_keys(tenant_id, past.purpose, address))
            hashes = desk.keyring.subject_hashes(person_text(tenant_id, wide(address)))
            known.people.update(dict.fromkeys([digest, *hashes], hashes[0]))
        known.keys.update(dict.fromkeys(own, key))
    return known


def _named(desk: Desk, person: Person, first: Past, keys: set[bytes]) -> Past | None:
    """An event about one consent that still tells its address; `first` is asked first."""
    newest = desk.ledger.latest(desk.connection, person.tenant_id, person.hashes)
    told = chain([first], islice(newest, _OF_ONE))
    return next((past for past in told if past.key in keys and past.personal and past.personal.get("email")), None)
