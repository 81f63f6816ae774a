"""Requests of people about their own data: what was asked, until when it is answered, and what became of it (GDPR-24).

Theory of operation. A request is due one month after it was asked for; a reason, told within that month, makes it three (GDPR
12(3)). It is settled once, answered or refused. What is done on /my is entered as answered, in the commit that does it. The
address and every text lie sealed; they go with an erasure, and the rest of the row stays to show that it was answered in time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from relay.consent.subject import person_text
from relay.mail.address import wide
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result, TenantRow
from relay.owner.error import OwnerError
from relay.owner.hook_events import seal, unseal
from relay.owner.months import months_after
from relay.store.schema import rights_request as table
from relay.store.schema import tenant

KINDS = ("access", "rectify", "erase", "restrict", "object", "portability")
STATES = ("open", "overdue", "answered", "refused", "all")
MONTHS, MONTHS_IN_ALL = 1, 3
WEEK = 7 * 86_400.0
MOST_CHARS = 4_000
MOST_ROWS = 200
LIST_ROWS = 1_000
_AGAIN_SECONDS = 86_400.0
_CORRECTED_SECONDS = (
    3 * 86_400.0
)  # a visit may be entered a day before, the page is open for a while, its link for a day
_AHEAD_SECONDS = 300.0  # two clocks that differ
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is read as another


class New(NamedTuple):
    """What a request begins with; `channel` is hand, api or my."""

    kind: str
    channel: str
    asked_at: float


def open_request(desk: Desk, args: Args) -> Result:
    """`tenant`, `kind`, `address`; optional `asked_at` (now), `text`: what is asked for, in words.

    With `once` it may be there already, by a run that was cut off: then that one is the answer.
    """
    owner = desk.tenant(args.text("tenant"))
    kind = args.choice("kind", KINDS)
    person = desk.person(owner.id, args.address("address"))
    text = args.text("text", "", max_chars=MOST_CHARS)
    asked_at = args.time("asked_at", desk.now)
    if asked_at > desk.now + _AHEAD_SECONDS:
        raise OwnerError("request.ahead", "the request is of a time that is yet to come: give when it was made")
    asked_at = min(asked_at, desk.now)
    before = _same(desk, person, kind) if args.flag("once") else None
    if before is not None:
        return _shown(desk, before)
    channel = "api" if desk.actor.startswith("api:") else "hand"
    row = _put(desk, person, New(kind, channel, asked_at), {"address": person.address, "text": text})
    return _shown(desk, row)


def list_all(desk: Desk, args: Args) -> Result:
    """Optional `tenant`, `state` (open, overdue, answered, refused, all; default open): those that are due first, first."""
    query = sa.select(table, tenant.c.name.label("owner")).join(tenant)
    if args.has("tenant"):
        query = query.where(table.c.tenant_id == desk.tenant(args.text("tenant")).id)
    query = query.where(_in_state(desk, args.choice("state", STATES, "open")))
    rows = desk.connection.execute(query.order_by(table.c.settled_at, table.c.due_at, table.c.id).limit(LIST_ROWS))
    return [summary(desk, row) for row in rows]


def page(desk: Desk, args: Args) -> Result:
    """`tenant`, `state`; `after` (the `next` of the page before), `limit`: oldest first. `next` is null at the end."""
    owner = desk.tenant(args.text("tenant"))
    state = args.choice("state", STATES, "open")
    limit = args.number("limit", MOST_ROWS, least=1, most=MOST_ROWS)
    after = args.number("after", 0, most=1 << 60)
    query = sa.select(table, tenant.c.name.label("owner")).join(tenant)
    query = query.where(table.c.tenant_id == owner.id, table.c.id > after, _in_state(desk, state))
    rows = desk.connection.execute(query.order_by(table.c.id).limit(limit)).all()
    return {
        "items": [summary(desk, row) for row in rows],
        "next": rows[-1].id if len(rows) == limit else None,
    }


def show(desk: Desk, args: Args) -> Result:
    """`ref`; optional `tenant`, whose it must be: a request with who asked, what, and every step."""
    return _shown(desk, _named(desk, args))


def extend(desk: Desk, args: Args) -> Result:
    """`ref`, `reason`: two months more, a single time, within the first month; the person must be told why (GDPR 12(3)).

    With `once` it may be extended already, by a run that was cut off.
    """
    row, reason, may_be_done = _open(desk, args), args.text("reason", max_chars=MOST_CHARS), args.flag("once")
    if row.extended_at and may_be_done:
        return _shown(desk, row)
    if row.extended_at:
        raise OwnerError("request.extended", "it was extended already, and the law knows one extension: answer it")
    if desk.now > row.due_at:
        raise OwnerError("request.late", "the month in which it could be extended is over: answer it now")
    due = months_after(row.asked_at, MONTHS_IN_ALL)
    return _step(desk, row, "extended", {"reason": reason}, due_at=due, extended_at=desk.now)


def answer(desk: Desk, args: Args) -> Result:
    """`ref`; optional `text`, how; `at` (now), when the answer went out. With `once` it may be answered already."""
    done = _done(desk, args, "answered")
    if done is not None:
        return done
    row, at = _open(desk, args), _sent_at(desk, args)
    said = {"text": args.text("text", "", max_chars=MOST_CHARS), "sent_at": at}
    return _settle(desk, row, "answered", said, at)


def refuse(desk: Desk, args: Args) -> Result:
    """`ref`, `reason`; `at` (now): the person is told why, and of the authority and the court (GDPR 12(4))."""
    done = _done(desk, args, "refused")
    if done is not None:
        return done
    row, at = _open(desk, args), _sent_at(desk, args)
    return _settle(desk, row, "refused", {"reason": args.text("reason", max_chars=MOST_CHARS), "sent_at": at}, at)


def figures(desk: Desk, args: Args) -> Result:
    """No arguments: of each tenant with requests that wait, how many, how many due within a week, how many overdue."""
    due = table.c.due_at
    query = (
        sa.select(
            tenant.c.name,
            sa.func.count().label("open"),
            sa.func.sum(sa.case((sa.and_(due >= desk.now, due <= desk.now + WEEK), 1), else_=0)).label("week"),
            sa.func.sum(sa.case((due < desk.now, 1), else_=0)).label("overdue"),
        )
        .select_from(table.join(tenant))
        .where(table.c.settled_at == 0)
        .group_by(tenant.c.name)
        .order_by(tenant.c.name)
    )
    return [
        {"tenant": row[0], "open": row[1], "week": row[2], "overdue": row[3]} for row in desk.connection.execute(query)
    ]


def enter_done(desk: Desk, person: Person, kind: str, text: str, *, was: str = "") -> None:
    """What a person has done by himself on /my: asked for and answered at once. The same within a day is the same request.

    `was`: his address before, where he changed it.
    """
    recent = sa.and_(
        table.c.key.in_(person.hashes),
        table.c.kind == kind,
        table.c.channel == "my",
        table.c.asked_at > desk.now - _AGAIN_SECONDS,
    )
    if not was and desk.connection.execute(sa.select(table.c.id).where(recent).limit(1)).first() is not None:
        return
    # An erasure leaves no address, not even in its own file.
    facts = {"text": text} | ({"address": person.address} if kind != "erase" else {})
    if was:
        facts["was"] = was
    row = _put(desk, person, New(kind, "my", desk.now), facts)
    _settle(desk, row, "answered", {"text": "done on the page", "sent_at": desk.now}, desk.now)


def moved_from(desk: Desk, person: Person) -> list[tuple[str, float]]:
    """Addresses from which he came to this one, in this spelling, by himself, and when."""
    where = sa.and_(table.c.key.in_(person.hashes), table.c.kind == "rectify", table.c.channel == "my")
    rows = desk.connection.execute(sa.select(table).where(where, table.c.opened_at <= person.until)).all()
    told = [(facts_of(desk, row), row.opened_at) for row in rows]
    return [(facts["was"], at) for facts, at in told if facts.get("was") and desk.is_own(person, facts["address"])]


def forget_person(desk: Desk, person: Person) -> None:
    """Erasure: what was asked and when it was answered stays; who it was and all texts go (GDPR-8)."""
    his = sa.and_(table.c.key.in_(person.hashes), table.c.opened_at <= person.until)
    for row in desk.connection.execute(sa.select(table).where(his)).all():
        facts = facts_of(desk, row)
        if facts.get("address") and not desk.is_own(person, facts["address"]):
            continue
        steps = [{name: step[name] for name in ("at", "by", "step")} for step in facts.get("steps", [])]
        _save(desk, row, {"steps": steps})
    for row in _moved_away(desk, person):
        facts = facts_of(desk, row)
        if _is_of(desk, person, facts.get("was", "")):
            _save(desk, row, {name: value for name, value in facts.items() if name != "was"})


def _moved_away(desk: Desk, person: Person) -> Sequence[TenantRow]:
    """Corrections that may name this person's address as the one before. Each lies under the hash of the new address; but whoever
    made it was on the page of this one first, which is entered, so that only the days after that are looked through.
    """
    visit = table.alias()
    days_after = sa.and_(
        visit.c.key.in_(person.hashes),
        visit.c.kind == "access",
        visit.c.channel == "my",
        table.c.settled_at >= visit.c.settled_at,
        table.c.settled_at < visit.c.settled_at + _CORRECTED_SECONDS,
    )
    here = sa.and_(table.c.tenant_id == person.tenant_id, table.c.kind == "rectify", table.c.channel == "my")
    query = sa.select(table).join(visit, days_after).where(here, table.c.opened_at <= person.until)
    return desk.connection.execute(query.distinct()).all()


def _is_of(desk: Desk, person: Person, address: str) -> bool:
    hashes = desk.keyring.subject_hashes(person_text(person.tenant_id, wide(address)))
    return not set(hashes).isdisjoint(person.hashes) and desk.is_own(person, address)


def addresses(desk: Desk, person: Person) -> list[str]:
    """Every spelling of the address that requests name."""
    rows = desk.connection.execute(sa.select(table).where(table.c.key.in_(person.hashes))).all()
    return [address for row in rows if (address := facts_of(desk, row).get("address"))]


def expire(desk: Desk, before: float, most: int) -> int:
    """Delete what was settled `before`; how many rows."""
    old = sa.select(table.c.id).where(table.c.settled_at > 0, table.c.settled_at < before).limit(most)
    return desk.connection.execute(table.delete().where(table.c.id.in_(old))).rowcount


def summary(desk: Desk, row: TenantRow) -> dict[str, Any]:
    """A request in one line of a list: nothing in it names the person."""
    ended = row.settled_at or desk.now
    return {
        "ref": row.ref,
        "tenant": row.owner,
        "kind": row.kind,
        "channel": row.channel,
        "state": row.outcome or ("overdue" if desk.now > row.due_at else "open"),
        "asked_at": row.asked_at,
        "due_at": row.due_at,
        "extended_at": row.extended_at or None,
        "settled_at": row.settled_at or None,
        "late": ended > row.due_at,
        "opened_by": row.opened_by,
    }


def _shown(desk: Desk, row: TenantRow) -> dict[str, Any]:
    facts = facts_of(desk, row)
    who = {name: facts.get(name) or None for name in ("address", "text")}
    return {**summary(desk, row), "subject": row.key.hex(), **who, "steps": facts.get("steps", [])}


def _put(desk: Desk, person: Person, new: New, facts: Mapping[str, object]) -> TenantRow:
    ref = _free_ref(desk)
    steps = [{"at": desk.now, "by": desk.actor, "step": "opened"}]
    values = {
        "tenant_id": person.tenant_id,
        "ref": ref,
        "kind": new.kind,
        "channel": new.channel,
        "key": person.hashes[0],
        "opened_by": desk.actor,
        "opened_at": desk.now,
        "asked_at": new.asked_at,
        "due_at": months_after(new.asked_at, MONTHS),
        "sealed": _sealed(desk, ref, {**facts, "steps": steps}),
    }
    desk.connection.execute(table.insert().values(**values))
    desk.note(request=ref, kind=new.kind)
    return _found(desk, ref)


def _settle(desk: Desk, row: TenantRow, outcome: str, said: Mapping[str, object], at: float) -> dict[str, Any]:
    if at < row.asked_at:
        raise OwnerError("request.when", "an answer goes out after the request came in: look at the time")
    return _step(desk, row, outcome, said, outcome=outcome, settled_at=at)


def _step(desk: Desk, row: TenantRow, step: str, said: Mapping[str, object], **columns: object) -> dict[str, Any]:
    facts = facts_of(desk, row)
    one = {"at": desk.now, "by": desk.actor, "step": step, **{name: value for name, value in said.items() if value}}
    _save(desk, row, {**facts, "steps": [*facts.get("steps", []), one]}, **columns)
    desk.note(request=row.ref, step=step)
    return _shown(desk, _found(desk, row.ref))


def _save(desk: Desk, row: TenantRow, facts: Mapping[str, object], **columns: object) -> None:
    columns["sealed"] = _sealed(desk, row.ref, facts)
    desk.connection.execute(table.update().where(table.c.id == row.id).values(**columns))


def _open(desk: Desk, args: Args) -> TenantRow:
    row = _named(desk, args)
    if row.outcome:
        raise OwnerError(
            "request.settled", f"request {row.ref} was {row.outcome} already: open another for what is new"
        )
    return row


def _done(desk: Desk, args: Args, outcome: str) -> dict[str, Any] | None:
    """The answer where it was settled so already, and `once` says that it may have been."""
    if not args.flag("once"):
        return None
    row = _named(desk, args)
    return _shown(desk, row) if row.outcome == outcome else None


def _named(desk: Desk, args: Args) -> TenantRow:
    row = _found(desk, args.text("ref"))
    if args.has("tenant") and args.text("tenant") != row.owner:
        raise _unknown()
    desk.tenant_id = row.tenant_id
    desk.note(request=row.ref)
    return row


def _found(desk: Desk, ref: str) -> TenantRow:
    query = sa.select(table, tenant.c.name.label("owner")).join(tenant).where(table.c.ref == ref)
    row = desk.connection.execute(query).first()
    if row is None:
        raise _unknown()
    return row


def _unknown() -> OwnerError:
    return OwnerError("request.unknown", "there is no request of that number: see `zegel privacy request list`")


def _same(desk: Desk, person: Person, kind: str) -> TenantRow | None:
    """The request of this person that the same program opened just now."""
    query = sa.select(table, tenant.c.name.label("owner")).join(tenant)
    query = query.where(
        table.c.key.in_(person.hashes),
        table.c.kind == kind,
        table.c.opened_by == desk.actor,
        table.c.settled_at == 0,
        table.c.opened_at > desk.now - _AGAIN_SECONDS,
    )
    return desk.connection.execute(query.order_by(table.c.id.desc()).limit(1)).first()


def _in_state(desk: Desk, state: str) -> sa.ColumnElement[bool]:
    if state == "open":
        return table.c.settled_at == 0
    if state == "overdue":
        return sa.and_(table.c.settled_at == 0, table.c.due_at < desk.now)
    return sa.true() if state == "all" else table.c.outcome == state


def _sent_at(desk: Desk, args: Args) -> float:
    at = args.time("at", desk.now)
    if at > desk.now + _AHEAD_SECONDS:
        raise OwnerError("request.when", "an answer that is yet to go out is none: record it when it went")
    return at


def _sealed(desk: Desk, ref: str, facts: Mapping[str, object]) -> bytes:
    return seal(desk.keyring, f"request\0{ref}", orjson.dumps(facts))


def facts_of(desk: Desk, row: TenantRow) -> dict[str, Any]:
    plain = unseal(desk.keyring, f"request\0{row.ref}", row.sealed)
    return {"text": "unreadable: the key of it is gone"} if plain is None else orjson.loads(plain)


def _free_ref(desk: Desk) -> str:
    day = time.strftime("%Y%m%d", time.gmtime(desk.now))
    while True:
        ref = f"{day}-{''.join(secrets.choice(_LETTERS) for _ in range(4))}"
        if desk.connection.scalar(sa.select(table.c.id).where(table.c.ref == ref)) is None:
            return ref
