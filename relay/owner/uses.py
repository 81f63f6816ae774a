"""When consents were used: told by the workers, read for the proof (CONSENT-13, CONSENT-15)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from relay.consent.record import format_time
from relay.consent.states import is_state
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.policy.ageing import month_of
from relay.spool.item import encode_id
from relay.store.history import short_hash
from relay.store.schema import consent_state
from relay.store.uses import Use, read

MOST_KEYS = 500
KEY_BYTES = 16


def used(desk: Desk, args: Args) -> Result:
    """`keys` (hex, at most 500), `at`: these consents were used in the month of `at`. No reader need load again for it: it only
    makes a consent younger.
    """
    month = month_of(args.time("at", desk.now))
    table = consent_state.c
    keys = [_key(text) for text in args.texts("keys") or ()]
    if len(keys) > MOST_KEYS:
        raise OwnerError("args.too_many", f"keys holds more than {MOST_KEYS}: send them in parts")
    if keys:
        where = sa.and_(is_state(keys), table.used_at < month)
        desk.connection.execute(consent_state.update().where(where).values(used_at=month))
    return {"keys": len(keys)}


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise OwnerError("args.type", "keys must be keyed hashes of 16 octets in hexadecimal digits")
    return key


def uses_of(desk: Desk, keys: Mapping[bytes, str], until: float) -> list[tuple[str, Use]]:
    """Mails that went up to a moment on these consents, each with its purpose, oldest first."""
    names = {short_hash(key): name for key, name in keys.items()}
    try:
        found = read(desk.uses, names, until)
    except sqlite3.Error:
        text = "the use records cannot be read: look at the folder `uses` in the data folder with `zegel doctor`"
        raise OwnerError("uses.unreadable", text) from None
    return [(names[use.hash], use) for use in found]


def shown_uses(uses: Iterable[tuple[str, Use]], basis: Mapping[int, str]) -> list[dict[str, Any]]:
    """As the proof tells them; `basis` by the event, where its record is still there."""
    return [
        {
            "at": format_time(use.at),
            "queue_id": encode_id(use.id),
            "purpose": purpose,
            "event_id": use.event or None,
            "rule": use.rule or None,
            "basis": basis.get(use.event),
        }
        for purpose, use in uses
    ]
