"""What has had its time in the ledger: proofs, requests that nobody confirmed, keys and texts that nothing needs any more
(CONSENT-15, GDPR-14).

Its place in the chain stays, and the chain says what went (relay.consent.ledger).
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from relay.consent.ledger import EXPIRED
from relay.consent.state import Event, Present, fold
from relay.consent.states import is_state, load_states, save_states
from relay.consent.verify import TEXT_HEX, TEXT_MARK
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
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
    keys = [row.key for row in found]
    if keys:
        desk.connection.execute(confirm_request.delete().where(confirm_request.c.key.in_(keys)))
        desk.connection.execute(consent_state.delete().where(is_state(keys)))
    return len(found)


def _expire(desk: Desk, tenant_id: int, gone: dict[bytes, int], before: float) -> None:
    """`gone`: consent -> the sequence of an event about it."""
    rows = [
        row
        for row in desk.connection.execute(_of_the_same_people(tenant_id, list(gone.values())))
        if row.key in gone and not row.expired_at
    ]
    _forget_lifts(desk, tenant_id, [row.seq for row in rows if row.event == "confirmed"])
    desk.ledger.empty(desk.connection, tenant_id, [row.seq for row in rows], what="content", now=desk.now)
    _end(desk, {row.subject_id for row in rows}, before)


def _forget_lifts(desk: Desk, tenant_id: int, seqs: Sequence[int]) -> None:
    """Without the confirmation that lifted it a no stands again: whoever wants mail confirms anew (CONSENT-11)."""
    events, stops = consent_event.c, suppression.c
    lifts = sa.select(subject.c.hash, events.purpose).join(consent_event, events.subject_id == subject.c.id)
    where = (events.tenant_id == tenant_id, events.seq.in_(seqs))
    for digest, name in desk.connection.execute(lifts.where(*where).distinct()).all():
        lifted = sa.select(suppression).where(stops.key == digest, stops.lifted != "")
        for row in desk.connection.execute(lifted).all():
            left = " ".join(one for one in row.lifted.split() if one != name)
            place = (stops.key == row.key, stops.scope == row.scope, stops.reason == row.reason)
            desk.connection.execute(suppression.update().where(*place).values(lifted=left))


def _of_the_same_people(tenant_id: int, numbers: list[int]) -> sa.Select[tuple[int, bytes, float, str, int]]:
    """Every event about the people of these events of a tenant; who was erased and came back is another subject of one hash.

    Nothing but the subject narrows the search: beside a tenant SQLite reads all events of that tenant.
    """
    events = consent_event.c
    these = sa.and_(events.tenant_id == tenant_id, events.seq.in_(numbers))
    hashes = sa.select(subject.c.hash).join(consent_event, events.subject_id == subject.c.id).where(these)
    people = sa.select(subject.c.id).where(subject.c.hash.in_(hashes))
    query = sa.select(events.seq, events.key, events.expired_at, events.event, events.subject_id)
    return query.where(events.subject_id.in_(people)).order_by(events.seq)


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
    unanswered: dict[bytes, list[int]] = {}
    keys, people = set(), set()
    for row in desk.connection.execute(_of_the_same_people(tenant_id, [row.event for row in pending])):
        keys.add(row.key)
        people.add(row.subject_id)
        if row.event == "confirmed" and not row.expired_at:  # what was asked before it is part of that proof
            unanswered.pop(row.key, None)
        elif row.event == "requested" and row.key in asked and not row.expired_at:
            unanswered.setdefault(row.key, []).append(row.seq)
    gone = {seq: asked[key] for key, seqs in unanswered.items() for seq in seqs}
    desk.ledger.empty(desk.connection, tenant_id, sorted(gone), what="content", now=desk.now)
    # After a rotation the state of a consent may stand under an older key than the request.
    for key, (present, proof) in load_states(desk.connection, keys).items():
        if present.state.status == "requested" and present.state.event in gone:
            _stand_again(desk, gone[present.state.event], key, proof)
    _end(desk, people, before)


def _stand_again(desk: Desk, pending: TenantRow, key: bytes, proof: bytes) -> None:
    """The state of a consent without the request that came to nothing; none where nothing else was ever on record."""
    table, own = consent_event.c, (key, pending.key)
    query = sa.select(table.seq, table.event, table.at, table.key, table.purpose, table.clear).where(
        table.subject_id == pending.subject_id, table.expired_at == 0
    )
    present: Present | None = None
    is_kept = False
    for row in desk.connection.execute(query.order_by(table.seq)):
        if row.key in own or (not row.key and row.purpose in ("", pending.purpose)):
            present = fold(present, Event(row.seq, row.event, row.at, orjson.loads(row.clear)))
            is_kept = is_kept or row.key in own
    if present is None or not is_kept:
        desk.connection.execute(consent_state.delete().where(is_state((key,))))
    else:
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
    stands = sa.exists().where(stops.key == subject.c.hash, is_stop)
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
    hashes = [row.hash for row in gone]
    named = sa.and_(stops.key.in_(hashes), stops.sealed.is_not(None))
    desk.connection.execute(suppression.update().where(named).values(sealed=None))
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
