"""An incident as it is kept: sealed facts, entries that are only added, and which notices are still due (GDPR-20 to GDPR-22)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, TenantRow
from relay.owner.error import OwnerError
from relay.owner.hook_events import seal, unseal
from relay.store.schema import deletion_request, incident, incident_entry, incident_person, tenant

KINDS = ("exposure", "leak", "export", "loss", "access", "other")
RISKS = ("unlikely", "likely", "high")
READERS = ("tenant", "authority", "people")
"""Who may have to be told."""
HOUR = 3_600.0
HOUSE_HOURS = {"tenant": 24.0, "authority": 72.0}
MOST_CHARS = 4_000
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is read as another


class New(NamedTuple):
    """What an incident begins with. `mark` is "" where a person opened it; `at` is when it happened, if known."""

    kind: str
    detected_at: float
    mark: str = ""
    at: float = 0.0
    last_at: float = 0.0
    times: int = 1


def begin(desk: Desk, owner: TenantRow, new: New, hours: Mapping[str, float], facts: Mapping[str, object]) -> TenantRow:
    """Write a new incident down; its row."""
    ref = _free_ref(desk)
    values = {
        "tenant_id": owner.id,
        "ref": ref,
        "kind": new.kind,
        "mark": new.mark,
        "opened_by": desk.actor,
        "opened_at": desk.now,
        "detected_at": new.detected_at,
        "last_at": new.last_at or new.detected_at,
        "times": max(1, new.times),
        "tenant_due_at": new.detected_at + hours["tenant"] * HOUR,
        "authority_due_at": new.detected_at + hours["authority"] * HOUR,
        "seen_at": 0.0 if new.mark else desk.now,
        "sealed": sealed(desk, ref, "facts", facts),
    }
    desk.connection.execute(incident.insert().values(**values))
    row = found(desk, ref)
    enter(desk, row, "opened", {"kind": new.kind})
    return row


def hours_of(args: Args) -> dict[str, float]:
    """`tenant_minutes` and `authority_minutes` of whoever has the settings, in hours; the rulebook's where they are not given."""
    return {
        reader: args.number(f"{reader}_minutes", int(hours * 60), least=1, most=60 * 8_760) / 60
        for reader, hours in HOUSE_HOURS.items()
    }


def found(desk: Desk, ref: str) -> TenantRow:
    """The row of an incident with its tenant's name. Raises OwnerError where there is none."""
    query = sa.select(incident, tenant.c.name.label("owner")).join(tenant).where(incident.c.ref == ref)
    row = desk.connection.execute(query).first()
    if row is None:
        raise OwnerError("incident.unknown", "there is no incident of that number: see `zegel privacy incident list`")
    desk.tenant_id = row.tenant_id
    return row


def named(desk: Desk, args: Args) -> TenantRow:
    """The incident that `ref` names; where `tenant` is given it must be his, as far as anybody can tell."""
    row = found(desk, args.text("ref"))
    if args.has("tenant") and args.text("tenant") != row.owner:
        raise OwnerError("incident.unknown", "there is no incident of that number: see `zegel privacy incident list`")
    desk.note(incident=row.ref)
    return row


def must_be_open(row: TenantRow) -> None:
    """Raises OwnerError for one that was closed."""
    if row.closed_at:
        raise OwnerError(
            "incident.closed", f"incident {row.ref} is closed: only notes can be added; open another for what is new"
        )


def change(desk: Desk, row: TenantRow, **values: object) -> None:
    """Columns of the row, by a person: he has looked at it."""
    if not row.seen_at:
        values["seen_at"] = desk.now
    if values:
        desk.connection.execute(incident.update().where(incident.c.id == row.id).values(**values))


def enter(desk: Desk, row: TenantRow, kind: str, said: Mapping[str, object]) -> None:
    """One more step in the record; nothing in it is ever changed."""
    values = {
        "incident_id": row.id,
        "at": desk.now,
        "kind": kind,
        "actor": desk.actor,
        "sealed": sealed(desk, row.ref, kind, said),
    }
    desk.connection.execute(incident_entry.insert().values(**values))


def entries(desk: Desk, row: TenantRow) -> list[dict[str, Any]]:
    """All steps, oldest first."""
    query = sa.select(incident_entry).where(incident_entry.c.incident_id == row.id).order_by(incident_entry.c.id)
    return [
        {"at": one.at, "step": one.kind, "by": one.actor, **opened(desk, row.ref, one.kind, one.sealed)}
        for one in desk.connection.execute(query)
    ]


def facts_of(desk: Desk, row: TenantRow) -> dict[str, Any]:
    """What is known of an incident."""
    return opened(desk, row.ref, "facts", row.sealed)


def sealed(desk: Desk, ref: str, place: str, values: Mapping[str, object]) -> bytes:
    return seal(desk.keyring, f"incident\0{ref}\0{place}", orjson.dumps(values))


def opened(desk: Desk, ref: str, place: str, data: bytes) -> dict[str, Any]:
    """What `sealed` hid; says so where its key is gone."""
    plain = unseal(desk.keyring, f"incident\0{ref}\0{place}", data)
    return {"unreadable": "the key of it is gone"} if plain is None else orjson.loads(plain)


def due(row: TenantRow) -> dict[str, str]:
    """By reader, why a notice to him is still owed; nothing where none is."""
    owed = {}
    if not row.tenant_told_at:
        owed["tenant"] = "the tenant must always be told (GDPR-20)"
    if row.risk != "unlikely" and not row.authority_told_at:
        owed["authority"] = (
            "the authority must be told (GDPR-21)"
            if row.risk
            else "nobody has judged the risk yet, and unless it is unlikely the authority must be told (GDPR-21)"
        )
    if row.risk == "high" and not row.unintelligible and not row.people_told_at:
        owed["people"] = "the risk is high, so the people concerned must be told (GDPR-22)"
    return owed


def summary(desk: Desk, row: TenantRow) -> dict[str, Any]:
    """An incident in one line of a list; no personal data."""
    return {
        "ref": row.ref,
        "tenant": row.owner,
        "kind": row.kind,
        "state": "closed" if row.closed_at else "open",
        "detected_at": row.detected_at,
        "times": row.times,
        "last_at": row.last_at,
        "opened_at": row.opened_at,
        "opened_by": row.opened_by,
        "risk": row.risk or None,
        "tenant_due_at": row.tenant_due_at,
        "tenant_told_at": row.tenant_told_at or None,
        "authority_due_at": row.authority_due_at,
        "authority_told_at": row.authority_told_at or None,
        "people_told_at": row.people_told_at or None,
        "closed_at": row.closed_at or None,
        "due": [] if row.closed_at else sorted(due(row), key=READERS.index),
        "late": [
            reader
            for reader in ("tenant", "authority")
            if (getattr(row, f"{reader}_told_at") or (desk.now if reader in due(row) else 0.0))
            > getattr(row, f"{reader}_due_at")
        ],
    }


def shown(desk: Desk, ref: str) -> dict[str, Any]:
    """All that is known of an incident, but for whose addresses are concerned."""
    row = found(desk, ref)
    owner = desk.connection.execute(sa.select(tenant).where(tenant.c.id == row.tenant_id)).one()
    people = sa.select(sa.func.count()).where(incident_person.c.incident_id == row.id)
    return {
        **summary(desk, row),
        "unintelligible": row.unintelligible,
        "facts": facts_of(desk, row),
        "addresses": desk.connection.scalar(people),
        "controller": {
            "name": owner.legal_name or owner.name,
            "contact": owner.contact,
            "postal_address": owner.postal_address,
            "language": owner.language,
        },
        "deletion": [_request(desk, row, one) for one in _requests(desk, row)],
        "steps": entries(desk, row),
    }


def people_of(desk: Desk, row: TenantRow) -> list[str]:
    """Addresses of the people concerned, in clear and in order."""
    query = sa.select(incident_person.c.sealed).where(incident_person.c.incident_id == row.id)
    return sorted(opened(desk, row.ref, "person", data).get("address", "") for data in desk.connection.scalars(query))


def recipients_of(desk: Desk, row: TenantRow) -> list[dict[str, Any]]:
    """Who was asked to delete something, in clear."""
    return [
        {**_request(desk, row, one), **opened(desk, row.ref, "recipient", one.sealed)} for one in _requests(desk, row)
    ]


def _requests(desk: Desk, row: TenantRow) -> list[TenantRow]:
    query = sa.select(deletion_request).where(deletion_request.c.incident_id == row.id).order_by(deletion_request.c.id)
    return list(desk.connection.execute(query))


def _request(desk: Desk, row: TenantRow, one: TenantRow) -> dict[str, Any]:
    address = str(opened(desk, row.ref, "recipient", one.sealed).get("address", ""))
    return {
        "recipient": f"…@{address.rpartition('@')[2]}",
        "asked_at": one.asked_at,
        "mails_sent": one.mails_sent,
        "next_mail_at": one.due_at if one.due_at and not one.confirmed_at and not row.closed_at else None,
        "confirmed_at": one.confirmed_at or None,
    }


def _free_ref(desk: Desk) -> str:
    day = time.strftime("%Y%m%d", time.gmtime(desk.now))
    while True:
        ref = f"{day}-{''.join(secrets.choice(_LETTERS) for _ in range(4))}"
        if desk.connection.scalar(sa.select(incident.c.id).where(incident.c.ref == ref)) is None:
            return ref
