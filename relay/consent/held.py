"""How many consents are held for a purpose, for what a campaign is measured against (THROTTLE-7).

Asked for only where a campaign is larger than any of 90 days, and counted in a thread, no further than is needed to tell: so
it costs a mail nothing that tenants with millions of consents would notice.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from relay.consent.state import GRANTS, STANDING
from relay.consent.subject import state_id
from relay.store.connection import StoreUnavailable, connect_reader

GOOD_SECONDS = 600.0
"""How long a count is believed that says enough."""
SHORT_SECONDS = 30.0
"""The same for one that does not: an import may be under way."""
_COUNT = (
    "SELECT count(*) FROM (SELECT 1 FROM consent_event e JOIN consent_state s ON s.id = state_id(e.key) AND s.key = e.key"
    " WHERE e.tenant_id = ? AND e.purpose = ? AND e.event IN ({grants}) AND s.event = e.seq AND s.status IN ({standing})"
    " AND (s.expires_at = 0 OR s.expires_at > ?) LIMIT ?)"
).format(
    grants=", ".join(f"'{name}'" for name in sorted(GRANTS)),
    standing=", ".join(f"'{name}'" for name in sorted(STANDING)),
)


class HeldConsents:
    """Counts of one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[int, str], tuple[int, int, float]] = {}  # count, how far it went, when (monotonic)
        self._counting: dict[tuple[int, str], asyncio.Lock] = {}

    async def count(self, tenant_id: int, purpose: str, wanted: int, now: float) -> int:
        """How many there are; where they are `wanted` or more, at least that many. Raises sqlite3.Error, OSError."""
        # The sessions of a campaign ask at once: one of them counts, or they would take all threads and everybody's time.
        async with self._counting.setdefault((tenant_id, purpose), asyncio.Lock()):
            held, reach, at = self._known.get((tenant_id, purpose), (0, 0, 0.0))
            age = time.monotonic() - at
            if reach and age < (GOOD_SECONDS if held >= wanted else SHORT_SECONDS) and (held >= wanted or held < reach):
                return held
            reach = 2 * wanted  # so that a campaign that goes on is not counted for each mail of it
            held = await asyncio.to_thread(self._count, tenant_id, purpose, reach, now)
            self._known[tenant_id, purpose] = held, reach, time.monotonic()
            return held

    def _count(self, tenant_id: int, purpose: str, most: int, now: float) -> int:
        try:
            connection = connect_reader(self._path)
        except StoreUnavailable as error:
            raise sqlite3.OperationalError(str(error)) from error
        with closing(connection):
            connection.create_function("state_id", 1, state_id, deterministic=True)
            return int(connection.execute(_COUNT, (tenant_id, purpose, now, most)).fetchone()[0])
