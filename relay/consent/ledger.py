"""The consent ledger: append-only events, one hash chain per tenant, one key per person (CONSENT-14).

Theory of operation. An event has a clear part (basis, times, categories: nothing that names a person) and up to two
sealed parts, encrypted with the key of its subject: what names the person, and the evidence (IP, user agent) that
is deleted first. The key of a subject is random, and wrapped by a key of the keyring; erasing the wrapped key erases
the person from every event at once.

    content = SHA-256 of a JSON list: what happened, when, about whom, the clear part, the digests of the sealed parts
    hash    = SHA-256 of: hash of the event before | tenant | sequence | content

So a digest stands in the chain for each part that may go: retention empties a part and `verify` still walks on. What goes is
told by an event `expired` of the gateway itself, in the same commit: `empty` and `end` write it, and relay.consent.verify names
whatever is gone without one. It is about a subject that is nobody, and says in its clear part

    what      content (all of an event), personal (both sealed parts), evidence (that part), or keys
    ranges    the events that were emptied: [first, last], ...
    subjects  for keys: the hashes of those whose key was destroyed
    kept      written by an upgrade only: the hash of one of whom an older `erased` event tells, and whose key stayed

Only the owner appends; each call here runs inside the owner's transaction.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.keyring import KEY_BYTES, Keyring
from relay.store.schema import consent_event, ledger_head, subject
from relay.store.upsert import insert

GENESIS = bytes(32)
_PLACE = struct.Struct("!QQ")
_NONCE = 12
_SEALED, _EVIDENCE = b"sealed", b"evidence"
EXPIRED = "expired"
"""The event that tells what was emptied."""
GATEWAY = "gateway"
_EMPTIED: Mapping[str, Mapping[str, object]] = {
    "content": {"clear": "", "sealed": None, "evidence": None},
    "personal": {"sealed": None, "evidence": None},
    "evidence": {"evidence": None},
}


class Entry(NamedTuple):
    """An event to append. `person` holds the hashes of the person under every live key, current first."""

    event: str
    at: float  # when the person acted, epoch seconds
    person: Sequence[bytes]
    key: bytes  # of consent_state, or b"" where the event is not about one address
    purpose: str  # "" means every purpose
    clear: Mapping[str, object]
    sealed: Mapping[str, str]
    evidence: Mapping[str, str]


class Appended(NamedTuple):
    """Where an entry went."""

    seq: int
    subject_id: int


class Subject(NamedTuple):
    """A person under one tenant. `secret` is None where it was erased."""

    id: int
    hash: bytes
    secret: bytes | None


class Past(NamedTuple):
    """One event read back. `personal` is None where the person was erased or that part was emptied.

    Of one whose content retention took there are sequence and hashes only: nothing vouches for the rest any more.
    """

    seq: int
    event: str
    at: float
    key: bytes
    purpose: str
    clear: Mapping[str, object]
    personal: Mapping[str, str] | None
    evidence: Mapping[str, str] | None
    recorded_by: str
    recorded_at: float
    prev_hash: bytes
    content_hash: bytes
    hash: bytes
    content: str = ""  # what content_hash is the digest of; "" where retention took it
    expired_at: float = 0.0  # when retention took the content


class Ledger:
    """Appends and reads events with the keys of one keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def append(
        self, connection: sa.Connection, tenant_id: int, entries: Sequence[Entry], *, recorded_by: str, now: float
    ) -> list[Appended]:
        """Append in order; durable when the caller's transaction is. `now` is epoch seconds."""
        if not entries:
            return []
        people = self.subjects(connection, tenant_id, [entry.person for entry in entries])
        return self._add(
            connection, tenant_id, list(zip(entries, people, strict=True)), recorded_by=recorded_by, now=now
        )

    def empty(self, connection: sa.Connection, tenant_id: int, seqs: Sequence[int], *, what: str, now: float) -> None:
        """Take `what` (content, personal, evidence) out of these events, and tell it in the chain."""
        if not seqs:
            return
        values = {**_EMPTIED[what], **({"expired_at": now} if what == "content" else {})}
        events = consent_event.c
        where = (events.tenant_id == tenant_id, events.seq == sa.bindparam("number"))
        connection.execute(consent_event.update().where(*where).values(**values), [{"number": seq} for seq in seqs])
        self._tell(connection, tenant_id, {"what": what, "ranges": ranges_of(seqs)}, now=now)

    def end(self, connection: sa.Connection, tenant_id: int, people: Sequence[int], *, now: float) -> None:
        """Destroy the keys of these subjects, and tell it in the chain: nothing that is kept of them needs it any more."""
        if people:
            query = sa.select(subject.c.hash).where(subject.c.id.in_(people)).order_by(subject.c.id)
            hashes = [digest.hex() for digest in connection.scalars(query)]
            connection.execute(subject.update().where(subject.c.id.in_(people)).values(wrapped=None, erased_at=now))
            self._tell(connection, tenant_id, {"what": "keys", "subjects": hashes}, now=now)

    def subjects(self, connection: sa.Connection, tenant_id: int, wanted: Sequence[Sequence[bytes]]) -> list[Subject]:
        """The living subject behind each list of hashes; made where there is none, under the hash of one who was erased."""
        people = self.find(connection, {digest for digests in wanted for digest in digests})
        known = {found.hash: found for found in people if found.secret is not None}
        erased = {found.hash for found in people}
        fresh: list[dict[str, object]] = []
        next_id = 0
        result: list[Subject] = []
        for digests in wanted:
            person = next((known[digest] for digest in digests if digest in known), None)
            if person is None:
                if not next_id:
                    next_id = (connection.scalar(sa.select(sa.func.max(subject.c.id))) or 0) + 1
                secret = os.urandom(KEY_BYTES)
                digest = next((one for one in digests if one in erased), digests[0])
                person = known[digest] = Subject(next_id, digest, secret)
                fresh.append(self._wrapped(tenant_id, person, secret))
                next_id += 1
            result.append(person)
        if fresh:
            insert(connection, subject, fresh)
        return result

    def find(self, connection: sa.Connection, hashes: Iterable[bytes]) -> list[Subject]:
        """Every subject under these hashes, oldest first, erased ones too."""
        query = sa.select(subject.c.id, subject.c.hash, subject.c.key_id, subject.c.wrapped)
        rows = connection.execute(query.where(subject.c.hash.in_(list(hashes))).order_by(subject.c.id))
        return [Subject(row[0], row[1], self._unwrap(row[1], row[2], row[3])) for row in rows]

    def seal(self, person: Subject, part: bytes, values: Mapping[str, str]) -> bytes:
        """`values` encrypted for one subject; the place is bound to the person and the part."""
        if person.secret is None:
            raise ValueError("the subject is erased")
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(person.secret).encrypt(nonce, orjson.dumps(values), person.hash + part)

    def unseal(self, person: Subject, part: bytes, data: bytes | None) -> Mapping[str, str] | None:
        """What `seal` hid; None where the key or the data are gone, or the data were changed."""
        if data is None or person.secret is None:
            return None
        try:
            plain = AESGCM(person.secret).decrypt(data[:_NONCE], data[_NONCE:], person.hash + part)
        except InvalidTag:
            return None
        values: dict[str, str] = orjson.loads(plain)
        return values

    def history(self, connection: sa.Connection, tenant_id: int, person: Sequence[bytes]) -> Iterator[Past]:
        """Every event about a person (hashes under every live key), oldest first, decrypted where that is possible."""
        people = {found.id: found for found in self.find(connection, person)}
        query = sa.select(consent_event).where(
            consent_event.c.tenant_id == tenant_id, consent_event.c.subject_id.in_(list(people))
        )
        for row in connection.execute(query.order_by(consent_event.c.seq)):
            yield self._past(row, people[row.subject_id])

    def latest(self, connection: sa.Connection, tenant_id: int, person: Sequence[bytes]) -> Iterator[Past]:
        """Those that still name the person, newest first, and none is read before it is asked for."""
        people = {found.id: found for found in self.find(connection, person) if found.secret is not None}
        events = consent_event.c
        about = sa.and_(events.tenant_id == tenant_id, events.subject_id.in_(list(people)), events.sealed.is_not(None))
        query = sa.select(events.seq).where(about).order_by(events.seq.desc())
        for (seq,) in connection.execute(query) if people else ():
            row = connection.execute(sa.select(consent_event).where(about, events.seq == seq)).one()
            yield self._past(row, people[row.subject_id])

    def event(self, connection: sa.Connection, tenant_id: int, seq: int) -> Past | None:
        """One event by its sequence."""
        return next(iter(self.events(connection, tenant_id, [seq])), None)

    def page(
        self, connection: sa.Connection, tenant_id: int, *, after: int, limit: int, purpose: str = ""
    ) -> list[Past]:
        """Up to `limit` events after sequence `after`, of one purpose or of all."""
        query = sa.select(consent_event).where(consent_event.c.tenant_id == tenant_id, consent_event.c.seq > after)
        if purpose:
            query = query.where(consent_event.c.purpose == purpose)
        return self._read(connection, query.order_by(consent_event.c.seq).limit(limit))

    def events(self, connection: sa.Connection, tenant_id: int, seqs: Iterable[int]) -> list[Past]:
        """Events by their sequences, at most some thousands; one that is not there is left out."""
        where = (consent_event.c.tenant_id == tenant_id, consent_event.c.seq.in_(list(seqs)))
        return self._read(connection, sa.select(consent_event).where(*where))

    def _read(self, connection: sa.Connection, query: sa.Select[Any]) -> list[Past]:
        rows = connection.execute(query).all()
        people = self.by_ids(connection, {row.subject_id for row in rows})
        return [self._past(row, people[row.subject_id]) for row in rows]

    def erase(self, connection: sa.Connection, person: Sequence[bytes], *, now: float) -> int:
        """Destroy the keys of a person; returns how many there were. Events, hashes and suppression stay (GDPR-8).

        The `erased` event tells of the one subject it is about; where there are two, under an older hash key, `end` tells.
        """
        table, events = subject.c, consent_event.c
        told = sa.exists().where(
            events.subject_id == table.id, events.event == "erased", events.key == b"", events.at == now
        )
        query = sa.select(table.id, table.tenant_id, told).where(
            table.hash.in_(list(person)), table.wrapped.is_not(None)
        )
        found = connection.execute(query).all()
        for row in found:
            if not row[2]:
                self.end(connection, row[1], [row[0]], now=now)
        statement = subject.update().where(table.id.in_([row[0] for row in found])).values(wrapped=None, erased_at=now)
        connection.execute(statement)
        return len(found)

    def opens(self, digest: bytes, key_id: int, wrapped: bytes) -> bool:
        """Whether the key of a subject is what it was, and this keyring opens it."""
        return self._unwrap(digest, key_id, wrapped) is not None

    def by_ids(self, connection: sa.Connection, numbers: Iterable[int]) -> dict[int, Subject]:
        """Subjects by their numbers, at most some thousands; one that is not there is left out."""
        query = sa.select(subject.c.id, subject.c.hash, subject.c.key_id, subject.c.wrapped)
        rows = connection.execute(query.where(subject.c.id.in_(list(numbers))))
        return {row[0]: Subject(row[0], row[1], self._unwrap(row[1], row[2], row[3])) for row in rows}

    def by_id(self, connection: sa.Connection, subject_id: int) -> Subject:
        """One subject by its number, living or erased."""
        return self.by_ids(connection, [subject_id])[subject_id]

    def _add(
        self,
        connection: sa.Connection,
        tenant_id: int,
        entries: Sequence[tuple[Entry, Subject]],
        *,
        recorded_by: str,
        now: float,
    ) -> list[Appended]:
        seq, previous = _head(connection, tenant_id)
        rows: list[dict[str, object]] = []
        places: list[Appended] = []
        for entry, person in entries:
            seq += 1
            row = self._row(tenant_id, seq, entry, person)
            row["recorded_by"], row["recorded_at"] = recorded_by, now
            row["content_hash"] = content = content_hash(row, person.hash)
            row["prev_hash"] = previous
            row["hash"] = previous = chain_hash(previous, tenant_id, seq, content=content)
            rows.append(row)
            places.append(Appended(seq, person.id))
        insert(connection, consent_event, rows)
        _set_head(connection, tenant_id, seq, previous)
        return places

    def _tell(self, connection: sa.Connection, tenant_id: int, clear: Mapping[str, object], *, now: float) -> None:
        """What was emptied, by the gateway: about the subject that is nobody, which never had a key."""
        digest = gateway_hash(tenant_id)
        number = connection.scalar(sa.select(subject.c.id).where(subject.c.hash == digest))
        if number is None:
            number = (connection.scalar(sa.select(sa.func.max(subject.c.id))) or 0) + 1
            row = {"id": number, "tenant_id": tenant_id, "hash": digest, "key_id": 0, "wrapped": None}
            connection.execute(subject.insert().values(**row))
        entry = Entry(EXPIRED, now, [digest], b"", "", clear, {}, {})
        nobody = Subject(number, digest, None)
        self._add(connection, tenant_id, [(entry, nobody)], recorded_by=GATEWAY, now=now)

    def _row(self, tenant_id: int, seq: int, entry: Entry, person: Subject) -> dict[str, object]:
        sealed = self.seal(person, _SEALED, entry.sealed) if entry.sealed else None
        evidence = self.seal(person, _EVIDENCE, entry.evidence) if entry.evidence else None
        return {
            "tenant_id": tenant_id,
            "seq": seq,
            "event": entry.event,
            "at": entry.at,
            "subject_id": person.id,
            "key": entry.key,
            "purpose": entry.purpose,
            "clear": orjson.dumps(entry.clear).decode(),
            "sealed": sealed,
            "sealed_hash": hashlib.sha256(sealed).digest() if sealed is not None else b"",
            "evidence": evidence,
            "evidence_hash": hashlib.sha256(evidence).digest() if evidence is not None else b"",
        }

    def _wrapped(self, tenant_id: int, person: Subject, secret: bytes) -> dict[str, object]:
        key_id = self._keyring.current_subject_key_id
        nonce = os.urandom(_NONCE)
        wrapped = nonce + AESGCM(self._keyring.subject_keys[key_id]).encrypt(nonce, secret, person.hash)
        return {"id": person.id, "tenant_id": tenant_id, "hash": person.hash, "key_id": key_id, "wrapped": wrapped}

    def _unwrap(self, digest: bytes, key_id: int, wrapped: bytes | None) -> bytes | None:
        key = self._keyring.subject_keys.get(key_id)
        if wrapped is None or key is None:
            return None
        try:
            return AESGCM(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], digest)
        except InvalidTag:
            return None

    def _past(self, row: sa.Row[tuple[object, ...]], person: Subject) -> Past:
        if row.expired_at:
            hashes = (row.prev_hash, row.content_hash, row.hash)
            return Past(row.seq, "", 0.0, b"", "", {}, None, None, "", 0.0, *hashes, expired_at=row.expired_at)
        return Past(
            seq=row.seq,
            event=row.event,
            at=row.at,
            key=row.key,
            purpose=row.purpose,
            clear=orjson.loads(row.clear),
            personal=self.unseal(person, _SEALED, row.sealed),
            evidence=self.unseal(person, _EVIDENCE, row.evidence),
            recorded_by=row.recorded_by,
            recorded_at=row.recorded_at,
            prev_hash=row.prev_hash,
            content_hash=row.content_hash,
            hash=row.hash,
            content=content_text(row._asdict(), person.hash).decode(),
        )


def content_hash(row: Mapping[str, object], subject_hash: bytes) -> bytes:
    """SHA-256 over what an event says."""
    return hashlib.sha256(content_text(row, subject_hash)).digest()


def content_text(row: Mapping[str, object], subject_hash: bytes) -> bytes:
    """What an event says, as it is hashed; `row` has the columns of consent_event."""
    parts = [
        row["event"], row["at"], subject_hash.hex(), row["key"].hex(), row["purpose"], row["clear"],  # type: ignore[attr-defined]  # bytes column
        row["sealed_hash"].hex(), row["evidence_hash"].hex(), row["recorded_by"], row["recorded_at"],  # type: ignore[attr-defined]  # bytes columns
    ]  # fmt: skip
    return orjson.dumps(parts)


def chain_hash(previous: bytes, tenant_id: int, seq: int, *, content: bytes) -> bytes:
    """The hash that the next event holds."""
    return hashlib.sha256(previous + _PLACE.pack(tenant_id, seq) + content).digest()


def gateway_hash(tenant_id: int) -> bytes:
    """Who the events of the gateway itself are about: no hash of an address, for it is made without a key."""
    return hashlib.sha256(f"gateway\0{tenant_id}".encode()).digest()[:16]


def ranges_of(seqs: Sequence[int]) -> list[list[int]]:
    """These numbers as [first, last] each, in order."""
    ranges: list[list[int]] = []
    for seq in sorted(seqs):
        if ranges and ranges[-1][1] + 1 >= seq:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    return ranges


def _head(connection: sa.Connection, tenant_id: int) -> tuple[int, bytes]:
    row = connection.execute(sa.select(ledger_head).where(ledger_head.c.tenant_id == tenant_id)).first()
    return (0, GENESIS) if row is None else (row.seq, row.hash)


def _set_head(connection: sa.Connection, tenant_id: int, seq: int, digest: bytes) -> None:
    changed = connection.execute(
        ledger_head.update().where(ledger_head.c.tenant_id == tenant_id).values(seq=seq, hash=digest)
    )
    if not changed.rowcount:
        connection.execute(ledger_head.insert().values(tenant_id=tenant_id, seq=seq, hash=digest))
