"""The hot reads of a mail: consent, suppression and pending requests, one point select per key.

Hand-written SQL over sqlite3, because these run for every recipient; everything else goes through SQLAlchemy.
A lookup tries every live hash key of the keyring, normally one (UNSUB-20).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from relay.consent.states import FIELDS
from relay.consent.subject import consent_text, person_text
from relay.keyring import Keyring
from relay.mail.address import narrow
from relay.policy.facts import ConsentState, PendingRequest, SuppressionEntry
from relay.store.connection import connect_reader, sqlite_path

_CONSENT = f"SELECT {', '.join(FIELDS)} FROM consent_state WHERE key = ?"
_SUPPRESSION = "SELECT scope, reason, at, expires_at, lifted FROM suppression WHERE key = ?"
_REQUEST = "SELECT requested_at, mails_sent FROM confirm_request WHERE key = ?"

_BOUNCE = "bounce"


class Lookup:
    """Reads of one process through one read-only connection; one thread at a time.

    Every method raises sqlite3.Error where the database cannot be read: the caller makes it `Unavailable`.
    """

    def __init__(self, database: str | Path, keyring: Keyring, *, now: Callable[[], float] = time.time) -> None:
        """`now` tells which bounces have expired (REP-3). Raises StoreUnavailable where there is no database."""
        self._connection: sqlite3.Connection = connect_reader(sqlite_path(database))
        self._execute = self._connection.cursor().execute
        self._keyring = keyring
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def consents(self, tenant_id: int, purpose: str, addresses: Iterable[str]) -> dict[str, ConsentState | None]:
        """Present consent of each address as given, for one purpose; compared narrowly (CONSENT-16)."""
        result: dict[str, ConsentState | None] = {}
        for address in addresses:
            row = self._first(_CONSENT, consent_text(tenant_id, purpose, narrow(address)))
            result[address] = None if row is None else ConsentState(*row)
        return result

    def suppressions(
        self, tenant_id: int, addresses: Iterable[str], *, purpose: str = ""
    ) -> dict[str, tuple[SuppressionEntry, ...]]:
        """What stands against each address: objection, complaint and restriction widely, bounces narrowly (CONSENT-16).

        With `purpose`, an entry for all purposes that the person lifted for this one by confirming is left out
        (CONSENT-11); without it such an entry stays, which is the safe side.
        """
        now = self._now()
        result: dict[str, tuple[SuppressionEntry, ...]] = {}
        for address in addresses:
            exact = narrow(address)
            local, _, domain = exact.rpartition("@")
            plus = local.find("+")
            person = exact if plus <= 0 else f"{local[:plus]}@{domain}"
            rows = self._all(_SUPPRESSION, person_text(tenant_id, person))
            if person != exact:
                rows = [row for row in rows if row[1] != _BOUNCE]
                rows += [row for row in self._all(_SUPPRESSION, person_text(tenant_id, exact)) if row[1] == _BOUNCE]
            result[address] = (
                tuple(
                    SuppressionEntry(scope, reason, at)
                    for scope, reason, at, expires_at, lifted in rows
                    if (not expires_at or expires_at > now) and not (purpose and lifted and purpose in lifted.split())
                )
                if rows
                else ()
            )
        return result

    def requests(self, tenant_id: int, purpose: str, addresses: Iterable[str]) -> dict[str, PendingRequest | None]:
        """The pending double opt-in of each address for one purpose (CLASS-7)."""
        result: dict[str, PendingRequest | None] = {}
        for address in addresses:
            row = self._first(_REQUEST, consent_text(tenant_id, purpose, narrow(address)))
            result[address] = None if row is None else PendingRequest(*row)
        return result

    # `_execute` hands back its own cursor: read to the end, it leaves no open read transaction behind.
    def _first(self, statement: str, text: str) -> tuple[Any, ...] | None:
        for key in self._keyring.subject_hashes(text):
            rows = self._execute(statement, (key,)).fetchall()
            if rows:
                row: tuple[Any, ...] = rows[0]
                return row
        return None

    def _all(self, statement: str, text: str) -> list[tuple[str, str, float, float, str]]:
        keys = self._keyring.subject_hashes(text)
        if len(keys) == 1:
            return self._execute(statement, keys).fetchall()
        return [row for key in keys for row in self._execute(statement, (key,)).fetchall()]
