"""Present states as stored: the table that the hot lookup reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from relay.consent.state import Present
from relay.policy.facts import ConsentState
from relay.store.schema import consent_state
from relay.store.upsert import upsert


def load_states(connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, tuple[Present, bytes]]:
    """Present states and their proofs under these keys."""
    table = consent_state.c
    query = sa.select(
        table.key, table.status, table.basis, table.given_at, table.confirmed_at, table.expires_at, table.controller,
        table.category, table.sale_kind, table.sale_at, table.provenance, table.jurisdiction, table.sensitive,
        table.event, table.ended_at, table.proof,
    )  # fmt: skip
    rows = connection.execute(query.where(table.key.in_(list(keys))))
    return {row[0]: (Present(ConsentState(*row[1:14]), row[14]), row[15]) for row in rows}


def save_states(connection: sa.Connection, tenant_id: int, states: Mapping[bytes, tuple[Present, bytes]]) -> None:
    """Write states under their keys, new or not."""
    # In the order of the keys, so that rows of one page are written together.
    upsert(
        connection,
        consent_state,
        [
            {
                "key": key,
                "tenant_id": tenant_id,
                **present.state._asdict(),
                "ended_at": present.ended_at,
                "proof": proof,
            }
            for key, (present, proof) in sorted(states.items())
        ],
    )
