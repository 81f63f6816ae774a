"""What a tenant who leaves takes along of the shared database, table by table and page by page (GDPR-18, GDPR 28(3)(g)).

Every column that says something of the tenant is in it, opened where it is sealed; digests of secrets, and secrets, are not. The
consents are handed out by `consent.export`, so that they are signed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.record import format_time
from relay.owner import incidents, objections
from relay.owner.args import Args
from relay.owner.departures import own_rows
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.hook_events import unseal
from relay.owner.requests import facts_of
from relay.store import schema

PAGE_ROWS = 500
_DOCUMENTS = frozenset(("detail", "document", "from_addresses", "settings"))
Opened = Callable[[Desk, TenantRow], dict[str, Any]]


class Part(NamedTuple):
    """A table of the archive: `hidden` columns are left out; `opened` adds what lies sealed in a row; `only` some rows of it."""

    table: sa.Table
    hidden: tuple[str, ...] = ()
    opened: Opened = lambda desk, row: {}
    only: sa.ColumnElement[bool] | None = None


def _incident(desk: Desk, row: TenantRow) -> dict[str, Any]:
    said = incidents.export(desk, Args({"ref": row.ref}))
    assert isinstance(said, dict)
    return {"file": said}


def _event(desk: Desk, row: TenantRow) -> dict[str, Any]:
    plain = unseal(desk.keyring, row.event_id, row.body)
    return {"body": orjson.loads(plain) if plain is not None else None}


def _suppression(desk: Desk, row: TenantRow) -> dict[str, Any]:
    return objections.shown(desk, row)


def _request(desk: Desk, row: TenantRow) -> dict[str, Any]:
    return facts_of(desk, row)


def _picture(desk: Desk, row: TenantRow) -> dict[str, Any]:
    return {"picture": base64.b64encode(row.picture).decode()}


PARTS = {
    "tenant": Part(schema.tenant),
    "look": Part(schema.tenant_face, (), _picture),
    "instructions": Part(schema.instruction),
    "domains": Part(schema.domain),
    "dkim-keys": Part(schema.dkim_key),
    "purposes": Part(schema.purpose),
    "logins": Part(schema.credential, ("key_id", "digest")),
    "api-keys": Part(schema.api_key, ("key_id", "digest")),
    "policies": Part(schema.policy_mode),
    "limits": Part(schema.own_limit),
    "periods": Part(schema.retention_period),
    "mailings": Part(schema.mailing),
    "texts": Part(schema.consent_text),
    "imports-held": Part(schema.held_import),
    "suppressions": Part(schema.suppression, ("key", "subject_id", "sealed"), _suppression, suppression.stands()),
    "webhooks": Part(schema.webhook, ("secret", "secret_before")),
    "webhook-events": Part(schema.webhook_event, ("subject", "body"), _event),
    "incidents": Part(schema.incident, ("sealed", "mark"), _incident),
    "requests": Part(schema.rights_request, ("sealed", "key"), _request),
    "refusals": Part(schema.refusal_tally),
    "letters": Part(schema.tenant_told),
    "audit": Part(schema.audit),
}
"""By the name of their file in the archive."""
LEFT_OUT = {
    "consent_event": "consents.jsonl has them, signed",
    "ledger_head": "the end of consents.jsonl has it",
    "consent_state": "follows from the events; whether a mail may go is asked of them",
    "subject": "keys that seal the events, which are opened in consents.jsonl",
    "confirm_request": "the events of consents.jsonl say who was asked, and when",
    "incident_entry": "in incidents.jsonl",
    "incident_person": "in incidents.jsonl",
    "deletion_request": "in incidents.jsonl",
    "import_place": "how far a file was read that the tenant has",
    "told_outcome": "digests of what the tenant told; the delivery log says what became of a mail",
    "idempotency": "answers that programs of the tenant got within a day",
    "access_code": "codes that people have in their mail; they are theirs",
    "address_change": "what a person asked for within a day, and did not confirm",
    "erasure": "hashes of people who are being erased",
}


def page(desk: Desk, args: Args) -> Result:
    """`tenant`, `part`; `after` (the `next` of the page before), `limit`: rows of one file of the archive.

    `next` is null at the end. The beginning is audited.
    """
    owner = desk.tenant(args.text("tenant"))
    name = args.choice("part", tuple(PARTS))
    part, limit = PARTS[name], args.number("limit", PAGE_ROWS, least=1, most=PAGE_ROWS)
    own = own_rows(part.table, owner.id)
    assert own is not None, "it is of tenants"
    key = list(part.table.primary_key.columns)
    query = sa.select(part.table).where(own, *([] if part.only is None else [part.only])).order_by(*key).limit(limit)
    after = args.texts("after")
    if after is not None:
        query = query.where(
            sa.tuple_(*key) > sa.tuple_(*(_value(column, text) for column, text in zip(key, after, strict=True)))
        )
    else:
        desk.note(part=name)
        desk.write_audit("tenant.export")
    rows = desk.connection.execute(query).all()
    last = [_text(getattr(rows[-1], column.name)) for column in key] if len(rows) == limit else None
    return {"rows": [_shown(desk, part, row) for row in rows], "next": last}


def _shown(desk: Desk, part: Part, row: TenantRow) -> dict[str, Any]:
    hidden = {"tenant_id", *part.hidden}
    said = {
        column.name: _plain(column, getattr(row, column.name)) for column in part.table.c if column.name not in hidden
    }
    return {**said, **part.opened(desk, row)}


def _plain(column: sa.Column[Any], value: Any) -> Any:
    """A value as JSON: times as RFC 3339 or null, octets in hex, documents as they are."""
    if isinstance(column.type, sa.Double):
        return format_time(value) or None
    if isinstance(value, bytes):
        return value.hex()
    return orjson.loads(value) if column.name in _DOCUMENTS else value


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _value(column: sa.Column[Any], text: str) -> Any:
    if isinstance(column.type, sa.LargeBinary):
        return bytes.fromhex(text)
    return text if isinstance(column.type, sa.Text) else int(text)
