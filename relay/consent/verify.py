"""Walk the chain of a tenant and name the first event that does not hold (CONSENT-14).

Theory of operation. One pass over the events, in one snapshot, checks what stands in each: its hashes, its content, its sealed
parts. Whatever is gone from an event leaves a mark in an array of an octet each; the events `expired` in the same chain clear
the marks of what they name. A mark that is left is something that nobody told of. Keys of people are the same by their hash:
as many as are gone must have been told of, by an `erased` event each or by one of the gateway.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from relay.consent.ledger import EXPIRED, GENESIS, Ledger, chain_hash, gateway_hash
from relay.consent.parts import text_hash
from relay.store.schema import consent_event, consent_text, ledger_head, subject

_CONTENT, _SEALED, _EVIDENCE = 1, 2, 4
_TAKES = {"content": _CONTENT | _SEALED | _EVIDENCE, "personal": _SEALED | _EVIDENCE, "evidence": _EVIDENCE}
_CLEARS = {what: bytes(mark & ~taken for mark in range(256)) for what, taken in _TAKES.items()}
_MARKS = 1_024  # the arrays grow by so much
TEXT_MARK = '"text_hash":"'
TEXT_HEX = 64
_EVENT = (
    "seq", "prev_hash", "hash", "content_hash", "expired_at", "event", "at", "key", "purpose", "clear", "sealed", "sealed_hash",
    "evidence", "evidence_hash", "recorded_by", "recorded_at",
)  # fmt: skip


class Verification(NamedTuple):
    """Outcome of `verify`. `bad_event` is the first sequence that does not hold, or 0."""

    events: int
    erased: int  # events whose person was erased
    expired: int  # events whose content retention took
    bad_event: int
    reason: str
    head: bytes  # hash of the last event that holds


class _Fault(Exception):
    """`seq` does not hold, for this reason."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(reason)
        self.seq = seq
        self.reason = reason


def verify(ledger: Ledger, connection: sa.Connection, tenant_id: int) -> Verification:
    """Walk the chain of a tenant from its first event; reads only. About 20 microseconds an event, its person's key included."""
    walk = _Walk(ledger, tenant_id)
    try:
        walk.events(connection)
        walk.end(connection)
    except (AttributeError, KeyError, TypeError, ValueError):  # SQLite keeps a number where there were octets
        return Verification(walk.seq, walk.erased, walk.expired, walk.seq + 1, "it is of another form", walk.previous)
    except _Fault as fault:
        return Verification(walk.seq, walk.erased, walk.expired, max(1, fault.seq), fault.reason, walk.previous)
    return Verification(walk.seq, walk.erased, walk.expired, 0, "", walk.previous)


def untold(connection: sa.Connection, tenant_id: int, seqs: Collection[int]) -> list[int]:
    """Those of these events that lost their content and of which the chain does not say so."""
    if not seqs:
        return []
    events, left = consent_event.c, set(seqs)
    gateway = sa.select(subject.c.id).where(subject.c.hash == gateway_hash(tenant_id)).scalar_subquery()
    query = sa.select(events.clear).where(
        events.subject_id == gateway, events.expired_at == 0, events.clear.startswith('{"what":"content"')
    )
    for clear in connection.scalars(query):
        for first, last in orjson.loads(clear)["ranges"]:
            left = {seq for seq in left if not first <= seq <= last}
    return sorted(left)


class _Walk:
    def __init__(self, ledger: Ledger, tenant_id: int) -> None:
        self._ledger = ledger
        self._tenant_id = tenant_id
        self._gateway = gateway_hash(tenant_id)
        self.previous, self.seq, self.erased, self.expired = GENESIS, 0, 0, 0
        self._marks = bytearray()  # of each event, what is gone from it
        self._seen = bytearray()  # of each subject, whether its key was looked at
        self._texts: dict[str, int] = {}  # hash of a text -> the first event that names it
        self._gone: dict[bytes, list[int]] = {}  # hash of a person -> the first event about each key that is gone
        self._told: Counter[bytes] = Counter()  # how many keys the chain says are gone

    def events(self, connection: sa.Connection) -> None:
        """The pass over all events. Raises _Fault."""
        columns = [consent_event.c[name] for name in _EVENT]
        about = (subject.c.id, subject.c.tenant_id, subject.c.hash, subject.c.key_id, subject.c.wrapped)
        query = (
            sa.select(*columns, *about)
            .join(subject, subject.c.id == consent_event.c.subject_id, isouter=True)
            .where(consent_event.c.tenant_id == self._tenant_id)
            .order_by(consent_event.c.seq)
            .execution_options(yield_per=1_000)
        )
        for row in connection.execute(query):
            self._event(row)

    def end(self, connection: sa.Connection) -> None:
        """What only shows at the end of the chain. Raises _Fault."""
        head = connection.execute(sa.select(ledger_head).where(ledger_head.c.tenant_id == self._tenant_id)).first()
        if head is None and self.seq:
            raise _Fault(self.seq, "the end of the chain is not known")
        if head is not None and (head.seq, head.hash) != (self.seq, self.previous):
            raise _Fault(min(head.seq, self.seq + 1), "events are missing at the end")
        faults = [*self._untold_parts(), *self._untold_keys(), *self._wrong_texts(connection)]
        if faults:
            raise _Fault(*min(faults))

    def _event(self, row: Any) -> None:  # a row of the columns above
        (
            seq, previous, digest, content_digest, expired_at, event, at, key, purpose, clear, sealed, sealed_hash,
            evidence, evidence_hash, recorded_by, recorded_at, subject_id, owner, subject_hash, key_id, wrapped,
        ) = row  # fmt: skip
        here = self.seq + 1
        if seq != here:
            raise _Fault(min(seq, here), "an event is missing")
        if previous != self.previous:
            raise _Fault(seq, "the hash of the event before does not match")
        if digest != chain_hash(previous, self._tenant_id, seq, content=content_digest):
            raise _Fault(seq, "the hash of this event does not match")
        mark = 0
        if expired_at:
            if expired_at < 0 or clear or sealed is not None or evidence is not None:
                raise _Fault(seq, "it is marked as expired, and still has content")
            mark = _CONTENT
        else:
            if subject_hash is None:
                raise _Fault(seq, "the content was changed")
            said = (
                event, at, subject_hash.hex(), key.hex(), purpose, clear, sealed_hash.hex(), evidence_hash.hex(), recorded_by,
                recorded_at,
            )  # fmt: skip
            if hashlib.sha256(orjson.dumps(said)).digest() != content_digest:
                raise _Fault(seq, "the content was changed")
            if sealed is None:
                mark |= _SEALED if sealed_hash else 0
            elif hashlib.sha256(sealed).digest() != sealed_hash:
                raise _Fault(seq, "the sealed part was changed")
            if evidence is None:
                mark |= _EVIDENCE if evidence_hash else 0
            elif hashlib.sha256(evidence).digest() != evidence_hash:
                raise _Fault(seq, "the evidence part was changed")
            found = clear.find(TEXT_MARK)
            if found >= 0:
                found += len(TEXT_MARK)
                self._texts.setdefault(clear[found : found + TEXT_HEX], seq)
        if subject_id is None:
            raise _Fault(seq, "the person it is about is missing")
        if subject_id >= len(self._seen) or not self._seen[subject_id]:
            self._person(seq, subject_id, owner, subject_hash, key_id=key_id, wrapped=wrapped)
        self._marks.append(mark)
        if event == EXPIRED and not expired_at:
            self._clear(seq, subject_hash, clear)
        elif event == "erased" and not expired_at and not key:
            self._told[subject_hash] += 1
        self.previous, self.seq = digest, seq
        self.erased += wrapped is None and subject_hash != self._gateway
        self.expired += expired_at > 0

    def _person(
        self, seq: int, subject_id: int, owner: int, digest: bytes, *, key_id: int, wrapped: bytes | None
    ) -> None:
        """The key of a subject, once."""
        if subject_id >= len(self._seen):
            self._seen.extend(bytes(subject_id + _MARKS - len(self._seen)))
        self._seen[subject_id] = 1
        if owner != self._tenant_id:
            raise _Fault(seq, "the person it is about is of another tenant")
        if wrapped is not None and not self._ledger.opens(digest, key_id, wrapped):
            raise _Fault(seq, "the key of its person does not open")
        if wrapped is None and digest != self._gateway:
            self._gone.setdefault(digest, []).append(seq)

    def _clear(self, seq: int, subject_hash: bytes, clear: str) -> None:
        """Take off the marks of what this event tells of."""
        told = orjson.loads(clear)
        if subject_hash != self._gateway:
            raise _Fault(seq, "it is not about the gateway")
        for text in told.get("subjects", ()):
            self._told[bytes.fromhex(text)] += 1
        if told.get("kept"):
            self._told[bytes.fromhex(told["kept"])] -= 1
        for first, last in told.get("ranges", ()):
            if not 0 < first <= last < seq:
                raise _Fault(seq, "it tells of events that are not before it")
            self._marks[first - 1 : last] = self._marks[first - 1 : last].translate(_CLEARS[told["what"]])

    def _untold_parts(self) -> list[tuple[int, str]]:
        left = len(self._marks) - len(self._marks.lstrip(b"\0"))
        if left == len(self._marks):
            return []
        gone = self._marks[left]
        what = "its content" if gone & _CONTENT else "its sealed part" if gone & _SEALED else "its evidence"
        return [(left + 1, f"{what} is gone, and no event of the chain says so")]

    def _untold_keys(self) -> list[tuple[int, str]]:
        reason = "the key of its person is gone, and no event of the chain says so"
        return [(seqs[-1], reason) for digest, seqs in self._gone.items() if len(seqs) > self._told[digest]]

    def _wrong_texts(self, connection: sa.Connection) -> list[tuple[int, str]]:
        table = consent_text.c
        query = sa.select(table.hash, table.language, table.text).where(table.tenant_id == self._tenant_id)
        held = {row.hash.hex(): text_hash(row.language, row.text).hex() for row in connection.execute(query)}
        return [
            (seq, "its text was changed" if name in held else "its text is missing")
            for name, seq in self._texts.items()
            if held.get(name) != name
        ]
