"""Double opt-in: a request, the mails it allows, and the person's own confirmation (CLASS-7, CONSENT-8, CONSENT-11)."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.ledger import Appended, Entry, Past
from relay.consent.parts import text_hash
from relay.consent.record import format_time
from relay.consent.state import STANDING, Event, fold
from relay.consent.states import load_states, save_states
from relay.consent.suppression import OBJECTIONS
from relay.consent.token import TokenKind, make, read
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result, TenantRow, legal_name
from relay.owner.error import OwnerError
from relay.owner.hook_events import News, tell
from relay.owner.objections import consent_keys_of
from relay.store.schema import confirm_request, consent_text, domain, purpose, tenant
from relay.store.upsert import upsert

REQUEST_SECONDS = 24 * 3_600  # CLASS-7: this long a request allows its mails
CONFIRM_SECONDS = 7 * 86_400  # this long the link in them works
OWN_MAILS = 2  # confirmation mails of our own for one request, the reminder included
_TEXT = {
    "nl": "Ja, ik wil {title} van {controller} per e-mail ontvangen. Ik kan mij altijd weer afmelden.",
    "en": "Yes, I want to receive {title} from {controller} by e-mail. I can unsubscribe at any time.",
}


def request(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`, `purpose`; optional `source`, `jurisdiction`, `evidence_ip`, `evidence_user_agent`, `mail`, `once`.

    Answers a `token` of kind confirm for the mail. Within 24 hours of a request the count of its mails goes on. With
    `mail` the asker means to send one now: it is counted in this commit, so that of many requests at once only
    as many mail as may, and `may_mail` tells whether this one does.

    Such a mail has its `message_id` from here, and the request keeps it: whoever confirms by it has read it (CONSENT-8).

    With `once` it may have been recorded already, and is not again. Nor is one beyond what may be mailed in these 24 hours:
    a stranger who asks again and again does not fill a person's history.
    """
    owner = desk.tenant(args.text("tenant"))
    name = args.text("purpose")
    desk.purpose(owner, name)
    address = args.address("address")
    person = desk.person(owner.id, address)
    _refuse_restricted(desk, person)
    keys = desk.consent_keys(owner.id, name, address)
    pending = _pending(desk, keys)
    key = pending.key if pending is not None else _key(desk, keys)
    clear = {"jurisdiction": args.text("jurisdiction", "") or "NL"}
    sealed = {"email": address, "source": args.text("source", "") or desk.actor}
    given = {field: args.text(field, "") for field in ("evidence_ip", "evidence_user_agent")}
    evidence = {field: value for field, value in given.items() if value}
    entry = Entry("requested", desk.now, person.hashes, key, name, clear, sealed, evidence)
    place = _recorded(desk, pending, entry) if args.flag("once") else None
    is_recent = pending is not None and desk.now - pending.requested_at < REQUEST_SECONDS
    count = pending.mails_sent if pending is not None and is_recent else 0
    may_mail = count < OWN_MAILS
    is_mailed = args.flag("mail") and may_mail
    message_id = f"<{secrets.token_hex(16)}@{_domain(desk, owner.id)}>" if is_mailed else ""
    sealed |= {"doi_message_id": message_id} if is_mailed else {}
    if place is None and pending is not None and not may_mail:
        place = Appended(pending.event, pending.subject_id)  # no mail goes out, so there is nothing to tell of
    if place is None:
        place = desk.ledger.append(desk.connection, owner.id, [entry], recorded_by=desk.actor, now=desk.now)[0]
    row = {
        "key": key,
        "tenant_id": owner.id,
        "purpose": name,
        "requested_at": pending.requested_at if pending is not None and is_recent else desk.now,
        "mails_sent": count + is_mailed,
        "subject_id": place.subject_id,
        "event": place.seq,
    }
    upsert(desk.connection, confirm_request, [row])
    _fold_into(desk, owner.id, [key, *keys], Event(place.seq, "requested", desk.now, {}))
    token = make(desk.keyring, TokenKind.CONFIRM, owner.id, purpose=name, subject_hash=key, subscriber=str(place.seq))
    return {
        "tenant": owner.name,
        "address": address,
        "purpose": name,
        "requested_at": format_time(desk.now),
        "mails_sent": row["mails_sent"],
        "may_mail": may_mail,
        "message_id": message_id,
        "token": token,
    }


def _domain(desk: Desk, tenant_id: int) -> str:
    """What the tenant's letters are named after."""
    is_theirs = sa.or_(domain.c.verified_at > 0, domain.c.vouched_at > 0)
    names = sa.select(domain.c.name).where(domain.c.tenant_id == tenant_id, is_theirs).order_by(domain.c.id).limit(1)
    return str(desk.connection.scalar(names) or "localhost")


def _recorded(desk: Desk, pending: TenantRow | None, entry: Entry) -> Appended | None:
    """Where the event stands that a run which was cut off wrote, if it did."""
    past = desk.ledger.event(desk.connection, pending.tenant_id, pending.event) if pending is not None else None
    if past is None or pending is None or desk.now - past.at > REQUEST_SECONDS or past.recorded_by != desk.actor:
        return None
    same = dict(past.personal or {}) == entry.sealed and dict(past.evidence or {}) == entry.evidence
    return Appended(past.seq, pending.subject_id) if same else None


def sent(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`, `purpose`: count one confirmation mail; answers how many went out for the request."""
    owner = desk.tenant(args.text("tenant"))
    name = args.text("purpose")
    address = args.address("address")
    desk.person(owner.id, address)
    pending = _pending(desk, desk.consent_keys(owner.id, name, address))
    if pending is None:
        raise OwnerError(
            "confirm.unknown", "no double opt-in is pending for this address: start one with `zegel consent request`"
        )
    count = pending.mails_sent + 1
    statement = confirm_request.update().where(confirm_request.c.key == pending.key)
    desk.connection.execute(statement.values(mails_sent=count))
    return {"tenant": owner.name, "purpose": name, "mails_sent": count}


def confirm(desk: Desk, args: Args) -> Result:
    """`token` of kind confirm; optional `ip`, `user_agent`, `message_id` of the mail, and as shown `text`, `text_language`,
    `policy_url`.

    The one thing that lifts an objection, of this purpose only and only one made before.
    """
    token = read(desk.keyring, args.text("token", max_chars=2_000))
    pending = None
    if token is not None and token.kind == TokenKind.CONFIRM:
        pending = _pending(desk, [token.subject_hash])
    if token is None or pending is None or desk.now - pending.requested_at > CONFIRM_SECONDS:
        raise OwnerError("confirm.unknown", "this link is used, replaced or older than 7 days: ask for a new one")
    owner = desk.connection.execute(sa.select(tenant).where(tenant.c.id == pending.tenant_id)).one()
    if owner.deleted_at:
        raise OwnerError("confirm.unknown", "whoever asked for this has left: nothing is sent")
    desk.tenant_id = owner.id
    # Who asks twice has two mails, or asks once more than may be mailed: the link of each must work.
    asked = desk.ledger.event(desk.connection, owner.id, int(token.subscriber))
    is_this = asked is not None and (asked.event, asked.key) == ("requested", pending.key)
    if asked is None or asked.personal is None or not is_this or asked.at < pending.requested_at:
        raise OwnerError("confirm.unknown", "this link is used, replaced or older than 7 days: ask for a new one")
    address = asked.personal["email"]
    person = desk.person(owner.id, address)
    _refuse_restricted(desk, person)
    clear = _confirmed(desk, owner, pending, asked, args)
    given = {"doi_ip": args.text("ip", ""), "doi_user_agent": args.text("user_agent", "")}
    evidence = {name: value for name, value in given.items() if value}
    if asked.personal.get("doi_message_id"):
        clear["doi_sent_at"] = asked.at  # the mail left with the request that it answers
    sealed = {**asked.personal, **({"doi_message_id": args.text("message_id")} if args.has("message_id") else {})}
    keys = [pending.key, *desk.consent_keys(owner.id, pending.purpose, address)]
    entry = Entry("confirmed", desk.now, person.hashes, _key(desk, keys), pending.purpose, clear, sealed, evidence)
    place = desk.ledger.append(desk.connection, owner.id, [entry], recorded_by=desk.actor, now=desk.now)[0]
    _fold_into(desk, owner.id, keys, Event(place.seq, "confirmed", desk.now, clear))
    _end_older(desk, person, pending.purpose, keys)
    lifted = suppression.lift(desk.connection, person.hashes, pending.purpose, before=desk.now)
    desk.connection.execute(confirm_request.delete().where(confirm_request.c.key == pending.key))
    desk.note(purpose=pending.purpose, lifted=lifted)
    tell(desk, person, News("confirmed", pending.purpose, "consent"))
    return {
        "tenant": owner.name,
        "address": address,
        "purpose": pending.purpose,
        "confirmed_at": format_time(desk.now),
        "lifted": lifted,
    }


def _end_older(desk: Desk, person: Person, name: str, but: list[bytes]) -> None:
    """In every spelling, what a no that is lifted now should have ended: by a link under an older hash key it was not found."""
    found = suppression.standing(desk.connection, person.hashes).values()
    noes = [entry.at for rows in found for entry in rows if entry.reason in OBJECTIONS and entry.bars(name)]
    if not noes:
        return
    all_keys = consent_keys_of(desk, person._replace(exact=()))
    keys = [key for key, its in all_keys.items() if its == name and key not in but]
    ended = {}
    for key, (present, proof) in load_states(desk.connection, keys).items():
        if present.state.status in STANDING and max(present.state.given_at, present.state.confirmed_at) <= max(noes):
            after = fold(present, Event(present.state.event, "objected", max(noes), {}))
            assert after is not None
            ended[key] = (after, proof)
    save_states(desk.connection, person.tenant_id, ended, now=desk.now)


def _confirmed(desk: Desk, owner: TenantRow, pending: TenantRow, asked: Past, args: Args) -> dict[str, object]:
    """The clear part of a confirmation, and the text behind it stored."""
    where = sa.and_(purpose.c.tenant_id == owner.id, purpose.c.name == pending.purpose)
    row = desk.connection.execute(sa.select(purpose).where(where)).one()
    language = args.choice("text_language", tuple(_TEXT), owner.language)
    controller = row.controller or legal_name(owner)
    title = (row.title_nl if language == "nl" else row.title_en) or row.name
    text = args.text("text", "", max_chars=20_000) or _TEXT[language].format(title=title, controller=controller)
    name = text_hash(language, text)
    stored = {"tenant_id": owner.id, "hash": name, "language": language, "text": text, "first_seen_at": desk.now}
    upsert(desk.connection, consent_text, [stored], keep=True)
    return {
        "basis": "consent",
        "method": "double_optin",
        "given_at": pending.requested_at,
        "confirmed_at": desk.now,
        "text_hash": name.hex(),
        "text_language": language,
        "policy_url": args.text("policy_url", ""),
        "controller": controller,
        "category": row.category,
        "jurisdiction": asked.clear.get("jurisdiction", ""),
        "provenance": "own",
        "sensitive": bool(owner.sensitive_audience),
    }


def _pending(desk: Desk, keys: list[bytes]) -> TenantRow | None:
    return desk.connection.execute(sa.select(confirm_request).where(confirm_request.c.key.in_(keys))).first()


def _key(desk: Desk, keys: list[bytes]) -> bytes:
    """The one that the state of a consent lies under, which may be of an older hash key: its events lie there too."""
    return next(iter(load_states(desk.connection, keys)), keys[0])


def _refuse_restricted(desk: Desk, person: Person) -> None:
    found = suppression.standing(desk.connection, person.hashes)
    if any(entry.reason == "restriction" for entries in found.values() for entry in entries):
        raise OwnerError("consent.restricted", "the data of this person are restricted: no mail may go out (GDPR-9)")


def _fold_into(desk: Desk, tenant_id: int, keys: list[bytes], event: Event) -> None:
    found = load_states(desk.connection, keys)
    key = next(iter(found), keys[0])
    present, proof = found.get(key, (None, b""))
    after = fold(present, event)
    if after is not None and after is not present:
        save_states(desk.connection, tenant_id, {key: (after, proof)}, now=desk.now)
