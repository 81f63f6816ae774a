"""Incidents that the gateway notices, and what it must know to count their clocks (GDPR-20, CC-20).

What the same login does again is the same incident as long as the tenant has not been told of it: a campaign that shows
addresses ten thousand times is one incident, noticed ten thousand times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from relay.mail.address import parse_path
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.incident_record import New, begin, due, facts_of, found, hours_of, sealed
from relay.owner.incidents import PEOPLE_AT_ONCE, add_people
from relay.store.schema import audit, deletion_request, incident, tenant

KINDS = ("exposure", "leak", "export")
EXPORTS = ("consent.export", "consent.records")
MOST_ROWS = 100
MOST_MESSAGES = 100
"""Queue ids that one incident keeps."""
MOST_EXPORTS = 1_000
ONE_EXPORT_SECONDS = 600.0
"""A long one is a row of the audit for each of its parts."""
_SAID = ("credential", "stream", "class", "purpose", "reason", "by")


def seen(desk: Desk, args: Args) -> Result:
    """`rows` of `tenant`, `kind`, and as known `credential`, `stream`, `class`, `purpose`, `reason`, `by`, `messages`
    (queue ids), `people` (addresses), `shown`, `times`, `first_at`, `last_at`; `burst_minutes` (1440),
    and the minutes of the clocks.

    Answers the incidents that are new. A row about a tenant who is gone is left out.
    """
    burst, hours = args.number("burst_minutes", 1_440, least=1, most=60 * 8_760) * 60.0, hours_of(args)
    opened = []
    for given in args.rows("rows", MOST_ROWS):
        row = Args(given)
        owner = desk.connection.execute(
            sa.select(tenant).where(tenant.c.name == row.text("tenant"), tenant.c.deleted_at == 0)
        ).first()
        new, facts, people = _read(desk, row)
        if owner is None:
            continue
        desk.tenant_id = owner.id
        known = _standing(desk, owner, new, burst)
        if known is not None:
            _again(desk, known, new, facts)
            add_people(desk, known, people)
            continue
        made = begin(desk, owner, new, hours, facts)
        add_people(desk, made, people)
        desk.note(incident=made.ref, kind=new.kind)
        desk.write_audit("incident.opened")
        opened.append({"ref": made.ref, "tenant": owner.name, "kind": new.kind, "reason": facts.get("reason", "")})
    return opened


def figures(desk: Desk, args: Args) -> Result:
    """No arguments: each open incident with its clocks and what is due, and how many wrong recipients have not answered."""
    query = sa.select(incident, tenant.c.name.label("owner")).join(tenant).where(incident.c.closed_at == 0)
    rows = [
        {
            "ref": row.ref,
            "tenant": row.owner,
            "seen": bool(row.seen_at),
            "detected_at": row.detected_at,
            "tenant_due_at": row.tenant_due_at,
            "authority_due_at": row.authority_due_at,
            "due": list(due(row)),
        }
        for row in desk.connection.execute(query)
    ]
    asked = deletion_request.c
    of_open = sa.select(incident.c.id).where(incident.c.closed_at == 0)
    silent = sa.select(sa.func.count()).where(asked.confirmed_at == 0, asked.incident_id.in_(of_open))
    return {"incidents": rows, "unanswered": desk.connection.scalar(silent)}


def exports(desk: Desk, args: Args) -> Result:
    """`after`, a row of the audit (0), and `since`: who exported whose consents when, oldest first. `last` is where to go on."""
    after, since = args.number("after", 0, most=1 << 53), args.time("since", 0.0)
    last = desk.connection.scalar(sa.select(sa.func.max(audit.c.id))) or 0
    query = (
        sa.select(audit.c.id, audit.c.at, audit.c.actor, tenant.c.name)
        .join(tenant, tenant.c.id == audit.c.tenant_id)
        .where(audit.c.id > after, audit.c.at >= since, audit.c.op.in_(EXPORTS))
        .order_by(audit.c.id)
        .limit(MOST_EXPORTS)
    )
    rows = [{"id": row.id, "at": row.at, "by": row.actor, "tenant": row.name} for row in desk.connection.execute(query)]
    return {"rows": rows, "last": rows[-1]["id"] if len(rows) == MOST_EXPORTS else last}


def _read(desk: Desk, row: Args) -> tuple[New, dict[str, Any], list[str]]:
    kind, facts = row.choice("kind", KINDS), {name: row.text(name, "") for name in _SAID}
    first = row.time("first_at", desk.now)
    new = New(
        kind,
        desk.now if kind == "export" else first,  # of an export we know once the audit was read
        mark="\n".join((kind, facts["credential"], facts["purpose"], facts["reason"], facts["by"])),
        at=first,
        last_at=max(first, row.time("last_at", first)),
        times=row.number("times", 1, most=1_000_000_000),
    )
    known: dict[str, Any] = {name: value for name, value in facts.items() if value}
    known |= {"messages": (row.texts("messages") or [])[:MOST_MESSAGES], "shown": row.number("shown", 0)}
    people = [one for one in row.texts("people") or [] if not isinstance(parse_path(one), str)]
    row.done()
    return new, known, people[:PEOPLE_AT_ONCE]


def _standing(desk: Desk, owner: TenantRow, new: New, burst: float) -> TenantRow | None:
    """The incident that this is a part of: open, of the same login and reason, told to nobody, and last noticed not long ago.

    An export is a part of the one in which it has been counted, whatever became of that: the audit is read again after a start.
    """
    table = incident.c
    same = sa.and_(table.tenant_id == owner.id, table.mark == new.mark)
    if new.kind == "export":
        counted = desk.connection.scalar(sa.select(table.ref).where(same, table.last_at >= new.at))
        if counted is not None:
            return found(desk, counted)
    fresh = sa.and_(table.closed_at == 0, table.tenant_told_at == 0, table.last_at >= new.at - burst)
    ref = desk.connection.scalar(sa.select(table.ref).where(same, fresh).order_by(table.id.desc()))
    return None if ref is None else found(desk, ref)


def _again(desk: Desk, row: TenantRow, new: New, facts: Mapping[str, Any]) -> None:
    if new.kind == "export" and new.at <= row.last_at:
        return  # counted before
    is_a_part = new.kind == "export" and new.at - row.last_at < ONE_EXPORT_SECONDS
    known = facts_of(desk, row)
    messages = [*known.get("messages", []), *facts["messages"]]
    known["messages"] = list(dict.fromkeys(messages))[:MOST_MESSAGES]
    known["shown"] = max(known.get("shown", 0), facts["shown"])
    values = {
        "times": row.times + (0 if is_a_part else new.times),
        "last_at": max(row.last_at, new.last_at),
        "sealed": sealed(desk, row.ref, "facts", known),
    }
    desk.connection.execute(incident.update().where(incident.c.id == row.id).values(**values))
