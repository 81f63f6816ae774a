"""Another address for the same person: asked for at the old one, confirmed at the new one, and only then done (GDPR-7).

The consents go along, each with the record that it rests on. The old address keeps none, and an older list does not bring them
back. What the person has said no to counts at the new address too; a no that stands there already is not lifted (CONSENT-11). The
sender's tool is told (GDPR-25).
"""

from __future__ import annotations

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.ledger import Appended, Entry
from relay.consent.state import STANDING, Event, Present, fold
from relay.consent.states import load_states, save_states
from relay.consent.stood import LIFTS, confirmed_at
from relay.consent.subject import person_text
from relay.consent.suppression import ALL
from relay.consent.token import TokenKind, make, read
from relay.mail.address import narrow, wide
from relay.mail.domain import meant_by
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result
from relay.owner.error import OwnerError
from relay.owner.hook_events import News, tell
from relay.owner.mydata import SOURCE, erased_since, proven
from relay.owner.objections import STOPS, consent_keys_of, sealed_address
from relay.owner.requests import enter_done
from relay.policy.facts import ConsentState
from relay.store.schema import address_change, purpose
from relay.store.upsert import upsert

DAY = 86_400
MOVE_SECONDS = DAY  # so long the link works
OWN_MAILS = 3  # links to a new address that one person has mailed in a day
_PART = b"move"
_GONE = "this link is used, replaced or older than a day: ask for a new one from the link in your mail"


def ask(desk: Desk, args: Args) -> Result:
    """`proof`, `link`, `address`: the new one. Answers `token` for its mail, "" where none may go there, which nobody is told."""
    owner, person = proven(desk, args)
    new = args.address("address")
    if narrow(new) == narrow(person.address):
        raise OwnerError("address.same", "that is the address that is held already: type the new one")
    if meant_by(new):
        raise OwnerError("address.typo", f"that domain is a typing error: did you mean {meant_by(new)}?")
    table = address_change.c
    row = desk.connection.execute(sa.select(address_change).where(table.key.in_(person.hashes))).first()
    is_recent = row is not None and desk.now - row.mails_since < DAY
    sent, since = (row.mails_sent, row.mails_since) if row is not None and is_recent else (0, desk.now)
    standing = suppression.standing(desk.connection, desk.keyring.subject_hashes(person_text(owner.id, wide(new))))
    blocked = any(entry.reason == "restriction" for rows in standing.values() for entry in rows)
    if sent >= OWN_MAILS or blocked:
        return {"token": ""}
    subject = desk.ledger.subjects(desk.connection, owner.id, [person.hashes])[0]
    key = row.key if row is not None else person.hashes[0]
    values = {
        "key": key,
        "tenant_id": owner.id,
        "subject_id": subject.id,
        "sealed": desk.ledger.seal(
            subject, _PART, {"old": person.address, "new": new, "subscriber": person.subscriber}
        ),
        "requested_at": desk.now,
        "mails_sent": sent + 1,
        "mails_since": since,
    }
    upsert(desk.connection, address_change, [values])
    token = make(desk.keyring, TokenKind.MOVE, owner.id, purpose="", subject_hash=key, subscriber=repr(desk.now))
    return {"token": token}


def confirm(desk: Desk, args: Args) -> Result:
    """`token` of kind move: carry it out. Answers how many consents `moved`."""
    token = read(desk.keyring, args.text("token", max_chars=2_000))
    if token is None or token.kind != TokenKind.MOVE:
        raise OwnerError("move.unknown", _GONE)
    row = desk.connection.execute(sa.select(address_change).where(address_change.c.key == token.subject_hash)).first()
    if row is None or repr(row.requested_at) != token.subscriber or desk.now - row.requested_at > MOVE_SECONDS:
        raise OwnerError("move.unknown", _GONE)
    desk.tenant_id = row.tenant_id
    told = desk.ledger.unseal(desk.ledger.by_id(desk.connection, row.subject_id), _PART, row.sealed)
    if told is None or erased_since(desk, desk.person(row.tenant_id, told["old"]), row.requested_at):
        raise OwnerError("move.unknown", _GONE)
    desk.connection.execute(address_change.delete().where(address_change.c.key == row.key))
    own = told.get("subscriber", "")
    new = desk.person(row.tenant_id, told["new"])._replace(subscriber=own)
    old = desk.person(row.tenant_id, told["old"])._replace(subscriber=own)
    desk.note(to=new.hashes[0].hex())
    barred = _barred(desk, new)
    tell(desk, old, News("moved", ALL, "correction", SOURCE, new.hashes[0].hex()))
    if old.hashes[0] != new.hashes[0]:
        _copy_standing(desk, old, new, barred)
    barred = _barred(desk, new)  # what came along bars a consent too that was not confirmed after it
    moved = _move_consents(desk, old, new, barred)
    enter_done(desk, new, "rectify", "", was=old.address)
    desk.note(moved=moved)
    return {"moved": moved}


def _barred(desk: Desk, person: Person) -> list[suppression.Standing]:
    return [entry for rows in suppression.standing(desk.connection, person.hashes).values() for entry in rows]


def _move_consents(desk: Desk, old: Person, new: Person, barred: list[suppression.Standing]) -> int:
    names = desk.connection.scalars(sa.select(purpose.c.name).where(purpose.c.tenant_id == old.tenant_id)).all()
    moved = 0
    for name in names:
        found = load_states(desk.connection, desk.consent_keys(old.tenant_id, name, old.address))
        for key, (present, proof) in found.items():
            if present.state.status not in STANDING:
                continue
            if not any(entry.bars(name) for entry in barred):
                given = _give(desk, old, new, name, present.state)
                moved += given
                if given:
                    tell(desk, new, News("confirmed", name, "correction", SOURCE))
            clear = {"scope": name, "reason": "moved", "source": SOURCE}
            entry = Entry("withdrawn", desk.now, old.hashes, key, name, clear, {"email": old.address}, {})
            place = desk.ledger.append(desk.connection, old.tenant_id, [entry], recorded_by=desk.actor, now=desk.now)[0]
            after = fold(present, Event(place.seq, "withdrawn", desk.now, clear))
            assert after is not None
            save_states(desk.connection, old.tenant_id, {key: (after, proof)}, now=desk.now)
    return moved


def _give(desk: Desk, old: Person, new: Person, name: str, state: ConsentState) -> int:
    """A consent for the new address, with its record; 0 where that is gone or an end there is newer."""
    past = desk.ledger.event(desk.connection, old.tenant_id, state.event)
    if past is None or past.personal is None:
        return 0
    keys = desk.consent_keys(new.tenant_id, name, new.address)
    found = load_states(desk.connection, keys)
    key = next(iter(found), keys[0])
    noes = [entry for rows in suppression.said(desk.connection, new.hashes).values() for entry in rows]
    present, proof = found.get(key, (Present.ended(suppression.ended_at(noes, name)), b""))
    # The last record may be of a form that was filled in again after the confirmation.
    confirmed = {"confirmed_at": state.confirmed_at} if state.confirmed_at else {}
    clear = {**past.clear, **confirmed, "moved_from_event": past.seq}
    entry = Entry("changed", desk.now, new.hashes, key, name, clear, {**past.personal, "email": new.address}, {})
    place = desk.ledger.append(desk.connection, new.tenant_id, [entry], recorded_by=desk.actor, now=desk.now)[0]
    after = fold(present, Event(place.seq, "changed", desk.now, clear))
    assert after is not None
    if key in found or after is not present:
        save_states(desk.connection, new.tenant_id, {key: (after, proof)}, now=desk.now)
    return int(after.state.event == place.seq)


def _copy_standing(desk: Desk, old: Person, new: Person, barred: list[suppression.Standing]) -> None:
    """What was said against the old address, at the new one: in the ledger, for the proof, as of when it was said.

    A no stays lifted there for what a confirmation at the new address says that is not older: of its own, or one that goes along.
    """
    confirmed = _confirmed(desk, old, new, barred)
    there = _joined(desk, new)
    for kind, entry in _joined(desk, old).items():
        known = there.get(kind)
        if entry.reason == "bounce" or (entry.reason == "restriction" and known is not None):
            continue
        names = entry.lifted | (known.lifted if known is not None else frozenset())
        at = max(entry.at, known.at if known is not None else entry.at)
        lifted = frozenset(name for name in names if confirmed.get(name, -1.0) >= at)
        copy = entry._replace(key=known.key if known is not None else new.hashes[0], at=at, lifted=lifted)
        if copy == known:
            continue
        place = _say_again(desk, new, copy)
        if copy.reason != "restriction":
            _end_consents(desk, new, copy, place.seq)
        sealed, number = sealed_address(desk, new), place.subject_id
        suppression.put(desk.connection, new.tenant_id, copy, source=SOURCE, subject_id=number, sealed=sealed)


def _joined(desk: Desk, person: Person) -> dict[tuple[str, str], suppression.Standing]:
    """What was said by scope and reason; of two rows, under two hash keys, the later moment, and lifted is what both are."""
    found: dict[tuple[str, str], suppression.Standing] = {}
    for entry in (entry for rows in suppression.said(desk.connection, person.hashes).values() for entry in rows):
        kind = (entry.scope, entry.reason)
        other = found.get(kind, entry)
        newest = max(entry, other, key=lambda one: one.at)
        found[kind] = newest._replace(lifted=entry.lifted & other.lifted)
    return found


def _confirmed(desk: Desk, old: Person, new: Person, barred: list[suppression.Standing]) -> dict[str, float]:
    """By purpose when the person confirmed what stands at the new address, in any spelling, or will once all has gone along."""
    names = desk.connection.scalars(sa.select(purpose.c.name).where(purpose.c.tenant_id == old.tenant_id)).all()
    go = [name for name in names if not any(entry.bars(name) for entry in barred)]
    keys = {key: name for name in go for key in desk.consent_keys(old.tenant_id, name, old.address)}
    there = consent_keys_of(desk, new._replace(exact=()))
    stand = [key for key, present in _standing_at(desk, keys) if _is_there(desk, old, present)]
    stand += [key for key, _ in _standing_at(desk, there)]
    said = {**_said_yes(desk, old), **_said_yes(desk, new)}
    found: dict[str, float] = {}
    for key in stand:
        name = there.get(key) or keys[key]
        found[name] = max(said.get(key, -1.0), found.get(name, -1.0))
    return found


def _said_yes(desk: Desk, person: Person) -> dict[bytes, float]:
    """When the person last confirmed each consent, by its key, as far as it is on record; what a list claims does not count."""
    found: dict[bytes, float] = {}
    for past in desk.ledger.history(desk.connection, person.tenant_id, person.hashes):
        if past.event in LIFTS and past.key and not past.expired_at:
            at = past.at if past.event == "confirmed" else confirmed_at(past.clear)
            found[past.key] = max(at, found.get(past.key, -1.0))
    return found


def _standing_at(desk: Desk, keys: dict[bytes, str]) -> list[tuple[bytes, Present]]:
    """Confirmed consents under these keys."""
    found = [(key, present) for key, (present, _) in load_states(desk.connection, keys).items()]
    return [one for one in found if one[1].state.status in STANDING and one[1].state.confirmed_at]


def _is_there(desk: Desk, old: Person, present: Present) -> bool:
    """Whether the record of a consent still says whose it is; else it stays behind."""
    past = desk.ledger.event(desk.connection, old.tenant_id, present.state.event)
    return past is not None and past.personal is not None


def _say_again(desk: Desk, new: Person, entry: suppression.Standing) -> Appended:
    clear = {"scope": entry.scope, "reason": entry.reason, "source": SOURCE, "lifted": sorted(entry.lifted)}
    scope = "" if entry.scope == ALL else entry.scope
    said = Entry(STOPS[entry.reason], entry.at, new.hashes, b"", scope, clear, {"email": new.address}, {})
    return desk.ledger.append(desk.connection, new.tenant_id, [said], recorded_by=desk.actor, now=desk.now)[0]


def _end_consents(desk: Desk, new: Person, entry: suppression.Standing, seq: int) -> None:
    """Those that the new address has had of its own, in every spelling: the no is wide, and so is its end."""
    keys = [key for key, name in consent_keys_of(desk, new._replace(exact=())).items() if entry.bars(name)]
    ended = {}
    for key, (present, proof) in load_states(desk.connection, keys).items():
        after = fold(present, Event(seq, STOPS[entry.reason], entry.at, {}))
        assert after is not None
        ended[key] = (after, proof)
    save_states(desk.connection, new.tenant_id, ended, now=desk.now)
