"""Present states as stored: the table that the hot lookup reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa

from relay.consent.state import Present
from relay.consent.subject import state_id
from relay.policy.ageing import month_of
from relay.policy.facts import ConsentState
from relay.store.schema import consent_state
from relay.store.upsert import upsert

FIELDS = (
    "status", "basis", "given_at", "confirmed_at", "expires_at", "controller", "category", "sale_kind", "sale_at",
    "provenance", "jurisdiction", "sensitive", "event",
)  # fmt: skip
"""The fields of `ConsentState` that a record makes, in its order."""
READ = (*FIELDS, "used_at")
"""All that are stored: when a consent was used no record tells."""


def is_state(keys: Collection[bytes]) -> sa.ColumnElement[bool]:
    """The rows of `consent_state` under these keys."""
    table = consent_state.c
    return sa.and_(table.id.in_([state_id(key) for key in keys]), table.key.in_(keys))


def load_states(connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, tuple[Present, bytes]]:
    """Present states and their proofs under these keys."""
    table = consent_state.c
    query = sa.select(table.key, *(table[name] for name in READ), table.ended_at, table.proof)
    rows = connection.execute(query.where(is_state(list(keys))))
    return {row[0]: (Present(ConsentState(*row[1:-2]), row[-2]), row[-1]) for row in rows}


def save_states(
    connection: sa.Connection, tenant_id: int, states: Mapping[bytes, tuple[Present, bytes]], *, now: float
) -> None:
    """Write states under their keys, new or not. One that is new counts as used in the month of `now` (CONSENT-13)."""
    rows = []
    month = month_of(now)
    # In the order of the table, so that rows of one page are written together.
    for key, (present, proof) in sorted(states.items(), key=lambda entry: state_id(entry[0])):
        row: dict[str, object] = dict(zip(FIELDS, present.state, strict=False))
        row.update(
            id=state_id(key), key=key, tenant_id=tenant_id, ended_at=present.ended_at, proof=proof, used_at=month
        )
        rows.append(row)
    upsert(connection, consent_state, rows, once=("used_at",))
