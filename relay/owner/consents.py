"""Consents: record, import, show, verify, export (CONSENT-2, CONSENT-10, CONSENT-14)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.admit import CHUNK_ROWS, Refusal, Stamp
from relay.consent.ledger import Past
from relay.consent.parts import text_hash
from relay.consent.record import COLUMNS, format_time
from relay.consent.states import load_states
from relay.consent.verify import verify
from relay.owner import bought, imports
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result, TenantRow
from relay.owner.error import OwnerError
from relay.policy.facts import ConsentState
from relay.store.schema import consent_text, ledger_head, purpose, tenant

EXPORT_ROWS = 1_000
KEYS_AT_ONCE = 10_000  # of one query: SQLite takes 32,766


def give(desk: Desk, args: Args) -> Result:
    """`tenant`, and one row with the columns of the import. Refused as a whole with every problem named."""
    owner = desk.tenant(args.text("tenant"))
    row = args.rest(COLUMNS)
    outcome = desk.admission.admit(
        desk.connection, owner.id, desk.rules(owner), rows=[(1, row)], stamp=Stamp("given", desk.actor, desk.now)
    )
    if outcome.refused:
        first = outcome.refused[0]
        if first.reason in ("objected", "restricted"):
            raise OwnerError(f"consent.{first.reason}", f"this person {first.reason}: {first.remedy}")
        told = "; ".join(f"{refusal.field} {refusal.reason}" for refusal in outcome.refused)
        raise OwnerError("consent.incomplete", f"no proof of consent (CONSENT-2): {told}")
    address = str(row["email"]).strip()
    desk.person(owner.id, address)
    return {
        "tenant": owner.name,
        "unchanged": outcome.unchanged == 1,
        **_state(desk, owner, str(row["purpose"]).strip(), address=address),
    }


def import_rows(desk: Desk, args: Args) -> Result:
    """`tenant`, `rows`: at most 500 objects with the columns of the import and optionally `line` (else `first_line`
    counts from 1). `place` keeps how far the file is read, see relay.owner.imports; `released` names the held import that
    was let in, see relay.owner.bought. Answers {"imported", "unchanged", "refused", "errors": [{"line", "field", "reason",
    "remedy"?}]}; the good rows are in. `refused` counts rows, `errors` may name several fields of one.
    """
    owner = desk.tenant(args.text("tenant"))
    rows = args.rows("rows", CHUNK_ROWS)
    start = args.number("first_line", 1, most=1_000_000_000)
    numbered: list[tuple[int, dict[str, object]]] = []
    for index, row in enumerate(rows):
        line = row.get("line")
        values = {name: value for name, value in row.items() if name != "line"} if "line" in row else row
        numbered.append((line if isinstance(line, int) else start + index, values))
    rules = desk.rules(owner)
    if args.has("released"):
        rules = rules._replace(shared_times=bought.is_released(desk, owner, args.text("released")))
    outcome = desk.admission.admit(
        desk.connection, owner.id, rules, rows=numbered, stamp=Stamp("imported", desk.actor, desk.now)
    )
    refused = len({refusal.line for refusal in outcome.refused})
    desk.note(imported=outcome.imported, unchanged=outcome.unchanged, refused=refused)
    told = args.table("place")
    imports.note(desk, owner, told, imported=outcome.imported, unchanged=outcome.unchanged, refused=refused)
    return {
        "imported": outcome.imported,
        "unchanged": outcome.unchanged,
        "refused": refused,
        "errors": [shown_refusal(refusal) for refusal in outcome.refused],
    }


def shown_refusal(refusal: Refusal) -> dict[str, Any]:
    """A refusal as the contract prints it."""
    shown: dict[str, Any] = {"line": refusal.line, "field": refusal.field, "reason": refusal.reason}
    return {**shown, "remedy": refusal.remedy} if refusal.remedy else shown


def show(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`: present consent per purpose, and what is suppressed."""
    owner = desk.tenant(args.text("tenant"), gone=True)
    address = args.address("address")
    person = desk.person(owner.id, address)
    query = sa.select(purpose.c.name).where(purpose.c.tenant_id == owner.id).order_by(purpose.c.name)
    names = desk.connection.scalars(query).all()
    keys = {key: name for name in names for key in desk.consent_keys(owner.id, name, address)}
    wanted, found = list(keys), dict[str, ConsentState]()
    for start in range(0, len(wanted), KEYS_AT_ONCE):
        for key, (present, _) in load_states(desk.connection, wanted[start : start + KEYS_AT_ONCE]).items():
            found.setdefault(keys[key], present.state)
    return {
        "tenant": owner.name,
        "address": address,
        "consents": [shown_state(name, found[name]) for name in names if name in found],
        "suppressions": _suppressions(desk, person),
    }


def check_chain(desk: Desk, args: Args) -> Result:
    """`tenant`: walk its whole chain (CONSENT-14). `ok` is false and `event` names the first bad one where it breaks."""
    owner = desk.tenant(args.text("tenant"), gone=True)
    found = verify(desk.ledger, desk.connection, owner.id)
    return {
        "tenant": owner.name,
        "ok": not found.bad_event,
        "events": found.events,
        "erased": found.erased,
        "expired": found.expired,
        "event": found.bad_event or None,
        "reason": found.reason,
        "head": found.head.hex(),
    }


def export(desk: Desk, args: Args) -> Result:
    """`tenant`; `after` (sequence), `limit`: one page of events, decrypted, with hashes, and the head to sign.

    `next` is what to give as `after` for the next page, null at the end.
    """
    owner = desk.tenant(args.text("tenant"), gone=True)
    after = args.number("after", 0, most=1 << 60)
    limit = args.number("limit", EXPORT_ROWS, least=1, most=EXPORT_ROWS)
    events = desk.ledger.page(desk.connection, owner.id, after=after, limit=limit)
    desk.note(after=after, events=len(events))
    return {
        "tenant": owner.name,
        "events": [
            {**shown, "content": past.content or None}
            for shown, past in zip(shown_events(desk, owner, events), events, strict=True)
        ],
        "next": events[-1].seq if len(events) == limit else None,
        "head": shown_head(desk, owner.id),
    }


def heads(desk: Desk, args: Args) -> Result:
    """No arguments: last event and hash of every ledger, for the daily anchor in the log (CONSENT-14)."""
    query = sa.select(tenant.c.name, ledger_head.c.seq, ledger_head.c.hash).join(ledger_head).order_by(tenant.c.name)
    return [{"tenant": row.name, "seq": row.seq, "hash": row.hash.hex()} for row in desk.connection.execute(query)]


def shown_head(desk: Desk, tenant_id: int) -> dict[str, Any] | None:
    """The last event of a chain and its hash, which the log anchors daily."""
    head = desk.connection.execute(sa.select(ledger_head).where(ledger_head.c.tenant_id == tenant_id)).first()
    return {"seq": head.seq, "hash": head.hash.hex()} if head is not None else None


def shown_events(desk: Desk, owner: TenantRow, events: list[Past]) -> list[dict[str, Any]]:
    """Events as JSON, each with the consent text that was shown; of one whose content is gone its place in the chain."""
    texts = texts_of(desk, owner, events)
    return [
        _shown_place(past)
        if past.expired_at
        else {
            "event_id": past.seq,
            "event": past.event,
            "at": format_time(past.at),
            "purpose": past.purpose or None,
            "channel": "email",
            "schema_version": past.clear.get("v"),
            **{name: value for name, value in past.clear.items() if name != "v"},
            "text": texts.get(str(past.clear.get("text_hash", ""))),
            "personal": dict(past.personal) if past.personal is not None else None,
            "evidence": dict(past.evidence) if past.evidence is not None else None,
            "recorded_by": past.recorded_by,
            "recorded_at": format_time(past.recorded_at),
            "prev_hash": past.prev_hash.hex(),
            "content_hash": past.content_hash.hex(),
            "hash": past.hash.hex(),
        }
        for past in events
    ]


def _shown_place(past: Past) -> dict[str, Any]:
    said = ("event", "at", "purpose", "text", "personal", "evidence", "recorded_by", "recorded_at")
    return {
        "event_id": past.seq,
        **dict.fromkeys(said),
        "expired_at": format_time(past.expired_at),
        "prev_hash": past.prev_hash.hex(),
        "content_hash": past.content_hash.hex(),
        "hash": past.hash.hex(),
    }


def texts_of(desk: Desk, owner: TenantRow, events: list[Past]) -> dict[str, str]:
    """The texts that were shown, by the hash that the events hold; none that is not the one it was."""
    wanted = {str(past.clear["text_hash"]) for past in events if "text_hash" in past.clear}
    table = consent_text.c
    query = sa.select(table.hash, table.language, table.text).where(
        table.tenant_id == owner.id, table.hash.in_([bytes.fromhex(name) for name in wanted])
    )
    rows = desk.connection.execute(query)
    return {row.hash.hex(): row.text for row in rows if text_hash(row.language, row.text) == row.hash}


def _state(desk: Desk, owner: TenantRow, name: str, *, address: str) -> dict[str, Any]:
    found = load_states(desk.connection, desk.consent_keys(owner.id, name, address))
    return shown_state(name, next(iter(found.values()))[0].state if found else None)


def shown_state(name: str, state: ConsentState | None) -> dict[str, Any]:
    if state is None:
        return {"purpose": name, "status": "none"}
    values = state._asdict()
    for field in ("given_at", "confirmed_at", "expires_at", "sale_at"):
        values[field] = format_time(values[field]) or None
    values["used_at"] = format_time(values["used_at"])[:7] or None  # a month
    return {**values, "purpose": name}


def _suppressions(desk: Desk, person: Person) -> list[dict[str, Any]]:
    found = suppression.standing(desk.connection, person.hashes)
    return [
        {"scope": entry.scope, "reason": entry.reason, "at": format_time(entry.at), "lifted": sorted(entry.lifted)}
        for entries in found.values()
        for entry in entries
        if entry.reason != "bounce"
    ]
