"""What a mail that was delivered rested on: the record that held when it was judged (CONSENT-15).

The ledger only grows, so it can be asked late: events that were recorded after the delivery are left out. An attempt
takes a while, and who left during it is told so by the ledger, but the mail rested on the yes before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import orjson

from relay.consent.ground import ground, ground_of
from relay.consent.lookup import Lookup
from relay.consent.state import STANDING, Event, Present, fold
from relay.consent.subject import consent_text, state_id
from relay.keyring import Keyring
from relay.mail.address import narrow
from relay.policy.facts import ConsentState
from relay.store.generation import Generation

MOST_AT_ONCE = 64
ATTEMPT_SECONDS = 600.0  # no attempt takes longer from its last look at the consent to its end

_LAST = "SELECT seq FROM consent_event WHERE tenant_id = ? AND recorded_at <= ? ORDER BY seq DESC LIMIT 1"
_EVENTS = """
SELECT seq, event, at, clear, recorded_at FROM consent_event
WHERE tenant_id = ?1 AND subject_id = (SELECT subject_id FROM consent_event WHERE tenant_id = ?1 AND seq = ?2)
  AND (key = ?3 OR (key = x'' AND purpose IN ('', ?5))) AND recorded_at <= ?4 AND expired_at = 0 ORDER BY seq
"""


class Mailed(NamedTuple):
    """One mail to one person."""

    tenant: int
    purpose: str
    address: str
    at: float


class Rest(NamedTuple):
    """What it rested on. `key` is that of the consent; `event` 0 and `rule` "" where nothing stood behind it."""

    key: bytes
    event: int
    rule: str
    used_at: float  # as the record says so far


class Rested:
    """Reads of one thread. Every method raises sqlite3.Error where the database cannot be read."""

    def __init__(
        self, database: Any, keyring: Keyring, *, generation: Generation | None, now: Callable[[], float] = time.time
    ) -> None:
        """`keyring` is for this thread alone: the lookup renews it."""
        self._keyring = keyring
        self._lookup = Lookup(database, keyring, generation=generation, now=now)

    def close(self) -> None:
        self._lookup.close()

    def of(self, mailed: Sequence[Mailed]) -> list[Rest]:
        """For each mail what it rested on."""
        self._lookup.ready()
        known = {tenant: self._known(tenant, mailed) for tenant in {mail.tenant for mail in mailed}}
        rests: list[Rest] = []
        for start in range(0, len(mailed), MOST_AT_ONCE):
            rests += self._of(mailed[start : start + MOST_AT_ONCE], known)
        return rests

    def _known(self, tenant: int, mailed: Sequence[Mailed]) -> int:
        """The last event of the ledger that was on record before any of these mails went."""
        first = min(mail.at for mail in mailed if mail.tenant == tenant)
        rows = self._lookup.select(_LAST, (tenant, first))
        return int(rows[0][0]) if rows else 0

    def _of(self, mailed: Sequence[Mailed], known: Mapping[int, int]) -> Iterator[Rest]:
        hashes = self._keyring.subject_hashes
        keys = [hashes(consent_text(mail.tenant, mail.purpose, narrow(mail.address))) for mail in mailed]
        wanted = list(chain.from_iterable(keys))
        rows = {row[0]: row for row in self._lookup.select(_states(len(wanted)), [state_id(key) for key in wanted])}
        for mail, some in zip(mailed, keys, strict=True):
            row = rows.get(some[0]) or next((rows[key] for key in some if key in rows), None)
            if row is None:
                yield Rest(some[0], 0, "", 0.0)
                continue
            key, status, event, used_at, *fields = row
            if status in STANDING and event <= known[mail.tenant]:
                yield Rest(key, event, ground_of(*fields), used_at)
            else:
                then = self._then(mail, key, event)
                yield Rest(key, then.event if then else 0, ground(then), used_at)

    def _then(self, mail: Mailed, key: bytes, event: int) -> ConsentState | None:
        """The state that stood when the mail went, by the events that were on record."""
        present: Present | None = None
        standing, ended_at = None, 0.0
        values = (mail.tenant, event, key, mail.at, mail.purpose)
        for seq, word, at, clear, recorded_at in self._lookup.select(_EVENTS, values):
            present = fold(present, Event(seq, word, at, orjson.loads(clear)))
            if present is not None and present.state.status in STANDING:
                standing, ended_at = present.state, 0.0
            elif not ended_at:
                ended_at = recorded_at
        return standing if not ended_at or ended_at > mail.at - ATTEMPT_SECONDS else None


@lru_cache(maxsize=4 * MOST_AT_ONCE)
def _states(number: int) -> str:
    marks = ",".join("?" * number)
    names = "key, status, event, used_at, basis, provenance, sale_kind, confirmed_at"
    return f"SELECT {names} FROM consent_state WHERE id IN ({marks})"
