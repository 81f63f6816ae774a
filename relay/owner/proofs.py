"""The proof for one address, as a regulator asks: what stood at a date, by which rule it counted, and every event behind it.

What was on record then is judged by the instructions that the tenant had then, and by the policies of this program and its config
as they are now: older ones are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.ground import ground
from relay.consent.ledger import Past
from relay.consent.record import format_time
from relay.consent.state import STANDING, Event, replay
from relay.consent.states import load_states
from relay.consent.stood import lifted_by, on_record, stood
from relay.consent.subject import person_text
from relay.consent.suppression import ALL, Standing
from relay.consent.verify import untold
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
from relay.owner.bygone import tenant_at
from relay.owner.consents import shown_events, shown_head, shown_state
from relay.owner.desk import Desk, Result, TenantRow, legal_name
from relay.owner.error import OwnerError
from relay.owner.uses import shown_uses, uses_of
from relay.policy.ageing import month_of
from relay.policy.facts import ConsentState, Fact, Facts, SuppressionEntry
from relay.policy.pipeline import Pipeline
from relay.policy.verdict import Action
from relay.store.schema import purpose
from relay.store.uses import Use

_JUDGES = ("suppression", "consent")


class _About(NamedTuple):
    """The events that bear on one purpose, and the month in which it was last used as far as was known then."""

    events: Sequence[Past]
    used_at: float


def proof(desk: Desk, args: Args) -> Result:
    """`tenant`, `address`; optional `purpose` and `at`: every event with its text, hashes and place in the chain, the states
    and suppressions as they stood then, and for each purpose whether a mailing counted, by which rule.
    """
    owner = desk.tenant(args.text("tenant"), gone=True)
    address = args.address("address")
    chosen = args.text("purpose", "")
    at = min(args.time("at", desk.now), desk.now)  # of a day to come nothing is proven: it may be withdrawn by then
    person = desk.person(owner.id, address)
    desk.note(at=format_time(at))
    history = list(desk.ledger.history(desk.connection, owner.id, person.hashes))
    events = [past for past in history if past.at <= at]
    there = on_record(history, at)
    lost = untold(desk.connection, owner.id, [past.seq for past in events if past.expired_at])
    if lost:
        text = f"event {lost[0]} lost its content and the chain does not say so: `zegel consent verify {owner.name}`"
        raise OwnerError("ledger.broken", text)
    names = sorted({past.purpose for past in there if past.purpose and chosen in ("", past.purpose)})
    keys = _keys(desk, owner, chosen, names, address=address)
    uses = uses_of(desk, keys, at)
    about = {name: _about(desk, there, name, keys, uses=uses, at=at) for name in names}
    stops = [*stood(there), *_bounces(desk, owner.id, address, at)]
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
        "states": [shown_state(name, _state(*known, at)) for name, known in about.items()],
        "suppressions": [_shown_stop(entry) for entry in stops if entry.scope in (ALL, chosen) or not chosen],
        "judgements": _judgements(desk, owner, address=address, at=at, about=about, stops=stops),
        "mails": shown_uses(uses, _bases(events)),
        "events": shown_events(desk, owner, kept),
        "head": shown_head(desk, owner.id),
    }


def _keys(desk: Desk, owner: TenantRow, chosen: str, names: Sequence[str], *, address: str) -> dict[bytes, str]:
    """The keys of the chosen purpose, or of all: mail may have gone where nothing is on record."""
    there = desk.connection.scalars(sa.select(purpose.c.name).where(purpose.c.tenant_id == owner.id))
    wanted = {chosen} if chosen else {*names, *there}
    return {key: name for name in sorted(wanted) for key in desk.consent_keys(owner.id, name, address)}


def _about(
    desk: Desk,
    events: Sequence[Past],
    name: str,
    keys: Mapping[bytes, str],
    *,
    uses: Sequence[tuple[str, Use]],
    at: float,
) -> _About:
    """What bears on one purpose. An objection is about the person, so it counts for each that it covers."""
    own = {key for key, whose in keys.items() if whose == name}
    known = [past for past in events if past.key in own or (not past.key and _covers(past, name))]
    marks = [past.recorded_at for past in known if past.key and past.recorded_at <= at][:1]
    marks += [use.at for whose, use in uses if whose == name and use.event][-1:]
    marks += [row[0].state.used_at for row in load_states(desk.connection, own).values()]
    return _About(known, max((month_of(mark) for mark in marks if mark <= at), default=0.0))


def _covers(past: Past, name: str) -> bool:
    return past.purpose in ("", name) and name not in lifted_by(past)


def _state(events: Sequence[Past], used_at: float, at: float) -> ConsentState | None:
    state = replay((Event(past.seq, past.event, past.at, past.clear) for past in events), at)
    return state and state._replace(used_at=used_at)


def _bases(events: Sequence[Past]) -> dict[int, str]:
    return {past.seq: str(past.clear["basis"]) for past in events if "basis" in past.clear}


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
    about: Mapping[str, _About],
    stops: Sequence[Standing],
) -> list[dict[str, Any]]:
    """For each purpose what the gateway says to advertising on what it had been told by then.

    What somebody did before `at` and was recorded after it did not count yet.
    """
    sender, pipeline = tenant_at(desk, owner, at), Pipeline(desk.catalogue())
    judged = []
    for name, (events, used_at) in about.items():
        state = _state([past for past in events if past.recorded_at <= at], used_at, at)
        mail = _advertising(sender, name, address, at)
        standing = tuple(
            SuppressionEntry(entry.scope, entry.reason, entry.at) for entry in stops if name not in entry.lifted
        )
        facts = Facts(
            {Fact.CONSENTS: {address: state}, Fact.SUPPRESSIONS: {address: standing}, Fact.REQUESTS: {address: None}}
        )
        ruling = pipeline.recheck(mail, facts)
        entries = [entry for entry in ruling.trace if entry.policy in _JUDGES]
        reason = next((entry.reason for entry in entries if entry.action is not Action.ACCEPT), "")
        warning = next((entry.reason for entry in entries if entry.reason and not reason), "")
        counts = not reason and any(entry.policy == "consent" for entry in entries)
        judged.append(
            {
                "purpose": name,
                "counts": counts,
                "mailed": ruling.action is Action.ACCEPT,
                "rule": rule_of(reason) if reason else ground(state),
                "reason": reason or None,
                "warning": warning or None,
                "why": _why(reason or warning),
                "basis": state.basis if state is not None and state.status in STANDING else None,
                "event_id": state.event if state is not None and state.event else None,
                "mode": entries[-1].mode if entries else "off",
            }
        )
    return judged


def _why(reason: str) -> dict[str, str] | None:
    return {language: REASONS[reason].sentence(language) for language in ("nl", "en")} if reason else None


def _advertising(sender: Tenant, name: str, address: str, at: float) -> Submission:
    aim = sender.purposes.get(name) or Purpose(name)
    account = Account(sender, Credential("", "", sender.name, Stream.MARKETING, purpose=name), aim)
    envelope = Envelope("", (Recipient(address),))
    return Submission(account, envelope, SessionInfo(""), at, mail_class=MailClass.COMMERCIAL, purpose=aim)
