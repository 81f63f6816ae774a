"""Objections and other suppressions: how somebody leaves, and stays away (CONSENT-11, UNSUB-13, FB-6, GDPR-8, GDPR-9).

An objection is three things in one commit: an event in the ledger, an entry of the suppression store, and the end of
the consents that it covers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.erased import Erased
from relay.consent.ledger import Entry, Past, Subject
from relay.consent.record import format_time
from relay.consent.state import Event, fold
from relay.consent.states import load_states, save_states
from relay.consent.subject import person_text
from relay.consent.suppression import ALL, Standing
from relay.consent.token import Token, TokenKind, read
from relay.mail.address import narrow
from relay.owner import beside, erasures, hook_events, incidents, requests, spelling
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result, TenantRow
from relay.owner.earlier import earlier
from relay.owner.error import OwnerError
from relay.owner.hashes import with_every_hash
from relay.owner.hook_events import News, tell
from relay.store.schema import access_code, address_change, confirm_request, consent_event, purpose, tenant
from relay.store.schema import suppression as table

ADDRESS = b"address"
LIST_ROWS = 1_000
_TOLD = {"objection": "unsubscribed", "complaint": "complained", "restriction": "suppressed"}
STOPS = {"objection": "objected", "complaint": "objected", "restriction": "restricted"}


def withdraw(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`; optional `purpose` (default: every purpose), `source`. Counts as an objection from then on."""
    owner = desk.tenant(args.text("tenant"))
    address = args.address("address")
    name = args.text("purpose", "")
    if name:
        desk.purpose(owner, name)
    person = desk.person(owner.id, address)
    source = args.text("source", "") or desk.actor
    changed = say_no(desk, person, scope=name or ALL, reason="objection", event="withdrawn", source=source)
    return {"tenant": owner.name, "address": address, "purpose": name or None, "scope": name or ALL, "changed": changed}


def opt_out(desk: Desk, args: Args) -> Result:
    """`token`; optional `scope` (all, or a purpose; default the token's), `channel` (one_click, page, mailto, complaint).

    Idempotent: a second call answers the same with `changed` false (UNSUB-7). An unknown token is `token.unknown`.
    """
    token = _token(desk, args.text("token", max_chars=2_000))
    owner = desk.connection.execute(sa.select(tenant).where(tenant.c.id == token.tenant_id)).first()
    if owner is None:
        raise OwnerError("token.unknown", "this link is not one of ours")
    desk.tenant_id = owner.id
    scope = args.text("scope", "") or token.purpose or ALL
    channel = args.choice("channel", ("one_click", "page", "mailto", "complaint"), "one_click")
    if scope not in (ALL, token.purpose):
        desk.purpose(owner, scope)
    person = Person(owner.id, "", [token.subject_hash], token.subscriber)
    desk.note(subject=token.subject_hash.hex(), scope=scope, channel=channel)
    reason = "complaint" if channel == "complaint" else "objection"
    same = _said(desk, person, scope, reason)
    if same is None or same.lifted:
        person = with_every_hash(desk, person)
    changed = say_no(desk, person, scope=scope, reason=reason, event="objected", source=channel)
    return {
        "tenant": owner.name,
        "purpose": token.purpose or None,
        "scope": scope,
        "subscriber": token.subscriber,
        "subject": token.subject_hash.hex(),
        "changed": changed,
    }


def add(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`; `scope` (all or a purpose), `reason` (objection, bounce, complaint, restriction), `source`.

    A bounce is kept for the exact address, for 90 days (REP-3).
    """
    owner = desk.tenant(args.text("tenant"))
    address = args.address("address")
    scope = args.text("scope", "") or ALL
    if scope != ALL:
        desk.purpose(owner, scope)
    reason = args.choice("reason", suppression.REASONS, "objection")
    person = desk.person(owner.id, address)
    source = args.text("source", "") or desk.actor
    if reason == "bounce":
        changed = keep_bounce(desk, person, scope=scope, source=source)
    else:
        changed = object_to(desk, person, scope=scope, reason=reason, event=STOPS[reason], source=source)
    return {"tenant": owner.name, "address": address, "scope": scope, "reason": reason, "changed": changed}


def remove(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`; `scope`, `reason`. Objections and complaints stay: only the person lifts them (CONSENT-11).

    With `once` it may have been lifted already, by a run that was cut off.
    """
    owner = desk.tenant(args.text("tenant"))
    address = args.address("address")
    scope = args.text("scope", "") or ALL
    reason = args.choice("reason", suppression.REASONS, "objection")
    person = desk.person(owner.id, address)
    keys = desk.keyring.subject_hashes(person_text(owner.id, narrow(address))) if reason == "bounce" else person.hashes
    entries = [entry for entries in suppression.standing(desk.connection, keys).values() for entry in entries]
    if reason in suppression.OBJECTIONS and any(entry.reason in suppression.OBJECTIONS for entry in entries):
        raise OwnerError(
            "suppression.objection_stands",
            "an objection is lifted only by the person's own confirmation (CONSENT-11): start one with `zegel consent request`",
        )
    removed, may_be_done = suppression.remove(desk.connection, keys, scope=scope, reason=reason), args.flag("once")
    if not removed and not may_be_done:
        raise OwnerError("suppression.unknown", f"no {reason} of scope {scope} stands for this address")
    if removed and reason == "restriction":
        append_event(desk, person, "unrestricted", scope=scope, reason=reason, source=desk.actor)
        tell(desk, person, News("unrestricted", scope, reason, desk.actor))
    desk.note(scope=scope, reason=reason)
    return {"tenant": owner.name, "address": address, "scope": scope, "reason": reason, "removed": removed}


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`; optional `address`, `limit` (newest first), `skip`: so many are left out before the first.

    `address` is null where it is not known or was erased.
    """
    owner = desk.tenant(args.text("tenant"), gone=True)
    query = sa.select(table).where(table.c.tenant_id == owner.id, suppression.stands()).order_by(table.c.at.desc())
    if args.has("address"):
        address = args.address("address")
        exact = desk.keyring.subject_hashes(person_text(owner.id, narrow(address)))
        query = query.where(table.c.key.in_([*desk.person(owner.id, address).hashes, *exact]))
    query = query.order_by(table.c.key, table.c.scope, table.c.reason).offset(args.number("skip", 0, most=1 << 40))
    return shown_all(
        desk, desk.connection.execute(query.limit(args.number("limit", LIST_ROWS, least=1, most=LIST_ROWS))).all()
    )


def erase(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`; optional `source`: destroy what names the person; the objection stays (GDPR-8).

    By address only: a token knows one hash, and the person may be kept under an older one.
    """
    owner = desk.tenant(args.text("tenant"), gone=True)
    person = desk.person(owner.id, args.address("address"))
    return forget(desk, person, source=args.text("source", "") or desk.actor)


def forget(desk: Desk, person: Person, *, source: str) -> dict[str, Any]:
    """The erasure of a person (GDPR-8), at the addresses of before too. Where one is known, files and queue are to forget it."""
    was = earlier(desk, person)
    answer = _forget(desk, person, source=source)
    for one in was:
        answer["erased"] |= _forget(desk, one, source=source)["erased"]
    return answer


def _forget(desk: Desk, person: Person, *, source: str) -> dict[str, Any]:
    if person.address:
        erasures.begin(desk, person, _spellings(desk, person))
    if not person.has_left:
        object_to(desk, person, scope=ALL, reason="objection", event="objected", source=source)
    beside.forget_moves_to(desk, person)
    keys = consent_keys_of(desk, person)
    stops = [(row, shown(desk, row)["address"]) for row in _suppressions(desk, person)]
    later = [past for past in _history(desk, person) if past.recorded_at > person.until]
    is_last = not any(past.personal or past.evidence for past in later) and all(
        row.at <= person.until for row, _ in stops
    )
    is_alone = not person.exact or spelling.is_alone(desk, person, [address for _, address in stops if address])
    if not (is_last and is_alone):
        names = {past.purpose for past in later if desk.is_own(person, (past.personal or {}).get("email", ""))}
        keys = {key: name for key, name in keys.items() if name not in names}
        named = [row for row, address in stops if address and desk.is_own(person, address) and row.at <= person.until]
        return _forget_own(desk, person, keys, stops=named, is_last=is_last, source=source)
    if (
        person.has_left
    ):  # a no of his is none of who reads the mail there today; nobody does, and no old list brings him back
        object_to(desk, person, scope=ALL, reason="objection", event="objected", source=source)
    append_event(desk, person._replace(address=""), "erased", scope=ALL, reason="erasure", source=source)
    end_consents(desk, person, keys, event="erased", only="")
    desk.connection.execute(table.update().where(table.c.key.in_(_every_key(desk, person))).values(sealed=None))
    desk.connection.execute(confirm_request.delete().where(confirm_request.c.key.in_(list(keys))))
    for pending in (access_code, address_change):
        desk.connection.execute(pending.delete().where(pending.c.key.in_(person.hashes)))
    incidents.forget_person(desk, person)
    requests.forget_person(desk, person)
    erased = desk.ledger.erase(desk.connection, person.hashes, now=desk.now)
    known = person._replace(subscriber=hook_events.forget(desk, person) or person.subscriber)
    tell(desk, known, News("erased", ALL, "erasure", source))
    return {"subject": person.hashes[0].hex(), "erased": erased > 0}


def _forget_own(
    desk: Desk, person: Person, keys: dict[bytes, str], *, stops: list[TenantRow], is_last: bool, source: str
) -> dict[str, Any]:
    """The same where others are held under the same hash: another spelling, or who reads the mail there now."""
    ended = end_consents(desk, person, keys, event="erased", only="")
    # With a key it is about this one alone, and says nothing of what the others agreed to; the key of all stays.
    for key, name in {key: keys[key] for key in ended}.items() or [(person.exact[0], "")]:
        clear = {"scope": name or ALL, "reason": "erasure", "source": source}
        entry = Entry("erased", desk.now, person.hashes, key, name, clear, {}, {})
        desk.ledger.append(desk.connection, person.tenant_id, [entry], recorded_by=desk.actor, now=desk.now)
    found = spelling.forget_own(desk, person, keys, stops)
    known = person._replace(subscriber=beside.forget(desk, person))
    if is_last:  # else the tool would take it for who reads the mail there now
        tell(desk, known, News("erased", ALL, "erasure", source))
    return {"subject": person.hashes[0].hex(), "erased": found > 0}


def erase_again(desk: Desk, args: Args) -> Result:
    """`person` as in the list of erasures: one who was erased after the backup was made that is being put back."""
    try:
        one = Erased.load(args.table("person") or {})
        hashes = [bytes.fromhex(text) for text in one.subject]
    except (KeyError, TypeError, ValueError):
        raise OwnerError("args.type", "person must be a line of the list of erasures") from None
    if desk.connection.execute(sa.select(tenant.c.id).where(tenant.c.id == one.tenant_id)).first() is None:
        return {"erased": False}
    desk.tenant_id = one.tenant_id
    known = [found.hash for found in desk.ledger.find(desk.connection, hashes)]
    # Under a key that this keyring knows, where the person is known; else under each that he may be looked up by.
    lots = [[*known, *(each for each in hashes if each not in known)]] if known else [[each] for each in hashes]
    exact = tuple(bytes.fromhex(text) for text in one.exact)
    for lot in lots:
        person = Person(one.tenant_id, "", lot, exact=exact, until=one.moved_at or math.inf)
        forget(desk, person, source="restore")
    return {"erased": bool(known)}


def say_no(desk: Desk, person: Person, *, scope: str, reason: str, event: str, source: str) -> bool:
    """The same of somebody who says it now: a no that stands counts as of now too, for an address that he moves to.

    A list that is sent again says nothing new (`add`).
    """
    same = _said(desk, person, scope, reason)
    if same is not None and not same.lifted:
        suppression.renew(desk.connection, same, at=desk.now)
    return object_to(desk, person, scope=scope, reason=reason, event=event, source=source)


def object_to(desk: Desk, person: Person, *, scope: str, reason: str, event: str, source: str) -> bool:
    """Record that a person leaves; false where exactly this stood already and nothing had to change."""
    same = _said(desk, person, scope, reason)
    desk.note(scope=scope, reason=reason)
    if same is not None and not same.lifted:
        return False
    subject_id = append_event(desk, person, event, scope=scope, reason=reason, source=source)
    sealed = sealed_address(desk, person)
    key = same.key if same is not None else person.hashes[0]
    entry = Standing(key, scope, reason, desk.now, 0.0, frozenset())
    suppression.put(desk.connection, person.tenant_id, entry, source=source, subject_id=subject_id, sealed=sealed)
    if reason != "restriction":
        only = "" if scope == ALL else scope
        # It is wide, and so is its end: else one would come back with the confirmation of another spelling.
        end_consents(desk, person, consent_keys_of(desk, person._replace(exact=())), event=event, only=only)
    tell(desk, person, News(_TOLD[reason], scope, reason, source))
    return True


def _said(desk: Desk, person: Person, scope: str, reason: str) -> Standing | None:
    """Lifted or not, or one no would stand in two rows after a rotation; where it does, the one that stands."""
    found = suppression.said(desk.connection, person.hashes).values()
    rows = [entry for entries in found for entry in entries if (entry.scope, entry.reason) == (scope, reason)]
    return min(rows, key=lambda entry: len(entry.lifted), default=None)


def keep_bounce(desk: Desk, person: Person, *, source: str, scope: str = ALL) -> bool:
    """Nobody is there: programs send nothing more to exactly this address, for 90 days (REP-3)."""
    exact = desk.keyring.subject_hashes(person_text(person.tenant_id, narrow(person.address)))
    found = suppression.standing(desk.connection, exact)
    known = [entry for rows in found.values() for entry in rows if entry.reason == "bounce"]
    key = known[0].key if known else exact[0]
    entry = Standing(key, scope, "bounce", desk.now, desk.now + suppression.BOUNCE_SECONDS, frozenset())
    sealed = sealed_address(desk, person)
    subject = desk.ledger.subjects(desk.connection, person.tenant_id, [person.hashes])[0]
    suppression.put(desk.connection, person.tenant_id, entry, source=source, subject_id=subject.id, sealed=sealed)
    desk.note(scope=scope, reason="bounce")
    if all(entry.scope != scope for entry in known):
        tell(desk, person, News("suppressed", scope, "bounce", source))
    return True


def append_event(desk: Desk, person: Person, event: str, *, scope: str, reason: str, source: str) -> int:
    """Write an event about a person as a whole; returns the number of the subject."""
    clear = {"scope": scope, "reason": reason, "source": source}
    sealed = {"email": person.address} if person.address else {}
    entry = Entry(event, desk.now, person.hashes, b"", "" if scope == ALL else scope, clear, sealed, {})
    places = desk.ledger.append(desk.connection, person.tenant_id, [entry], recorded_by=desk.actor, now=desk.now)
    return places[0].subject_id


def _every_key(desk: Desk, person: Person) -> list[bytes]:
    """Keys of all suppressions of a person, bounces of other spellings of the address included."""
    people = [found.id for found in desk.ledger.find(desk.connection, person.hashes)]
    found = sa.select(table.c.key).where(table.c.tenant_id == person.tenant_id, table.c.subject_id.in_(people))
    return [*person.hashes, *desk.connection.scalars(found)]


def sealed_address(desk: Desk, person: Person) -> bytes | None:
    if not person.address:
        return None
    subject = desk.ledger.subjects(desk.connection, person.tenant_id, [person.hashes])[0]
    return desk.ledger.seal(subject, ADDRESS, {"email": person.address})


def _spellings(desk: Desk, person: Person) -> set[str]:
    """Every form of the address that is known here, and is the person's for sure."""
    told = [past.personal or {} for past in _history(desk, person)]
    kept = [shown(desk, row)["address"] for row in _suppressions(desk, person)]
    known = filter(None, [*(values.get("email") for values in told), *kept])
    return {person.address, *(address for address in known if desk.is_own(person, address))}


def _history(desk: Desk, person: Person) -> list[Past]:
    return list(desk.ledger.history(desk.connection, person.tenant_id, person.hashes))


def _suppressions(desk: Desk, person: Person) -> Sequence[TenantRow]:
    return desk.connection.execute(sa.select(table).where(table.c.key.in_(_every_key(desk, person)))).all()


def consent_keys_of(desk: Desk, person: Person) -> dict[bytes, str]:
    """Keys of every consent that the person may have, with its purpose: from their events, and from the address."""
    keys = spelling.own_keys(desk, person) if person.exact else _keys_of_events(desk, person)
    if person.address:
        names = sa.select(purpose.c.name).where(purpose.c.tenant_id == person.tenant_id)
        for name in desk.connection.scalars(names):
            keys.update(dict.fromkeys(desk.consent_keys(person.tenant_id, name, person.address), name))
    return keys


def _keys_of_events(desk: Desk, person: Person) -> dict[bytes, str]:
    people = [found.id for found in desk.ledger.find(desk.connection, person.hashes)]
    events = consent_event.c
    query = sa.select(events.key, events.purpose).where(
        events.tenant_id == person.tenant_id, events.subject_id.in_(people), events.key != b""
    )
    return {row.key: row.purpose for row in desk.connection.execute(query.distinct())}


def end_consents(desk: Desk, person: Person, keys: dict[bytes, str], *, event: str, only: str) -> list[bytes]:
    """Fold the end into each present state that it covers, and answer their keys; `only` is a purpose, or "" for all."""
    wanted = [key for key, name in keys.items() if only in ("", name)]
    ended = {}
    for key, (present, proof) in load_states(desk.connection, wanted).items():
        after = fold(present, Event(present.state.event, event, desk.now, {}))
        if after is not None:
            ended[key] = (after, proof)
    save_states(desk.connection, person.tenant_id, ended, now=desk.now)
    return list(ended)


def _token(desk: Desk, text: str) -> Token:
    token = read(desk.keyring, text)
    if token is None or token.kind not in (TokenKind.UNSUBSCRIBE, TokenKind.MY):
        raise OwnerError("token.unknown", "this link is not one of ours")
    return token


def shown(desk: Desk, row: TenantRow) -> dict[str, Any]:
    """A row of the suppression store as JSON."""
    return shown_all(desk, [row])[0]


def shown_all(desk: Desk, rows: Sequence[TenantRow]) -> list[dict[str, Any]]:
    """Rows of the suppression store as JSON, at most some thousands."""
    sealed = {row.subject_id for row in rows if row.sealed is not None and row.subject_id is not None}
    people = desk.ledger.by_ids(desk.connection, sealed)
    return [_shown(desk, row, people.get(row.subject_id)) for row in rows]


def _shown(desk: Desk, row: TenantRow, person: Subject | None) -> dict[str, Any]:
    values = desk.ledger.unseal(person, ADDRESS, row.sealed) if person is not None else None
    address = values.get("email") if values is not None else None
    return {
        "subject": row.key.hex(),
        "address": address,
        "scope": row.scope,
        "reason": row.reason,
        "at": format_time(row.at),
        "expires_at": format_time(row.expires_at) or None,
        "lifted": row.lifted.split(),
        "source": row.source,
    }
