"""Lists in pages, for the tenants' API: each goes on after the last row that was seen, whatever came in meanwhile."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.states import load_states
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.owner.objections import shown_all
from relay.store.schema import suppression as table

MOST_ROWS = 200


def consents(desk: Desk, args: Args) -> Result:
    """`tenant`, `purpose`; `after` (sequence of an event), `limit`: present consents, in the order of the events they rest on.

    Whoever changes while the list is read comes again, behind; nobody is left out. A page may hold fewer than `limit`, for events
    that others followed are passed over; `next` is null at the end. `email` is null where the person was erased.
    """
    owner = desk.tenant(args.text("tenant"))
    name = args.text("purpose")
    desk.purpose(owner, name)
    after = args.number("after", 0, most=1 << 60)
    limit = args.number("limit", MOST_ROWS, least=1, most=MOST_ROWS)
    events = desk.ledger.page(desk.connection, owner.id, after=after, limit=limit, purpose=name)
    keys = {past.seq: [past.key] for past in events}
    if desk.keyring.has_older_hash_keys:  # the state of a person may stand under an older key than his last event
        for past in events:
            if past.personal is not None and past.personal.get("email"):
                keys[past.seq] += desk.consent_keys(owner.id, name, past.personal["email"])
    states = load_states(desk.connection, {key for some in keys.values() for key in some})
    rows = []
    for past in events:
        found = next((states[key][0].state for key in keys[past.seq] if key in states), None)
        if found is not None and found.event == past.seq:
            email = past.personal.get("email") if past.personal is not None else None
            rows.append({"email": email, **found._asdict()})
    return {"items": rows, "next": events[-1].seq if len(events) == limit else None}


def suppressions(desk: Desk, args: Args) -> Result:
    """`tenant`; `after` (the `next` of the page before), `limit`: what stands now, oldest first.

    Whatever is set anew while the list is read comes again, behind. `next` is null at the end.
    """
    owner = desk.tenant(args.text("tenant"))
    limit = args.number("limit", MOST_ROWS, least=1, most=MOST_ROWS)
    order = (table.c.at, table.c.key, table.c.scope, table.c.reason)
    stands = sa.and_(suppression.stands(), sa.or_(table.c.expires_at == 0, table.c.expires_at > desk.now))
    query = sa.select(table).where(table.c.tenant_id == owner.id, stands).order_by(*order).limit(limit)
    after = args.table("after")
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(*_place(after)))
    rows = desk.connection.execute(query).all()
    last = rows[-1] if len(rows) == limit else None
    place = {"at": last.at, "key": last.key.hex(), "scope": last.scope, "reason": last.reason} if last else None
    return {"items": shown_all(desk, rows), "next": place}


def _place(after: dict[str, object]) -> tuple[Any, ...]:
    at, key = after.get("at"), after.get("key")
    if not isinstance(at, int | float) or not isinstance(key, str):
        raise OwnerError("args.type", "after must be what the page before gave as next")
    return float(at), bytes.fromhex(key), str(after.get("scope")), str(after.get("reason"))
