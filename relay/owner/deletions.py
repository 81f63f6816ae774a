"""Whoever got what was not for him is asked to delete it and to say so in writing (GDPR-23).

The letter and two reminders leave through the gateway (relay.serve.incidents): a row waits here until they have.
"""

from __future__ import annotations

import sqlalchemy as sa

from relay.consent.token import TokenKind, make, read
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.owner.incident_record import MOST_CHARS, change, enter, found, must_be_open, named, opened, sealed, shown
from relay.store.schema import deletion_request, incident, tenant

REMINDER_DAYS = (2, 5)
"""After the request."""
DAY = 86_400.0
MOST_REQUESTS = 1_000
MOST_DUE = 50
_table = deletion_request.c


def ask(desk: Desk, args: Args) -> Result:
    """`ref`, `address`, `what` is to be deleted; optional `language` (the tenant's)."""
    row = named(desk, args)
    must_be_open(row)
    address, what = args.address("address"), args.text("what", max_chars=MOST_CHARS)
    owner = desk.connection.execute(sa.select(tenant).where(tenant.c.id == row.tenant_id)).one()
    language = args.choice("language", ("nl", "en"), "nl" if owner.language == "nl" else "en")
    person = desk.person(row.tenant_id, address)
    same = sa.and_(_table.incident_id == row.id, _table.key.in_(person.hashes))
    if desk.connection.scalar(sa.select(_table.id).where(same)) is not None:
        raise OwnerError("incident.asked", "this recipient was asked already: see `zegel privacy incident show`")
    count = desk.connection.scalar(sa.select(sa.func.count()).where(_table.incident_id == row.id)) or 0
    if count >= MOST_REQUESTS:
        raise OwnerError("args.too_many", f"at most {MOST_REQUESTS} recipients of one incident can be asked")
    values = {
        "incident_id": row.id,
        "key": person.hashes[0],
        "language": language,
        "asked_at": desk.now,
        "due_at": desk.now,
        "sealed": sealed(desk, row.ref, "recipient", {"address": address, "what": what}),
    }
    desk.connection.execute(deletion_request.insert().values(**values))
    enter(desk, row, "asked", {"what": what, "recipient": f"…@{address.rpartition('@')[2]}"})
    change(desk, row)
    return shown(desk, row.ref)


def letters(desk: Desk, args: Args) -> Result:
    """No arguments: the letters that are to leave now, with the token of their link."""
    query = (
        sa.select(
            deletion_request, incident.c.ref, incident.c.tenant_id, tenant.c.name.label("owner"), tenant.c.legal_name
        )
        .join(incident, incident.c.id == _table.incident_id)
        .join(tenant, tenant.c.id == incident.c.tenant_id)
        .where(_table.due_at > 0, _table.due_at <= desk.now, _table.confirmed_at == 0, incident.c.closed_at == 0)
        .where(tenant.c.deleted_at == 0)
        .order_by(_table.due_at)
        .limit(MOST_DUE)
    )
    found_rows = []
    for row in desk.connection.execute(query):
        said = opened(desk, row.ref, "recipient", row.sealed)
        if "address" in said:  # else its key is gone, and so is whoever it was
            token = make(desk.keyring, TokenKind.DELETE, row.tenant_id, purpose=str(row.id), subject_hash=row.key)
            found_rows.append(
                {
                    "id": row.id,
                    "tenant": row.owner,
                    "tenant_id": row.tenant_id,
                    "sender": row.legal_name or row.owner,
                    "language": row.language,
                    "mails_sent": row.mails_sent,
                    "recipient": said["address"],
                    "what": said["what"],
                    "token": token,
                }
            )
    return found_rows


def mailed(desk: Desk, args: Args) -> Result:
    """`id`, `mails_sent` before it: the letter is queued; the next one is due after 2, then 5 days from the request."""
    number, before = args.number("id", 0, most=1 << 53), args.number("mails_sent", 0)
    row = desk.connection.execute(sa.select(deletion_request).where(_table.id == number)).first()
    if row is None or row.mails_sent != before:
        return {"next_at": 0.0}
    days = REMINDER_DAYS[before] if before < len(REMINDER_DAYS) else 0
    next_at = row.asked_at + days * DAY if days else 0.0
    values = {"mails_sent": before + 1, "due_at": next_at}
    desk.connection.execute(deletion_request.update().where(_table.id == number).values(**values))
    return {"next_at": next_at}


def look(desk: Desk, args: Args) -> Result:
    """`token`: what the page shows; nothing changes."""
    row, request = _asked(desk, args)
    said = opened(desk, row.ref, "recipient", request.sealed)
    return {"what": said.get("what", ""), "asked_at": request.asked_at, "confirmed_at": request.confirmed_at}


def confirm(desk: Desk, args: Args) -> Result:
    """`token`: the recipient says that it is deleted. Again says the same and changes nothing."""
    row, request = _asked(desk, args)
    if request.confirmed_at:
        return {"confirmed_at": request.confirmed_at, "changed": False}
    desk.note(incident=row.ref, subject=request.key.hex())
    desk.connection.execute(
        deletion_request.update().where(_table.id == request.id).values(confirmed_at=desk.now, due_at=0.0)
    )
    address = str(opened(desk, row.ref, "recipient", request.sealed).get("address", ""))
    enter(desk, row, "confirmed", {"recipient": f"…@{address.rpartition('@')[2]}"})
    desk.write_audit("deletion.confirmed")
    return {"confirmed_at": desk.now, "changed": True}


def _asked(desk: Desk, args: Args) -> tuple[TenantRow, TenantRow]:
    token = read(desk.keyring, args.text("token", max_chars=2_000))
    request = None
    if token is not None and token.kind == TokenKind.DELETE and token.purpose.isdigit():
        request = desk.connection.execute(sa.select(deletion_request).where(_table.id == int(token.purpose))).first()
    if token is None or request is None or request.key != token.subject_hash:
        raise OwnerError("token.unknown", "this link is not one of ours, or what it was about is settled")
    ref = desk.connection.scalar(sa.select(incident.c.ref).where(incident.c.id == request.incident_id))
    row = found(desk, str(ref))
    if row.tenant_id != token.tenant_id:
        raise OwnerError("token.unknown", "this link is not one of ours, or what it was about is settled")
    return row, request
