"""What stands now, as rows that can be imported again (contract, `consent export`)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from relay.consent import suppression
from relay.consent.ledger import Past
from relay.consent.record import check
from relay.consent.rows import RECORDS, holds, row_of
from relay.consent.states import load_states
from relay.consent.subject import person_text
from relay.mail.address import wide
from relay.owner.args import Args
from relay.owner.consents import texts_of
from relay.owner.desk import Desk, Result

PAGE_EVENTS = 1_000


def records(desk: Desk, args: Args) -> Result:
    """`tenant`; `after` (sequence), `limit`: the records of one page of events that hold now, in the columns of the import.

    `next` is what to give as `after`, null at the end. Not in it: who left or is restricted, and what the import would
    refuse; `left_out` counts those by field and reason.
    """
    owner = desk.tenant(args.text("tenant"))
    after = args.number("after", 0, most=1 << 60)
    limit = args.number("limit", PAGE_EVENTS, least=1, most=PAGE_EVENTS)
    events = desk.ledger.page(desk.connection, owner.id, after=after, limit=limit)
    states = load_states(desk.connection, {past.key for past in events if past.event in RECORDS})
    wanted = [past for past in events if holds(states[past.key][0] if past.key in states else None, past)]
    texts, rules, barred = texts_of(desk, owner, wanted), desk.rules(owner), _barred(desk, owner.id, wanted)
    rows: list[dict[str, str]] = []
    left_out: Counter[tuple[str, str]] = Counter()
    for past in wanted:
        if past.seq in barred:
            left_out["email", barred[past.seq]] += 1
            continue
        row = row_of(past, texts.get(str(past.clear.get("text_hash", "")), ""))
        found = check(row, rules, now=desk.now)
        if isinstance(found, list):
            left_out[found[0]] += 1
        else:
            rows.append(row)
    desk.note(after=after, rows=len(rows))
    shown: list[dict[str, Any]] = [
        {"field": field, "reason": reason, "records": count} for (field, reason), count in sorted(left_out.items())
    ]
    return {
        "tenant": owner.name,
        "rows": rows,
        "left_out": shown,
        "next": events[-1].seq if len(events) == limit else None,
    }


def _barred(desk: Desk, tenant_id: int, events: list[Past]) -> dict[int, str]:
    """Sequences of records whose person has objected or is restricted, with which of the two (GDPR-9)."""
    people = {
        past.seq: desk.keyring.subject_hashes(person_text(tenant_id, wide(past.personal["email"])))
        for past in events
        if past.personal is not None
    }
    found = suppression.standing(desk.connection, {key for keys in people.values() for key in keys})
    barred = {}
    for past in events:
        entries = [entry for key in people.get(past.seq, ()) for entry in found.get(key, ())]
        reason = next((entry.reason for entry in entries if entry.bars(past.purpose)), "")
        if reason:
            barred[past.seq] = "has objected" if reason in suppression.OBJECTIONS else "is restricted"
    return barred
