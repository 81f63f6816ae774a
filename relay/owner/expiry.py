"""What has had its time in the ledger: proofs, requests that nobody confirmed, keys and texts that nothing needs any more
(CONSENT-15, GDPR-14).

Its place in the chain stays, and the chain says what went (relay.consent.ledger).
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from relay.consent.ledger import EXPIRED
from relay.consent.state import Event, Present, fold
from relay.consent.states import is_state, load_states, save_states
from relay.consent.stood import LIFTS
from relay.consent.verify import TEXT_HEX, TEXT_MARK
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.hashes import Known, under_every_hash
from relay.owner.lifts import expire_lifts
from relay.owner.optins import CONFIRM_SECONDS
from relay.policy.ageing import month_of
from relay.store.schema import (
    address_change,
    confirm_request,
    consent_event,
    consent_state,
    consent_text,
    subject,
    suppression,
)

HOUR = 3_600
PEOPLE_AT_ONCE = 10_000  # of whom one run looks whether their keys are needed; 40 ms
TEXTS_AT_ONCE = 500
# What stands against somebody may lie under another hash key than he does: two looks, each into an index.
_THEIRS = (suppression.c.key == subject.c.hash, suppression.c.subject_id == subject.c.id)
Held = Mapping[bytes, tuple[Present, bytes]]


def years_before(now: float, years: int) -> float:
    """The same day and hour so many years before; of 29 February 1 March."""
    then = time.gmtime(now)
    return float(calendar.timegm((then.tm_year - years, *then[1:6])))


def expire_proofs(desk: Desk, moment: float, limit: int) -> int:
    """Take the content of every event about at most `limit` consents that were given, renewed and used before the month of
    `moment`, and forget their states; how many consents. An end of them does not keep them longer.

    Keys of people of whom nothing else is kept go along. What somebody said against mail as a whole is no proof of a consent:
    of that the address goes, and the rest stays with the suppression that follows from it.
    """
    before = month_of(moment)
    table = consent_state.c
    old = sa.and_(*(column < before for column in (table.used_at, table.given_at, table.confirmed_at, table.sale_at)))
    query = sa.select(table.key, table.tenant_id, table.event).where(old).order_by(table.used_at).limit(limit)
    found = desk.connection.execute(query).all()
    for tenant_id in sorted({row.tenant_id for row in found}):
        _expire(desk, tenant_id, {row.key: row.event for row in found if row.tenant_id == tenant_id}, before)
    if found:
        desk.connection.execute(consent_state.delete().where(is_state([row.key for row in found])))
    return len(found)


def _expire(desk: Desk, tenant_id: int, gone: dict[bytes, int], before: float) -> None:
    """`gone`: consent -> the sequence of an event about it."""
    known = under_every_hash(desk, tenant_id, gone)
    people = _subjects(desk, known)
    others = load_states(desk.connection, known.keys.keys() - gone.keys())
    keys = known.keys.keys() - others.keys()
    rows = _events_of(desk, people)
    # Who has just been asked anew may confirm while his link works; what he was asked is no proof of what he had said.
    recent = desk.now - CONFIRM_SECONDS
    ours = {row.seq for row in rows if row.key in keys and not (row.event == "requested" and row.at > recent)}
    desk.ledger.empty(desk.connection, tenant_id, sorted(ours), what="content", now=desk.now)
    lost = {people[row.subject_id] for row in rows if row.seq in ours and row.event in LIFTS}
    if lost:
        hashes = {digest: whose for digest, whose in known.people.items() if whose in lost}
        numbers = {number: whose for number, whose in people.items() if whose in lost}
        left = [row for row in rows if row.seq not in ours and row.subject_id in numbers]
        expire_lifts(desk.connection, hashes, numbers, left)
    dead = (confirm_request.c.key.in_(keys), confirm_request.c.requested_at <= recent)
    desk.connection.execute(confirm_request.delete().where(*dead))
    _end(desk, {row.subject_id for row in rows if row.seq in ours}, before)


def _subjects(desk: Desk, known: Known) -> dict[int, bytes]:
    """Every subject of these people, with whose it is: who was erased and came back is another one."""
    query = sa.select(subject.c.id, subject.c.hash).where(subject.c.hash.in_(known.people))
    return {row.id: known.people[row.hash] for row in desk.connection.execute(query)}


def _events_of(desk: Desk, people: Collection[int]) -> list[Any]:
    """Every event about these subjects that has content.

    Nothing but the subject narrows the search: beside a tenant SQLite reads all events of that tenant.
    """
    events = consent_event.c
    columns = (events.seq, events.key, events.event, events.at, events.purpose, events.subject_id, events.clear)
    query = sa.select(*columns)
    where = (events.subject_id.in_(people), events.expired_at == 0)
    return list(desk.connection.execute(query.where(*where).order_by(events.seq)))


# -- requests that nobody confirmed -----------------------------------------------------------------------------------


def expire_requests(desk: Desk, end: float, proofs: float, limit: int) -> int:
    """Take at most `limit` double opt-ins that nobody answered before `end` out of the ledger: somebody may have typed in
    anybody's address (CLASS-7). What holds is again what held without them. `proofs` as `moment` of `expire_proofs`.
    """
    query = sa.select(confirm_request).where(confirm_request.c.requested_at < end).limit(limit)
    pending = desk.connection.execute(query).all()
    for tenant_id in sorted({row.tenant_id for row in pending}):
        _expire_requests(desk, tenant_id, [row for row in pending if row.tenant_id == tenant_id], month_of(proofs))
    if pending:
        keys = [row.key for row in pending]
        desk.connection.execute(confirm_request.delete().where(confirm_request.c.key.in_(keys)))
    return len(pending)


def _expire_requests(desk: Desk, tenant_id: int, pending: Sequence[TenantRow], before: float) -> None:
    asked = {row.key: row for row in pending}
    known = under_every_hash(desk, tenant_id, {row.key: row.event for row in pending})
    people = _subjects(desk, known)
    rows = _events_of(desk, people)
    unanswered: dict[bytes, list[int]] = {}
    for row in rows:
        key = known.keys.get(row.key, row.key)
        if row.event == "confirmed":  # what was asked before it is part of that proof
            unanswered.pop(key, None)
        elif row.event == "requested" and key in asked:
            unanswered.setdefault(key, []).append(row.seq)
    gone = {seq: asked[key] for key, seqs in unanswered.items() for seq in seqs}
    desk.ledger.empty(desk.connection, tenant_id, sorted(gone), what="content", now=desk.now)
    # After a rotation the state of a consent may stand under an older key than the request.
    for key, held in load_states(desk.connection, {*known.keys, *(row.key for row in rows)}).items():
        state = held[0].state
        if state.status == "requested" and state.event in gone:
            one = gone[state.event]
            own = {key, *(each for each, whose in known.keys.items() if whose == one.key)}
            same = {number for number, whose in people.items() if whose == people[one.subject_id]}
            _stand_again(desk, one, {key: held}, own=own, people=same)
    _end(desk, people, before)


def _stand_again(
    desk: Desk, pending: TenantRow, held: Held, *, own: Collection[bytes], people: Collection[int]
) -> None:
    """The state of a consent without the request that came to nothing; none where nothing else was ever on record.

    `own`: its keys; `people`: every subject that its person is. An end of before stays one, whatever is left of its record.
    """
    table = consent_event.c
    query = sa.select(table.seq, table.event, table.at, table.key, table.purpose, table.clear).where(
        table.subject_id.in_(people), table.expired_at == 0
    )
    ((key, (was, proof)),) = held.items()
    present: Present | None = None
    is_kept = False
    for row in desk.connection.execute(query.order_by(table.seq)):
        if row.key in own or (not row.key and row.purpose in ("", pending.purpose)):
            present = fold(present, Event(row.seq, row.event, row.at, orjson.loads(row.clear)))
            is_kept = is_kept or row.key in own
    if present is None or not is_kept:
        desk.connection.execute(consent_state.delete().where(is_state((key,))))
    else:
        present = present._replace(ended_at=max(present.ended_at, was.ended_at))
        save_states(desk.connection, pending.tenant_id, {key: (present, proof)}, now=desk.now)


# -- keys and texts ---------------------------------------------------------------------------------------------------


def end_people(desk: Desk, moment: float) -> int:
    """Destroy keys that nothing needs any more, of a part of all people: each hour another one. How many.

    Most go with the proof that was the last to need them; this finds who left long after, or never had said yes.
    """
    last = desk.connection.scalar(sa.select(sa.func.max(subject.c.id))) or 0
    start = int(desk.now // HOUR) % (last // PEOPLE_AT_ONCE + 1) * PEOPLE_AT_ONCE
    return _end(desk, range(start, start + PEOPLE_AT_ONCE), month_of(moment))


def _end(desk: Desk, people: Iterable[int], before: float) -> int:
    """Destroy the keys of those of these people of whom nothing is kept but what they said against mail, before `before`."""
    events, stops = consent_event.c, suppression.c
    is_proof = sa.or_(events.key != b"", events.at >= before, events.event == EXPIRED)
    needed = sa.exists().where(events.subject_id == subject.c.id, events.expired_at == 0, is_proof)
    is_stop = sa.or_(stops.at >= before, stops.reason == "restriction")  # only who set a block lifts it (GDPR-9)
    stands = sa.or_(*(sa.exists().where(whose, is_stop) for whose in _THEIRS))
    which = (
        sa.and_(subject.c.id >= people.start, subject.c.id < people.stop)
        if isinstance(people, range)
        else subject.c.id.in_(people)
    )
    query = sa.select(subject.c.id, subject.c.tenant_id, subject.c.hash)
    where = (which, subject.c.wrapped.is_not(None), sa.not_(needed), sa.not_(stands))
    found: dict[int, list[Any]] = {}
    for row in desk.connection.execute(query.where(*where)):
        found.setdefault(row.tenant_id, []).append(row)
    return sum(_end_of(desk, tenant_id, rows) for tenant_id, rows in sorted(found.items()))


def _end_of(desk: Desk, tenant_id: int, rows: Sequence[Any]) -> int:
    stops, numbers = suppression.c, [row.id for row in rows]
    bounced = sa.select(stops.subject_id).where(stops.tenant_id == tenant_id, sa.text("suppression.expires_at > 0"))
    moving = sa.select(address_change.c.subject_id).where(address_change.c.subject_id.in_(numbers))
    busy = {*desk.connection.scalars(bounced), *desk.connection.scalars(moving)}
    gone = [row for row in rows if row.id not in busy]
    desk.ledger.end(desk.connection, tenant_id, [row.id for row in gone], now=desk.now)
    ended = (stops.key.in_([row.hash for row in gone]), stops.subject_id.in_([row.id for row in gone]))
    for named in ended:
        desk.connection.execute(suppression.update().where(named, stops.sealed.is_not(None)).values(sealed=None))
    return len(gone)


def unused_texts(desk: Desk, args: Args) -> Result:
    """`proof_years` (5): texts that came in before that and that no event names any more, with the last event that was looked at.

    Reads every event of a tenant who has a text of that age.
    """
    before = month_of(years_before(desk.now, args.number("proof_years", 5, least=1, most=100)))
    texts, events = consent_text.c, consent_event.c
    old: dict[int, set[str]] = {}
    for row in desk.connection.execute(sa.select(texts.tenant_id, texts.hash).where(texts.first_seen_at < before)):
        old.setdefault(row.tenant_id, set()).add(row.hash.hex())
    found: list[dict[str, Any]] = []
    for tenant_id, names in old.items():
        after = desk.connection.scalar(sa.select(sa.func.max(events.seq)).where(events.tenant_id == tenant_id)) or 0
        unused = sorted(names - _texts_used(desk, tenant_id))
        found += [{"tenant_id": tenant_id, "text": name, "after": after} for name in unused]
    return found[:TEXTS_AT_ONCE]


def _texts_used(desk: Desk, tenant_id: int) -> set[str]:
    position = sa.func.instr if desk.connection.dialect.name == "sqlite" else sa.func.strpos
    at = position(consent_event.c.clear, TEXT_MARK)
    name = sa.func.substr(consent_event.c.clear, at + len(TEXT_MARK), TEXT_HEX)
    where = (consent_event.c.tenant_id == tenant_id, consent_event.c.expired_at == 0, at > 0)
    return set(desk.connection.scalars(sa.select(name).where(*where).distinct()))


def forget_texts(desk: Desk, args: Args) -> Result:
    """`texts`: as `unused_texts` answered. One that an event names since stays; how many went."""
    texts, events = consent_text.c, consent_event.c
    gone = 0
    for given in args.rows("texts", TEXTS_AT_ONCE):
        row = Args(given)
        tenant_id, name = row.number("tenant_id", 0, most=1 << 62), row.text("text")
        later = (events.tenant_id == tenant_id, events.seq > row.number("after", 0, most=1 << 62))
        query = sa.select(events.seq).where(*later, events.clear.contains(name)).limit(1)
        if desk.connection.scalar(query) is None:
            here = sa.and_(texts.tenant_id == tenant_id, texts.hash == bytes.fromhex(name))
            gone += desk.connection.execute(consent_text.delete().where(here)).rowcount
    return {"texts": gone}
