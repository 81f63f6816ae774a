"""What is held about one address for one tenant, for the person himself (GDPR-6, GDPR-10).

Of the proven address only: consent is kept by the exact address (CONSENT-16), and another spelling may be somebody else's.
Objections are kept by the person, so they are told whole. Who of the operator or the tenant typed a record is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.ledger import Past
from relay.consent.record import format_time
from relay.consent.states import load_states
from relay.consent.subject import person_text
from relay.mail.address import narrow
from relay.owner.args import Args
from relay.owner.consents import shown_events
from relay.owner.desk import Desk, Person, Result, TenantRow, legal_name
from relay.owner.mydata import proven
from relay.store.schema import purpose

_CONSENT = (
    "method", "given_at", "confirmed_at", "expires_at", "text", "text_language", "policy_url", "controller", "provenance",
    "supplier", "jurisdiction", "category", "sale_kind", "sale_at",
)  # fmt: skip
_TIMES = ("given_at", "confirmed_at", "expires_at", "sale_at")


def held(desk: Desk, args: Args) -> Result:
    """`proof`: sender, consents with what was said and shown, their history, and what stops mail."""
    owner, person = proven(desk, args)
    names = desk.connection.execute(sa.select(purpose).where(purpose.c.tenant_id == owner.id).order_by(purpose.c.name))
    lists = {row.name: row for row in names}
    keys = {key: name for name in lists for key in desk.consent_keys(owner.id, name, person.address)}
    past = [
        one
        for one in desk.ledger.history(desk.connection, owner.id, person.hashes)
        if not one.expired_at and (one.key in keys or (not one.key and _is_of(one, person.address)))
    ]
    events = shown_events(desk, owner, past)
    return {
        "address": person.address,
        "at": format_time(desk.now),
        "consents": _consents(desk, owner, keys, lists, events),
        "history": [_history(event) for event in events],
        "stops": _stops(desk, person),
    }


def _is_of(event: Past, address: str) -> bool:
    """An event about the person as a whole; one that names another spelling of the address is of that one."""
    told = (event.personal or {}).get("email", "")
    return not told or narrow(told) == narrow(address)


def _consents(
    desk: Desk, owner: TenantRow, keys: dict[bytes, str], lists: dict[str, Any], events: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    by_number = {event["event_id"]: event for event in events}
    shown = []
    for key, (present, _) in load_states(desk.connection, keys).items():
        name, state = keys[key], present.state
        grant = _grant(events, name, by_number.get(state.event))
        row = {
            "purpose": name,
            "title_nl": lists[name].title_nl or lists[name].title_en or name,
            "title_en": lists[name].title_en or lists[name].title_nl or name,
            "status": state.status,
            "basis": state.basis,
            "controller": state.controller or lists[name].controller or legal_name(owner),
            "ended_at": format_time(present.ended_at) or None,
        }
        told = {field: value for field in _CONSENT if (value := grant.get(field))}
        told |= {field: format_time(float(at)) for field in _TIMES if isinstance(at := told.get(field), int | float)}
        personal = grant.get("personal") or {}
        shown.append(row | told | {"source": _by(personal.get("source")) or None})
    return sorted(shown, key=lambda row: str(row["purpose"]))


def _grant(events: Sequence[dict[str, Any]], name: str, present: dict[str, Any] | None) -> dict[str, Any]:
    """The event that says what was agreed to: that of the present state, else the last yes before it."""
    if present is not None and "basis" in present:
        return present
    return next((one for one in reversed(events) if one["purpose"] == name and "basis" in one), present or {})


def _history(event: dict[str, Any]) -> dict[str, Any]:
    personal, evidence = event["personal"] or {}, event["evidence"] or {}
    told = {
        "event": event["event"],
        "at": event["at"],
        "purpose": event["purpose"],
        "text": event["text"],
        "erased": event["personal"] is None and event["event"] not in ("erased", "objected"),
    }
    named = {name: value for name, value in personal.items() if name != "source"}
    return {
        **told,
        "personal": named,
        "source": _by(personal.get("source") or event.get("source")),
        "evidence": dict(evidence),
    }


def _stops(desk: Desk, person: Person) -> list[dict[str, Any]]:
    exact = desk.keyring.subject_hashes(person_text(person.tenant_id, narrow(person.address)))
    rows = [row for rows in suppression.standing(desk.connection, [*person.hashes, *exact]).values() for row in rows]
    return [
        {
            "scope": row.scope,
            "reason": row.reason,
            "at": format_time(row.at),
            "until": format_time(row.expires_at) or None,
            "lifted": sorted(row.lifted),
        }
        for row in sorted(rows, key=lambda row: row.at)
    ]


def _by(source: object) -> str:
    """Where something came from, without the login or key of who typed it."""
    text = str(source or "")
    return text.partition(":")[0] if text.startswith(("operator:", "api:")) else text
