"""Incidents by hand: opened, judged, told and closed by people; each step is an entry and an audit row (GDPR-20 to GDPR-22)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.consent.subject import person_text
from relay.mail.address import parse_path, wide
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result, TenantRow
from relay.owner.error import OwnerError
from relay.owner.incident_record import (
    KINDS,
    MOST_CHARS,
    READERS,
    RISKS,
    New,
    begin,
    change,
    due,
    enter,
    facts_of,
    hours_of,
    must_be_open,
    named,
    people_of,
    recipients_of,
    sealed,
    shown,
    summary,
)
from relay.store.schema import deletion_request, incident, incident_entry, incident_person, tenant
from relay.store.upsert import upsert

MOST_PEOPLE = 10_000
"""Addresses that one incident keeps; the rest is only counted."""
PEOPLE_AT_ONCE = 500
LIST_ROWS = 1_000
DAY = 86_400.0
PEOPLE_DAYS = 28
_AHEAD_SECONDS = 300.0  # two clocks that differ
_TEXTS = ("why", "categories", "consequences", "measures")
_NUMBERS = ("people", "records")


def open_by_hand(desk: Desk, args: Args) -> Result:
    """`tenant`, `kind`, `summary`; optional `detected_at` (now), `addresses` of people concerned, and the hours of the clocks."""
    owner = desk.tenant(args.text("tenant"))
    kind, text = args.choice("kind", KINDS), args.text("summary", max_chars=MOST_CHARS)
    at = args.time("detected_at", desk.now)
    if at > desk.now + _AHEAD_SECONDS:
        raise OwnerError("incident.ahead", "the time of detection is yet to come: give when it was noticed")
    addresses = args.texts("addresses") or []
    if len(addresses) > PEOPLE_AT_ONCE:
        raise OwnerError("args.too_many", f"at most {PEOPLE_AT_ONCE} addresses at once")
    if any(isinstance(parse_path(address), str) for address in addresses):
        raise OwnerError("args.address", "not all of the addresses are e-mail addresses")
    row = begin(desk, owner, New(kind, min(at, desk.now)), hours_of(args), {"summary": text})
    add_people(desk, row, addresses)
    desk.note(incident=row.ref, kind=kind)
    return shown(desk, row.ref)


def list_all(desk: Desk, args: Args) -> Result:
    """Optional `tenant`, `state` (open, closed, all; default open): newest first."""
    query = sa.select(incident, tenant.c.name.label("owner")).join(tenant)
    if args.has("tenant"):
        query = query.where(incident.c.tenant_id == desk.tenant(args.text("tenant")).id)
    state = args.choice("state", ("open", "closed", "all"), "open")
    if state != "all":
        query = query.where(incident.c.closed_at == 0 if state == "open" else incident.c.closed_at > 0)
    return [
        summary(desk, row) for row in desk.connection.execute(query.order_by(incident.c.id.desc()).limit(LIST_ROWS))
    ]


def show(desk: Desk, args: Args) -> Result:
    """`ref`; optional `tenant`, whose it must be: all that is known, without the addresses of people concerned."""
    return shown(desk, named(desk, args).ref)


def note(desk: Desk, args: Args) -> Result:
    """`ref`, `text`: one more thing that is known."""
    row = named(desk, args)
    enter(desk, row, "noted", {"text": args.text("text", max_chars=MOST_CHARS)})
    change(desk, row)
    return shown(desk, row.ref)


def assess(desk: Desk, args: Args) -> Result:
    """`ref`; any of `risk` (with `why`), `categories`, `people`, `records`, `consequences`, `measures`, `unintelligible`."""
    row = named(desk, args)
    must_be_open(row)
    said: dict[str, Any] = {name: args.text(name, max_chars=MOST_CHARS) for name in _TEXTS if args.has(name)}
    said |= {name: args.number(name, 0, most=1_000_000_000) for name in _NUMBERS if args.has(name)}
    columns: dict[str, Any] = {}
    if args.has("risk"):
        columns["risk"] = args.choice("risk", RISKS)
        if "why" not in said:
            raise OwnerError("incident.why", "say why the risk is so: the authority may ask (GDPR 33(5))")
    if args.has("unintelligible"):
        columns["unintelligible"] = args.flag("unintelligible")
    if not said and not columns:
        raise OwnerError(
            "args.missing", "nothing to write down: give a risk, or what is known of the data and the people"
        )
    columns["sealed"] = sealed(desk, row.ref, "facts", {**facts_of(desk, row), **said})
    plain = {name: value for name, value in columns.items() if name != "sealed"}
    enter(desk, row, "assessed", {**said, **plain})
    change(desk, row, **columns)
    desk.note(**plain)
    return shown(desk, row.ref)


def notify(desk: Desk, args: Args) -> Result:
    """`ref`, `to` (tenant, authority, people), `whom`; optional `at` (now), `reference`, and `late`, why it was not in time."""
    row = named(desk, args)
    must_be_open(row)
    reader, at = args.choice("to", READERS), args.time("at", desk.now)
    if not row.detected_at <= at <= desk.now + _AHEAD_SECONDS:
        raise OwnerError(
            "incident.when",
            "a notice goes out after the incident was detected, and not in the future: look at the time",
        )
    said = {"to": reader, "whom": args.text("whom"), "sent_at": at}
    said |= {name: args.text(name, max_chars=MOST_CHARS) for name in ("reference", "late") if args.has(name)}
    deadline = {"tenant": row.tenant_due_at, "authority": row.authority_due_at}.get(reader, at)
    column = f"{reader}_told_at"
    is_first = not getattr(row, column)
    if is_first and at > deadline and "late" not in said:
        raise OwnerError("incident.late", "the deadline was over by then: say why with `--late` (GDPR 33(1))")
    enter(desk, row, "notified", said)
    change(desk, row, **({column: at} if is_first else {}))
    desk.note(to=reader, sent_at=at, late=at > deadline)
    return shown(desk, row.ref)


def close(desk: Desk, args: Args) -> Result:
    """`ref`, `reason`; `without_notice` is why what is still due is not told. Refused while something is due without it."""
    row = named(desk, args)
    must_be_open(row)
    said = {"reason": args.text("reason", max_chars=MOST_CHARS)}
    without, owed = args.text("without_notice", "", max_chars=MOST_CHARS), due(row)
    if owed and not without:
        text = "; ".join(owed.values())
        raise OwnerError(
            "incident.untold",
            f"{text}: record it with `zegel privacy incident notify`, or give --without-notice and the reason",
        )
    if owed:
        said |= {"without_notice": without, "not_told": " ".join(owed)}
    enter(desk, row, "closed", said)
    change(desk, row, closed_at=desk.now)
    desk.note(not_told=sorted(owed))
    return shown(desk, row.ref)


def export(desk: Desk, args: Args) -> Result:
    """`ref`; optional `tenant`: everything of an incident, the addresses of people concerned included."""
    row = named(desk, args)
    return {
        **shown(desk, row.ref),
        "people": people_of(desk, row),
        "recipients": recipients_of(desk, row),
        "exported_at": desk.now,
    }


def add_people(desk: Desk, row: TenantRow, addresses: list[str]) -> None:
    """Keep the addresses of people concerned, each once, up to MOST_PEOPLE of one incident."""
    known = desk.connection.scalar(sa.select(sa.func.count()).where(incident_person.c.incident_id == row.id)) or 0
    rows = []
    for address in addresses[: max(0, MOST_PEOPLE - known)]:
        text = person_text(row.tenant_id, wide(address))
        held = sealed(desk, row.ref, "person", {"address": address})
        rows.append({"incident_id": row.id, "key": desk.keyring.subject_hash(text), "sealed": held})
    upsert(desk.connection, incident_person, rows, keep=True)


def forget_person(desk: Desk, person: Person) -> None:
    """Erasure: the person's address is in no incident any more (GDPR-8)."""
    for table in (incident_person, deletion_request):
        desk.connection.execute(table.delete().where(table.c.key.in_(person.hashes)))


def expire(desk: Desk, before: float, most: int) -> int:
    """Delete what has had its time: people of incidents closed 28 days ago, and incidents closed `before`. How many rows."""
    gone = 0
    settled = sa.select(incident.c.id).where(
        incident.c.closed_at > 0, incident.c.closed_at < desk.now - PEOPLE_DAYS * DAY
    )
    for table in (incident_person, deletion_request):
        gone += _delete(desk, table, table.c.incident_id.in_(settled), most)
    old = sa.select(incident.c.id).where(incident.c.closed_at > 0, incident.c.closed_at < before)
    gone += _delete(desk, incident_entry, incident_entry.c.incident_id.in_(old), most)
    if gone < most:  # what belongs to them is gone
        gone += _delete(desk, incident, incident.c.id.in_(old), most)
    return gone


def _delete(desk: Desk, table: sa.Table, where: sa.ColumnElement[bool], most: int) -> int:
    key = list(table.primary_key.columns)
    chosen = sa.select(*key).where(where).limit(most)
    return desk.connection.execute(table.delete().where(sa.tuple_(*key).in_(chosen))).rowcount
