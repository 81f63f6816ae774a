"""Own data: who holds a link shows by a mailed code that he reads the mail of the address behind it (GDPR-5, GDPR-8, GDPR-9).

Theory of operation. A link knows a keyed hash. Who types an address of that hash is mailed a code; who types another one gets
the same answer, and the same is written. The typed address travels in a sealed token of the form, and the code counts for that
address only, since the plus part is no part of the hash: `jan+x@` could be somebody else's. A right code is exchanged for a
proof, a sealed token too, which every further step shows again.

A code counts in the page that it was asked from, for five tries: whoever else asks and tries spoils his own page only. What
can be guessed is bounded by the codes that a person is mailed. The mail holds a link as well, which lets its reader in whoever
asked for it, so that nobody is shut out by somebody who uses up his codes.
"""

from __future__ import annotations

import hmac
import secrets
from typing import NamedTuple

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.subject import person_text
from relay.consent.suppression import ALL
from relay.consent.token import Token, TokenKind, make, read
from relay.mail.address import narrow, wide
from relay.owner.args import Args
from relay.owner.blocks import block, unblock
from relay.owner.desk import Desk, Person, Result, TenantRow
from relay.owner.error import OwnerError
from relay.owner.objections import forget, say_no
from relay.owner.requests import enter_done
from relay.store.schema import access_code, consent_event, tenant
from relay.store.schema import purpose as purposes
from relay.store.upsert import upsert

CODE_DIGITS = 8  # 30 guesses a day, all year, at six digits: one link in 91 would open to who was forwarded it
CODE_SECONDS = 15 * 60
PROOF_SECONDS = 30 * 60
TRIES = 5
OWN_MAILS = 6  # codes that a person is mailed within a day, and so 30 guesses
MAILS_SECONDS = 24 * 3_600
ENTER_SECONDS = 24 * 3_600  # as long as the page's row is kept at least
SOURCE = "my_data"
_LINKS = (TokenKind.MY, TokenKind.UNSUBSCRIBE)
_ACTIONS = ("stop", "stop_all", "restrict", "unrestrict")


class Pending(NamedTuple):
    """A row of `access_code` without its tenant: what was mailed to a person, or the code of one page."""

    key: bytes
    code: bytes = b""
    expires_at: float = 0.0
    wrong: int = 0
    mails_sent: int = 0
    mails_since: float = 0.0
    asked_at: float = 0.0


class Proven(NamedTuple):
    """Who has shown that he reads the mail of `person.address`."""

    owner: TenantRow
    person: Person


def ask(desk: Desk, args: Args) -> Result:
    """`token` of a link, `address` as typed: a code for it.

    Answers `asked`, for the form, and `code` and `enter`, to be mailed to the address: "" where none may be; nobody is told.
    """
    link = read(desk.keyring, args.text("token", max_chars=2_000))
    address = args.address("address")
    if link is None or link.kind not in _LINKS:
        raise OwnerError("token.unknown", "this link is not one of ours")
    return _asked(desk, _owner(desk, link), link, address)


def start(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`: the same for who has no link. Answers a `token` in its place, and `known`: something is held."""
    owner = desk.tenant(args.text("tenant"))
    address = args.address("address")
    person = desk.person(owner.id, address)
    token = make(desk.keyring, TokenKind.START, owner.id, purpose="", subject_hash=person.hashes[0])
    link = read(desk.keyring, token)
    assert link is not None, "it was made here"
    known = bool(
        desk.ledger.find(desk.connection, person.hashes) or suppression.standing(desk.connection, person.hashes)
    )
    return {"token": token, "known": known, **_asked(desk, owner, link, address)}


def _asked(desk: Desk, owner: TenantRow, link: Token, address: str) -> dict[str, object]:
    row = _pending(desk, link.subject_hash)
    if desk.now - row.mails_since >= MAILS_SECONDS:
        row = row._replace(mails_sent=0, mails_since=desk.now)
    is_theirs = link.subject_hash in desk.keyring.subject_hashes(person_text(owner.id, wide(address)))
    may_mail = is_theirs and row.mails_sent < OWN_MAILS
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
    page = secrets.token_hex(12)
    own = Pending(_page_key(desk, page), asked_at=desk.now)
    digest = _digest(desk, link, address, code)
    if may_mail:
        own = own._replace(code=digest, expires_at=desk.now + CODE_SECONDS)
    _save(desk, owner, own)
    _save(desk, owner, row._replace(mails_sent=row.mails_sent + may_mail, asked_at=desk.now))
    enter = _form_token(desk, TokenKind.ENTER, link, address, ENTER_SECONDS, page)
    return {
        "asked": _form_token(desk, TokenKind.ASKED, link, address, CODE_SECONDS, page),
        "code": code if may_mail else "",
        "enter": enter if may_mail else "",
    }


def prove(desk: Desk, args: Args) -> Result:
    """`asked`, `code` as typed. Answers `proof`, "" where the code does not count; `over`: on this page none will."""
    code = args.text("code")
    asked, until, row = _page_of(desk, args, "asked", TokenKind.ASKED)
    owner = _owner(desk, asked)
    if row.wrong >= TRIES:
        desk.note(outcome="over")
        return {"proof": "", "over": True}
    if _was_erased(desk, asked, row):
        desk.note(outcome="over")
        return {"proof": "", "over": False}
    is_right = hmac.compare_digest(_digest(desk, asked, asked.subscriber, code), row.code)
    if is_right and desk.now < min(row.expires_at, until):
        return _let_in(desk, owner, asked, row)
    row = row._replace(wrong=row.wrong + 1)
    _save(desk, owner, row)
    desk.note(outcome="wrong")
    return {"proof": "", "over": row.wrong >= TRIES}


def enter(desk: Desk, args: Args) -> Result:
    """`token` of the link in the mail with a code: the `proof`, once; "" where it or the code was used, a day has gone,
    or the person was erased since.
    """
    token, until, row = _page_of(desk, args, "token", TokenKind.ENTER)
    owner = _owner(desk, token)
    if not row.code or desk.now >= until or _was_erased(desk, token, row):
        desk.note(outcome="over")
        return {"proof": ""}
    return _let_in(desk, owner, token, row)


def _let_in(desk: Desk, owner: TenantRow, token: Token, row: Pending) -> dict[str, object]:
    _save(desk, owner, row._replace(code=b""))
    desk.note(outcome="proven")
    enter_done(desk, desk.person(owner.id, token.subscriber), "access", "")
    return {"proof": _form_token(desk, TokenKind.PROVEN, token, token.subscriber, PROOF_SECONDS), "over": False}


def _page_of(desk: Desk, args: Args, name: str, kind: TokenKind) -> tuple[Token, float, Pending]:
    """The token, until when it holds, and what stands for the page that it came from."""
    token = _read(desk, args, name, kind)
    until, _, page = token.purpose.partition(" ")
    return token, float(until), _pending(desk, _page_key(desk, page))


def _was_erased(desk: Desk, token: Token, row: Pending) -> bool:
    """Whether the person was erased since the code was asked for: it must not write down again who is forgotten."""
    return erased_since(desk, desk.person(token.tenant_id, token.subscriber), row.asked_at)


def erased_since(desk: Desk, person: Person, at: float) -> bool:
    """Whether somebody behind this address was erased at `at` or after it."""
    people = [found.id for found in desk.ledger.find(desk.connection, person.hashes)]
    events = consent_event.c
    erased = sa.select(events.key).where(
        events.tenant_id == person.tenant_id,
        events.subject_id.in_(people),
        events.event == "erased",
        events.at >= at,
    )
    keys = set(desk.connection.scalars(erased))
    return bool(keys) and not keys.isdisjoint({b"", *_own_keys(desk, person)})


def _own_keys(desk: Desk, person: Person) -> list[bytes]:
    """What an erasure of this spelling alone is entered under; with no key it was of every one."""
    names = desk.connection.scalars(sa.select(purposes.c.name).where(purposes.c.tenant_id == person.tenant_id)).all()
    consents = [key for name in names for key in desk.consent_keys(person.tenant_id, name, person.address)]
    return [*consents, *desk.keyring.subject_hashes(person_text(person.tenant_id, narrow(person.address)))]


def _page_key(desk: Desk, page: str) -> bytes:
    return desk.keyring.lasting_hash(f"page\0{page}")[:16]


def change(desk: Desk, args: Args) -> Result:
    """`proof`, `link`, `action` (stop with `purpose`, stop_all, restrict, unrestrict).

    Answers whether anything `changed`, and for unrestrict whether a block that another spelling set `stays`.
    """
    owner, person = proven(desk, args)
    action = args.choice("action", _ACTIONS)
    purpose = args.name("purpose", "")
    desk.note(action=action)
    if action == "unrestrict":
        changed, stays = unblock(desk, person, source=SOURCE)
        return {"changed": changed, "stays": stays}
    enter_done(desk, person, "restrict" if action == "restrict" else "object", purpose)
    if action == "restrict":
        changed = block(desk, person, source=SOURCE)
    elif action == "stop_all":
        changed = say_no(desk, person, scope=ALL, reason="objection", event="objected", source=SOURCE)
    else:
        desk.purpose(owner, purpose)
        changed = say_no(desk, person, scope=purpose, reason="objection", event="withdrawn", source=SOURCE)
    return {"changed": changed}


def erase(desk: Desk, args: Args) -> Result:
    """`proof`, `link`: destroy what names the person under the proven spelling; the objection stays (GDPR-8).

    Again, it answers `erased` false.
    """
    _, person, is_erased = _shown(desk, args)
    if is_erased:
        return {"erased": False}
    done = forget(desk, person, source=SOURCE)
    enter_done(desk, person, "erase", "")
    return done


def exported(desk: Desk, args: Args) -> Result:
    """`proof`, `link`: what is held was taken along (GDPR-10, GDPR-24)."""
    _, person = proven(desk, args)
    enter_done(desk, person, "portability", "")
    return {}


def proven(desk: Desk, args: Args) -> Proven:
    """Whose `proof` this is, with the id that the sender's tool knows him by, where the `link` of the page has it.

    Raises OwnerError `proof.over` where it is over, not ours, or from before an erasure: a page that is still open after it, or a
    step back in the browser, must not write down again who was erased.
    """
    owner, person, is_erased = _shown(desk, args)
    if is_erased:
        raise OwnerError("proof.over", "what was held was erased: ask for a new code")
    return Proven(owner, person)


def _shown(desk: Desk, args: Args) -> tuple[TenantRow, Person, bool]:
    """Whose `proof` this is, and whether he was erased since it was given. `link`: the page's own, which knows the tool's id."""
    token = _read(desk, args, "proof", TokenKind.PROVEN)
    until = float(token.purpose)
    if until <= desk.now:
        raise OwnerError("proof.over", "this page has been open too long: ask for a new code")
    owner, person = _owner(desk, token), desk.proven(token.tenant_id, token.subscriber)
    is_erased = erased_since(desk, person, until - PROOF_SECONDS)
    link = read(desk.keyring, args.text("link", "", max_chars=2_000))
    if link is not None and link.kind in _LINKS and link.subject_hash == token.subject_hash:
        person = person._replace(subscriber=link.subscriber)
    return owner, person, is_erased


def _read(desk: Desk, args: Args, name: str, kind: TokenKind) -> Token:
    token = read(desk.keyring, args.text(name, max_chars=2_000))
    if token is None or token.kind != kind:
        raise OwnerError(
            "proof.over", "this form is not one of ours, or too old: begin again from the link in your mail"
        )
    return token


def _owner(desk: Desk, token: Token) -> TenantRow:
    here = sa.select(tenant).where(tenant.c.id == token.tenant_id, tenant.c.deleted_at == 0)
    owner = desk.connection.execute(here).first()
    if owner is None:
        raise OwnerError("token.unknown", "this link is not one of ours")
    desk.tenant_id = owner.id
    desk.note(subject=token.subject_hash.hex())
    return owner


def _form_token(desk: Desk, kind: TokenKind, of: Token, address: str, seconds: float, page: str = "") -> str:
    until = f"{desk.now + seconds:.3f} {page}".rstrip()
    return make(desk.keyring, kind, of.tenant_id, purpose=until, subject_hash=of.subject_hash, subscriber=address)


def _digest(desk: Desk, token: Token, address: str, code: str) -> bytes:
    text = f"code\0{token.tenant_id}\0{token.subject_hash.hex()}\0{narrow(address)}\0{code}"
    return desk.keyring.lasting_hash(text)


def _pending(desk: Desk, key: bytes) -> Pending:
    columns = [access_code.c[name] for name in Pending._fields]
    row = desk.connection.execute(sa.select(*columns).where(access_code.c.key == key)).first()
    return Pending(*row) if row is not None else Pending(key)


def _save(desk: Desk, owner: TenantRow, row: Pending) -> None:
    upsert(desk.connection, access_code, [{"tenant_id": owner.id, **row._asdict()}])
