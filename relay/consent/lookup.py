"""The hot reads of a mail: consent, suppression and pending requests, one point select per key.

Hand-written SQL over sqlite3, because these run for every recipient; everything else goes through SQLAlchemy.
A lookup tries every live hash key of the keyring, normally one (UNSUB-20). One that fails closes the connection, so that
the next one begins anew: the file may have been put back meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

from relay.consent.state import STANDING
from relay.consent.states import READ
from relay.consent.subject import consent_text, person_text, state_id
from relay.keyring import Keyring, KeyringError
from relay.mail.address import narrow, wide
from relay.policy.facts import ConsentState, PendingRequest, SuppressionEntry
from relay.store.connection import StoreUnavailable, connect_reader, sqlite_path
from relay.store.generation import STORE, Generation

_CONSENT = f"SELECT {', '.join(READ)} FROM consent_state WHERE id = ? AND key = ?"
_SUPPRESSION = "SELECT scope, reason, at, expires_at, lifted FROM suppression WHERE key = ?"
_PADDING = ", NULL" * (len(READ) - 5)
_BOTH = f"SELECT 0, {', '.join(READ)} FROM consent_state WHERE id = ? AND key = ? UNION ALL " + _SUPPRESSION.replace(
    "SELECT ", "SELECT 1, "
).replace(" FROM", f"{_PADDING} FROM")
_REQUEST = "SELECT requested_at, mails_sent FROM confirm_request WHERE key = ?"

_SUBJECT = "SELECT 1 FROM subject WHERE hash = ?"
# A write of somebody else is seen at the latest after this long; to look each time would cost a third of a lookup.
LOOK_SECONDS = 0.02
_ANY = "SELECT 1 FROM consent_state LIMIT 1"

_BOUNCE = "bounce"
MOST_OTHER_LOOKS = 200  # selects of one call, about 1 ms: a better reason is not worth a delay of other sessions


class Lookup:
    """Reads of one process through one read-only connection; one thread at a time.

    Every method raises sqlite3.Error where the database cannot be read: the caller makes it `Unavailable`.
    """

    def __init__(
        self,
        database: str | Path,
        keyring: Keyring,
        *,
        now: Callable[[], float] = time.time,
        generation: Generation | None = None,
    ) -> None:
        """`now` tells which bounces have expired (REP-3); `generation` tells a process that goes on reading whether it may.

        Raises StoreUnavailable where there is no database and nobody to tell when there is one.
        """
        self._path = sqlite_path(database)
        self._connection: sqlite3.Connection | None = None
        self._execute: Any = None
        self._keyring = keyring
        self._now = now
        self._generation = generation
        self._seen = -1  # what slot STORE was when the database was opened
        self._look_at = 0.0  # when the file is looked at next, monotonic
        self.failure = ""  # why the last read failed, for /readyz; "" where it did not
        if generation is None:
            self._open(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The database that is read."""
        return self._path

    def close(self) -> None:
        self._execute = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look(self) -> None:
        """Read something. Raises sqlite3.Error where nothing can be read."""
        self._open_view(())
        try:
            self._execute(_ANY).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            raise

    def ready(self) -> None:
        """Before `select`: as every other read here, it fails where what the file says may be worth nothing."""
        self._open_view(())

    def select(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows of a statement of the caller's, which reads."""
        try:
            rows: list[tuple[Any, ...]] = self._execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            raise
        return rows

    def consents(
        self, tenant_id: int, purpose: str, addresses: Collection[str], *, others: Iterable[str] = ()
    ) -> dict[str, ConsentState | None]:
        """Present consent of each address as given, for one purpose; compared narrowly (CONSENT-16).

        Where there is none, a consent that stands for one of `others` tells its `purpose` instead (CONSENT-4); after
        MOST_OTHER_LOOKS selects for that the rest is None.
        """
        result: dict[str, ConsentState | None] = {}
        start = consent_text(tenant_id, purpose, "")
        is_open = self._open_view(addresses)
        try:
            for address in addresses:
                rows = self._consent_rows(start + narrow(address))
                result[address] = ConsentState(*rows[0]) if rows else None
                if not rows:
                    self._require_unchanged()  # a refusal for good is not taken from a damaged page
            if others and None in result.values():
                self._tell_others(tenant_id, [other for other in others if other != purpose], result)
            if is_open:
                self._execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)
            raise
        return result

    def _tell_others(self, tenant_id: int, others: list[str], result: dict[str, ConsentState | None]) -> None:
        starts = [(other, consent_text(tenant_id, other, "")) for other in others]
        missing = [address for address, state in result.items() if state is None]
        pairs = ((address, *start) for address in missing for start in starts)
        for address, other, start in islice(pairs, MOST_OTHER_LOOKS):
            rows = self._consent_rows(start + narrow(address)) if result[address] is None else []
            state = ConsentState(*rows[0])._replace(purpose=other) if rows else None
            if state and state.status in STANDING and not 0 < state.expires_at <= self._now():
                result[address] = state

    def of_one(
        self, tenant_id: int, purpose: str, address: str, *, others: Iterable[str] = ()
    ) -> tuple[dict[str, ConsentState | None], dict[str, tuple[SuppressionEntry, ...]]]:
        """What `consents` and `suppressions` answer for one address, in one select where that is all it takes."""
        exact = narrow(address)
        if "+" not in exact and not self._keyring.has_older_hash_keys:
            key, person = (
                self._keyring.subject_hash(text)
                for text in (consent_text(tenant_id, purpose, exact), person_text(tenant_id, exact))
            )
            self._open_view(())
            try:
                rows = self._execute(_BOTH, (state_id(key), key, person)).fetchall()
            except sqlite3.Error as error:
                self._give_up(error)
                raise
            if rows and not rows[0][0]:
                against = [row[1:6] for row in rows[1:]]
                standing = self._standing(against, purpose) if against else ()
                return {address: ConsentState(*rows[0][1:])}, {address: standing}
        one = (address,)
        return (
            self.consents(tenant_id, purpose, one, others=others),
            self.suppressions(tenant_id, one, purpose=purpose),
        )

    def suppressions(
        self, tenant_id: int, addresses: Collection[str], *, purpose: str = ""
    ) -> dict[str, tuple[SuppressionEntry, ...]]:
        """What stands against each address: objection, complaint and restriction widely, bounces narrowly (CONSENT-16).

        With `purpose`, an entry for all purposes that the person lifted for this one by confirming is left out
        (CONSENT-11); without it such an entry stays, which is the safe side. One of a purpose that was lifted never stands.
        """
        result: dict[str, tuple[SuppressionEntry, ...]] = {}
        start = person_text(tenant_id, "")
        is_open = self._open_view(addresses)
        try:
            for address in addresses:
                exact = narrow(address)
                person = wide(exact) if "+" in exact else exact
                rows = self._rows(_SUPPRESSION, start + person)
                if person != exact:
                    rows = [row for row in rows if row[1] != _BOUNCE]
                    rows += [row for row in self._rows(_SUPPRESSION, start + exact) if row[1] == _BOUNCE]
                result[address] = self._standing(rows, purpose) if rows else ()
            if is_open:
                self._execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)
            raise
        return result

    def requests(self, tenant_id: int, purpose: str, addresses: Collection[str]) -> dict[str, PendingRequest | None]:
        """The pending double opt-in of each address for one purpose (CLASS-7)."""
        result: dict[str, PendingRequest | None] = {}
        start = consent_text(tenant_id, purpose, "")
        is_open = self._open_view(addresses)
        try:
            for address in addresses:
                rows = self._rows(_REQUEST, start + narrow(address))
                result[address] = PendingRequest(*rows[0]) if rows else None
            if is_open:
                self._execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)
            raise
        return result

    def request_name(self, tenant_id: int, purpose: str, address: str) -> str:
        """A keyed name of what `requests` answers for one address, for counters: it tells nobody the address."""
        return self._keyring.subject_hash(consent_text(tenant_id, purpose, narrow(address))).hex()

    def marks_key(self, account: str) -> bytes:
        """The key of the marks that say whom an account has written to: another one for each account."""
        return self._keyring.lasting_hash(f"marks\0{account}")

    def person_key(self, tenant_id: int, address: str) -> bytes:
        """The hash under which the ledger knows the person behind an address: of an older key where it began under that.

        A link carries it, so that who leaves by it ends every consent that was recorded before a rotation.
        """
        hashes = self._keyring.subject_hashes(person_text(tenant_id, wide(address)))
        if len(hashes) > 1:
            self._open_view(())
            try:
                return next((key for key in hashes if self._execute(_SUBJECT, (key,)).fetchone()), hashes[0])
            except sqlite3.Error as error:
                self._give_up(error)
                raise
        return hashes[0]

    def _open_view(self, addresses: Collection[str]) -> bool:
        """One view of the database for several selects: a third of the cost of each is the start of its transaction."""
        if time.monotonic() >= self._look_at:
            self._be_sure()
        if len(addresses) < 2:
            return False
        try:
            self._execute("BEGIN")
        except sqlite3.Error as error:
            self._give_up(error)
            raise
        return True

    def _be_sure(self) -> None:
        """Open what must be opened. Raises sqlite3.OperationalError where nothing can be read, or should be."""
        state = self._generation.read(STORE) if self._generation is not None else 0
        try:
            if self._generation is not None and not self._generation.is_readable:
                raise StoreUnavailable("its owner has set the database aside")
            if state != self._seen or self._execute is None:
                self._open(state)
            self._require_unchanged()
        except (StoreUnavailable, KeyringError, sqlite3.Error) as error:
            self._give_up(error)
            raise sqlite3.OperationalError(str(error)) from error
        self.failure = ""
        self._look_at = time.monotonic() + LOOK_SECONDS

    def _open(self, state: int) -> None:
        """Connect anew, with the keys of now: what is written under a rotated key must be found."""
        self.close()
        if self._seen >= 0:
            self._keyring.reload(now=self._now())
        self._connection = connect_reader(self._path)
        self._execute = self._connection.cursor().execute
        self._seen = state

    def _require_unchanged(self) -> None:
        """Raises sqlite3.OperationalError where somebody else has changed the file: what it says then is worth nothing."""
        if self._generation is not None and not self._generation.is_as_left(self._path):
            raise sqlite3.OperationalError("somebody else has changed the database")

    def _give_up(self, error: Exception) -> None:
        self.failure = type(error).__name__
        self._look_at = 0.0
        with contextlib.suppress(sqlite3.Error):
            self.close()

    def _rows(self, statement: str, text: str) -> list[tuple[Any, ...]]:
        """Rows under the keys of `text`; read to the end, so that no transaction stays open behind them."""
        rows: list[tuple[Any, ...]] = self._execute(statement, (self._keyring.subject_hash(text),)).fetchall()
        if self._keyring.has_older_hash_keys:
            for key in self._keyring.subject_hashes(text)[1:]:
                rows += self._execute(statement, (key,)).fetchall()
        return rows

    def _consent_rows(self, text: str) -> list[tuple[Any, ...]]:
        """What `_rows` is for one that has a key, of the table of consents."""
        rows: list[tuple[Any, ...]] = []
        for key in self._keyring.subject_hashes(text):
            rows += self._execute(_CONSENT, (state_id(key), key)).fetchall()
        return rows

    def _standing(self, rows: list[tuple[Any, ...]], purpose: str) -> tuple[SuppressionEntry, ...]:
        now = self._now()
        return tuple(
            SuppressionEntry(scope, reason, at)
            for scope, reason, at, expires_at, lifted in rows
            if (not expires_at or expires_at > now) and not (lifted and not {scope, purpose}.isdisjoint(lifted.split()))
        )
