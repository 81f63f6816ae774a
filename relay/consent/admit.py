"""Take checked rows into the ledger: import, API and `consent give` are the same road (CONSENT-2, CONSENT-11).

A chunk of rows costs three reads (suppression, present states, subjects) and four batched writes, so that an import
never holds the owner's transaction for long: see CHUNK_ROWS.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson
import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.ledger import Entry, Ledger
from relay.consent.parts import clear_part, evidence_part, sealed_part, text_hash
from relay.consent.record import Record, Rules, check, parse_time
from relay.consent.state import Event, Present, fold
from relay.consent.states import load_states, save_states
from relay.consent.subject import consent_text, person_text
from relay.keyring import Keyring
from relay.mail.address import narrow, wide
from relay.store.schema import consent_text as text_table
from relay.store.upsert import upsert

CHUNK_ROWS = 500  # about 40 ms of the owner's time
SAME_TIME_ROWS = 20  # CONSENT-7: this many third-party rows may share one time of consent
_REMEMBERED_TIMES = 4_096

Row = tuple[int, Mapping[str, object]]
"""Line number (or index) and the values of one row."""


class Stamp(NamedTuple):
    """What is written on the events of a chunk: `event` given or imported, the actor, epoch seconds."""

    event: str
    by: str
    now: float


class Refusal(NamedTuple):
    """A row that did not go in: as the contract prints it, and what to do where that is not plain."""

    line: int
    field: str
    reason: str
    remedy: str = ""
    last_line: int = 0  # where several lines were read as one row: the last of them

    @property
    def line_count(self) -> int:
        """How many lines of the file did not go in for this reason."""
        return max(1, self.last_line - self.line + 1)


class Outcome(NamedTuple):
    """What became of a chunk. `imported` counts rows that hold now, `unchanged` those of them that were there already."""

    imported: int
    unchanged: int
    refused: list[Refusal]


class SameTimes:
    """How many third-party rows came with one time of consent, over the calls of one owner (CONSENT-7)."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[int, float], int] = OrderedDict()

    def too_many(self, tenant_id: int, at: float) -> bool:
        """Count one row; true where it is one too many."""
        key = (tenant_id, at)
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > _REMEMBERED_TIMES:
            self._counts.popitem(last=False)
        return count > SAME_TIME_ROWS


class _Row(NamedTuple):
    line: int
    record: Record
    person: list[bytes]
    keys: list[bytes]
    proofs: list[bytes]  # in both ways to tell it, under every live hash key, current first


_OBJECTED = "only the person's own confirmation lifts an objection: start one with `zegel consent request`"
_SAME_TIME = (
    f"more than {SAME_TIME_ROWS} third-party rows share this time of consent: "
    "that is the date of a file, not an act of each person (CONSENT-7)"
)
_AS_A_FILE = "import the list as one file with `zegel consent import`: then the operator can look at it and let it in"


def is_third_party(row: Mapping[str, object]) -> bool:
    """As `relay.consent.record` will read it."""
    return str(row.get("provenance", "")).strip() == "third_party"


def third_party_times(rows: Iterable[Mapping[str, object]]) -> Counter[float | None]:
    """How many third-party rows there are by their time of consent; None: no time."""
    return Counter(parse_time(str(row.get("given_at", "")).strip()) for row in rows if is_third_party(row))


class Admission:
    """Takes rows in for one owner. Not for two threads."""

    def __init__(self, keyring: Keyring, ledger: Ledger) -> None:
        self._keyring = keyring
        self._ledger = ledger
        self._same_times = SameTimes()

    def admit(
        self,
        connection: sa.Connection,
        tenant_id: int,
        rules: Rules,
        *,
        rows: Sequence[Row],
        stamp: Stamp,
    ) -> Outcome:
        """Check `rows` (at most CHUNK_ROWS) and record the good ones."""
        refused: list[Refusal] = []
        good = self._checked(tenant_id, rules, rows, refused=refused, now=stamp.now)
        said = suppression.said(connection, {key for row in good for key in row.person})
        good = [row for row in good if not _is_barred(row, said, refused)]
        if not good:
            return Outcome(0, 0, refused)
        stored = load_states(connection, {key for row in good for key in row.keys})
        plan = _plan(good, stored, said, stamp.event)
        if plan.entries:
            self._write(connection, tenant_id, plan, stamp=stamp)
        return Outcome(len(good), plan.unchanged, refused)

    def _checked(
        self, tenant_id: int, rules: Rules, rows: Sequence[Row], *, refused: list[Refusal], now: float
    ) -> list[_Row]:
        good: list[_Row] = []
        hashes = self._keyring.subject_hashes
        for line, values in rows:
            record = check(values, rules, now=now)
            if isinstance(record, list):
                refused.extend(Refusal(line, problem.field, problem.reason) for problem in record)
                continue
            third_party = record.values.get("provenance") == "third_party"
            if third_party and not rules.shared_times and self._same_times.too_many(tenant_id, record.given_at):
                refused.append(Refusal(line, "given_at", _SAME_TIME, _AS_A_FILE))
                continue
            exact = narrow(record.email)
            good.append(
                _Row(
                    line,
                    record,
                    hashes(person_text(tenant_id, wide(exact))),
                    hashes(consent_text(tenant_id, record.purpose, exact)),
                    [digest[:8] for text in _proof_texts(record) for digest in hashes("p\0" + text)],
                )
            )
        return good

    def _write(self, connection: sa.Connection, tenant_id: int, plan: _Plan, *, stamp: Stamp) -> None:
        places = self._ledger.append(connection, tenant_id, plan.entries, recorded_by=stamp.by, now=stamp.now)
        states = {}
        for key, (present, proof, entry) in plan.changes.items():
            states[key] = (present._replace(state=present.state._replace(event=places[entry].seq)), proof)
        save_states(connection, tenant_id, states, now=stamp.now)
        texts = [
            {"tenant_id": tenant_id, "hash": name, "language": language, "text": text, "first_seen_at": stamp.now}
            for name, (language, text) in plan.texts.items()
        ]
        upsert(connection, text_table, texts, keep=True)


def _proof_texts(record: Record) -> tuple[str, str]:
    """What makes two rows the same record: however the file wrote its times and its yes, and who the controller is.

    The second is how it was told before, so that a file of then is known again.
    """
    values = dict(record.values)
    as_written = orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
    for name in ("given_at", "confirmed_at", "expires_at", "sale_at"):
        if name in values:
            values[name] = str(parse_time(values[name]))
    values["controller"] = record.controller
    values["sensitive_audience"] = "yes" if record.sensitive else "no"
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode(), as_written


class _Change(NamedTuple):
    """A state to write, with the index of the entry that it rests on."""

    present: Present
    proof: bytes
    entry: int


class _Plan(NamedTuple):
    entries: list[Entry]
    changes: dict[bytes, _Change]
    texts: dict[bytes, tuple[str, str]]
    unchanged: int


def _is_barred(row: _Row, barred: Mapping[bytes, Sequence[suppression.Standing]], refused: list[Refusal]) -> bool:
    for key in row.person:
        for entry in barred.get(key, ()):
            if entry.bars(row.record.purpose):
                word = "objected" if entry.reason in suppression.OBJECTIONS else "restricted"
                refused.append(
                    Refusal(row.line, "email", word, _OBJECTED if word == "objected" else "lift the restriction first")
                )
                return True
    return False


def _plan(
    rows: Sequence[_Row],
    stored: Mapping[bytes, tuple[Present, bytes]],
    said: Mapping[bytes, Sequence[suppression.Standing]],
    event: str,
) -> _Plan:
    """What to append and which states follow; rows of one address within the chunk build on each other."""
    plan = _Plan([], {}, {}, 0)
    held = dict(stored)
    unchanged = 0
    for row in rows:
        key = next((key for key in row.keys if key in held), row.keys[0])
        old, proof = held.get(key, (None, b""))
        if proof in row.proofs:
            unchanged += 1
            continue
        record = row.record
        language, text = record.values["text_language"], record.values["text"]
        name = text_hash(language, text)
        plan.texts[name] = (language, text)
        clear = clear_part(record, name)
        plan.entries.append(
            Entry(
                event,
                record.given_at,
                row.person,
                key,
                record.purpose,
                clear,
                sealed_part(record),
                evidence_part(record),
            )
        )
        if old is None and said:
            # Another spelling's confirmation lifts a no, and brings nothing back that this one had agreed to before it.
            noes = [entry for digest in row.person for entry in said.get(digest, ())]
            old = Present.ended(suppression.ended_at(noes, record.purpose))
        new = fold(old, Event(0, event, record.given_at, clear))
        # A row older than what holds is kept as proof, but the state goes on resting on the newer one.
        if new is not None and new is not old:
            held[key] = (new, row.proofs[0])
            plan.changes[key] = _Change(new, row.proofs[0], len(plan.entries) - 1)
    return plan._replace(unchanged=unchanged)
