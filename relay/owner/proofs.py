"""The proof for one address, as a regulator asks: what stood at a date, by which rule it counted, and every event behind it.

What was on record then is judged by the policies and settings of now: older ones are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.consent import suppression
from relay.consent.ledger import Past
from relay.consent.record import format_time
from relay.consent.state import STANDING, Event, replay
from relay.consent.stood import stood
from relay.consent.subject import person_text
from relay.consent.suppression import ALL, Standing
from relay.directory import tenant_of
from relay.mail.address import narrow
from relay.mail.envelope import (
    Account,
    Credential,
    Envelope,
    MailClass,
    Purpose,
    Recipient,
    SessionInfo,
    Stream,
    Submission,
    Tenant,
)
from relay.mail.reply import REASONS, rule_of
from relay.owner.args import Args
from relay.owner.consents import shown_events, shown_head, shown_state
from relay.owner.desk import Desk, Result, TenantRow, legal_name
from relay.policy.facts import ConsentState, Fact, Facts, SuppressionEntry
from relay.policy.pipeline import Pipeline
from relay.policy.verdict import Action

_JUDGES = ("suppression", "consent")
_GROUNDS = {
    "consent": "CONSENT-1", "soft_optin": "CONSENT-5", "published_for_marketing": "CONSENT-9", "non_eea_b2b": "CONSENT-9",
}  # fmt: skip


def proof(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`; optional `purpose` and `at`: every event with its text, hashes and place in the chain, the states
    and suppressions as they stood then, and for each purpose whether a mailing counted, by which rule.
    """
    owner = desk.tenant(args.text("tenant"))
    address = args.address("address")
    chosen = args.text("purpose", "")
    at = min(args.time("at", desk.now), desk.now)  # of a day to come nothing is proven: it may be withdrawn by then
    person = desk.person(owner.id, address)
    desk.note(at=format_time(at))
    events = [past for past in desk.ledger.history(desk.connection, owner.id, person.hashes) if past.at <= at]
    about = {
        name: _about(desk, owner.id, events, name, address)
        for name in sorted({past.purpose for past in events if past.purpose})
        if chosen in ("", name)
    }
    stops = [*stood(events), *_bounces(desk, owner.id, address, at)]
    kept = [past for past in events if chosen in ("", past.purpose) or not past.purpose]
    return {
        "tenant": owner.name,
        "tenant_id": owner.id,
        "controller": legal_name(owner),
        "language": owner.language,
        "address": address,
        "subject": person.hashes[0].hex(),
        "at": format_time(at),
        "made_at": format_time(desk.now),
        "made_by": desk.actor,
        "states": [shown_state(name, _state(past, at)) for name, past in about.items()],
        "suppressions": [_shown_stop(entry) for entry in stops if entry.scope in (ALL, chosen) or not chosen],
        "judgements": _judgements(desk, owner, address=address, at=at, about=about, stops=stops),
        "events": shown_events(desk, owner, kept),
        "head": shown_head(desk, owner.id),
    }


def _about(desk: Desk, tenant_id: int, events: Sequence[Past], name: str, address: str) -> list[Past]:
    """The events that bear on one purpose. An objection is about the person, so it counts for each that it covers."""
    keys = set(desk.consent_keys(tenant_id, name, address))
    return [past for past in events if past.key in keys or (not past.key and past.purpose in ("", name))]


def _state(events: Sequence[Past], at: float) -> ConsentState | None:
    return replay((Event(past.seq, past.event, past.at, past.clear) for past in events), at)


def _bounces(desk: Desk, tenant_id: int, address: str, at: float) -> list[Standing]:
    """Bounces that stood then, as far as they are still in the store (REP-3)."""
    keys = desk.keyring.subject_hashes(person_text(tenant_id, narrow(address)))
    found = suppression.standing(desk.connection, keys).values()
    return [entry for rows in found for entry in rows if entry.reason == "bounce" and entry.at <= at < entry.expires_at]


def _shown_stop(entry: Standing) -> dict[str, Any]:
    shown = {"scope": entry.scope, "reason": entry.reason, "at": format_time(entry.at), "lifted": sorted(entry.lifted)}
    return {**shown, "expires_at": format_time(entry.expires_at)} if entry.expires_at else shown


def _judgements(
    desk: Desk,
    owner: TenantRow,
    *,
    address: str,
    at: float,
    about: dict[str, list[Past]],
    stops: Sequence[Standing],
) -> list[dict[str, Any]]:
    """For each purpose what the gateway says to advertising on what it had been told by then.

    What somebody did before `at` and was recorded after it did not count yet.
    """
    sender, pipeline = tenant_of(desk.connection, owner), Pipeline(desk.catalogue())
    judged = []
    for name, events in about.items():
        state = _state([past for past in events if past.recorded_at <= at], at)
        mail = _advertising(sender, name, address, at)
        standing = tuple(
            SuppressionEntry(entry.scope, entry.reason, entry.at) for entry in stops if name not in entry.lifted
        )
        facts = Facts(
            {Fact.CONSENTS: {address: state}, Fact.SUPPRESSIONS: {address: standing}, Fact.REQUESTS: {address: None}}
        )
        ruling = pipeline.recheck(mail, facts)
        entries = [entry for entry in ruling.trace if entry.policy in _JUDGES]
        reason = next((entry.reason for entry in entries if entry.reason), "")
        counts = not reason and any(entry.policy == "consent" for entry in entries)
        judged.append(
            {
                "purpose": name,
                "counts": counts,
                "mailed": ruling.action is Action.ACCEPT,
                "rule": rule_of(reason) if reason else _ground(state),
                "reason": reason or None,
                "why": {language: REASONS[reason].sentence(language) for language in ("nl", "en")} if reason else None,
                "basis": state.basis if state is not None and state.status in STANDING else None,
                "event_id": state.event if state is not None and state.event else None,
                "mode": entries[-1].mode if entries else "off",
            }
        )
    return judged


def _advertising(sender: Tenant, name: str, address: str, at: float) -> Submission:
    purpose = sender.purposes.get(name) or Purpose(name)
    account = Account(sender, Credential("", "", sender.name, Stream.MARKETING, purpose=name), purpose)
    envelope = Envelope("", (Recipient(address),))
    return Submission(account, envelope, SessionInfo(""), at, mail_class=MailClass.COMMERCIAL, purpose=purpose)


def _ground(state: ConsentState | None) -> str:
    """The rule by which a record counts."""
    if state is None:
        return ""
    if state.provenance != "own":
        return "CONSENT-7"
    if state.basis == "soft_optin" and state.sale_kind == "free_tier":
        return "CONSENT-6"
    return "CONSENT-8" if state.basis == "consent" and state.confirmed_at else _GROUNDS.get(state.basis, "")
