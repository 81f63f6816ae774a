"""Who was erased, as keyed hashes that find the person again: in files, in the queue, and in what a backup brings back (GDPR-8).

The list of them lies outside every backup, one line of JSON for each erasure; it holds no address. Which tenants were deleted is
in it too, each in a line of its own (GDPR-18).
"""

from __future__ import annotations

import fcntl
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from relay.consent.subject import person_text
from relay.keyring import Keyring
from relay.mail.address import narrow, scan, wide
from relay.store.history import PERSON, TRACE, short_hash
from relay.store.threads import thread_hashes

FILE = "erased.jsonl"
GONE = "(erased)"
_BLOCK = 65_536
GRACE_SECONDS = 3.0
"""So long after an erasure a process may take mail without having heard of it."""


class Erased(NamedTuple):
    """One erasure. `subject`: of the person, in hex; `trace`, `thread`: of each spelling, as those stores keep them, in the
    delivery log also of the person behind all of them.

    `exact`: of the one spelling that is meant, where others may be somebody else's; none where all are. All of them under every
    hash key that was live then: an older backup knows only the older ones.
    """

    tenant_id: int
    tenant: str
    at: float
    subject: list[str]
    trace: list[int]
    thread: list[int]
    exact: Sequence[str] = ()
    moved_at: float = 0.0  # he had moved away from this address by then: what came later is somebody else's

    @classmethod
    def of(
        cls,
        keyring: Keyring,
        tenant: tuple[int, str],
        at: float,
        addresses: Iterable[str],
        exact: Sequence[str] = (),
        moved_at: float = 0.0,
    ) -> Self:
        """The person behind `addresses`, which are spellings of one; with `exact`, who writes himself as they stand there."""
        number, name = tenant
        spellings = sorted({narrow(address) for address in addresses})
        people = sorted({wide(address) for address in spellings})
        logged = [TRACE + text for text in (spellings if exact else sorted({*spellings, *people}))]
        logged += [PERSON + text for text in people if not exact]
        return cls(
            number,
            name,
            at,
            [one.hex() for person in people for one in keyring.subject_hashes(person_text(number, person))],
            [short_hash(one) for text in logged for one in keyring.subject_hashes(text)],
            [one for text in spellings for one in thread_hashes(keyring.subject_hashes, number, text)],
            exact,
            moved_at,
        )

    @classmethod
    def load(cls, row: dict[str, Any]) -> Self:
        """What `_asdict` gave, perhaps by way of JSON, or an older one. Raises KeyError or TypeError."""
        later = {"exact": tuple(row.get("exact", ())), "moved_at": row.get("moved_at", 0.0)}
        return cls(**{name: row[name] for name in cls._fields if name not in later}, **later)

    def line(self) -> dict[str, Any]:
        """As it stands in the list."""
        return self._asdict()

    @property
    def until(self) -> float:
        """What was handed in later is new data, about somebody who orders again, and is not part of what he had erased."""
        return self.moved_at or self.at + GRACE_SECONDS

    def matcher(self, keyring: Keyring) -> Callable[[str], bool]:
        """Whether an address is one of this person, towards this tenant."""
        known, fold = {bytes.fromhex(one) for one in self.exact or self.subject}, narrow if self.exact else wide

        def is_his(address: str) -> bool:
            return not known.isdisjoint(keyring.subject_hashes(person_text(self.tenant_id, fold(address))))

        return is_his


class Deleted(NamedTuple):
    """A tenant that was deleted, at a time in seconds since the epoch."""

    tenant_id: int
    tenant: str
    at: float

    def line(self) -> dict[str, Any]:
        """As it stands in the list."""
        return {"deleted": True, **self._asdict()}


def finder(people: Mapping[int, Erased], keyring: Keyring) -> Callable[[int, str], list[int]]:
    """Which of many people an address is, towards a tenant: one look for all of them. Their numbers are the caller's."""
    known: dict[bytes, list[int]] = {}
    exact: dict[bytes, list[int]] = {}
    for number, one in people.items():
        for text in one.exact or one.subject:
            (exact if one.exact else known).setdefault(bytes.fromhex(text), []).append(number)

    def whose(tenant_id: int, address: str) -> list[int]:
        found = keyring.subject_hashes(person_text(tenant_id, wide(address)))
        people = [number for digest in found for number in known.get(digest, ())]
        if exact:
            found = keyring.subject_hashes(person_text(tenant_id, narrow(address)))
            people += [number for digest in found for number in exact.get(digest, ())]
        return people

    return whose


def without(value: Any, is_his: Callable[[str], bool]) -> Any:
    """JSON with every address of the person taken out, wherever in a text it stands."""
    if isinstance(value, str):
        if "@" not in value:
            return value
        if is_his(value):
            return GONE
        for address in scan(value.encode()):
            if is_his(address):
                value = re.sub(rf"(?<![\w.+-]){re.escape(address)}(?![\w-])", GONE, value)
        return value
    if isinstance(value, list | tuple):
        return [without(one, is_his) for one in value]
    if isinstance(value, dict):
        return {without(name, is_his): without(one, is_his) for name, one in value.items()}
    return value


def write_down(folder: Path, people: Iterable[Erased | Deleted]) -> None:
    """Add to the list of a data folder; durable when this returns. Raises OSError, and then the list is as it was.

    One that is among the last of the list is not added again.
    """
    with open(folder / FILE, "a+b", buffering=0, opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the owner writes, and who follows an erasure through
        end, last = _end_of_lines(file)
        new = [line for line in (orjson.dumps(one.line()) for one in people) if line not in last]
        lines = b"".join(line + b"\n" for line in new)
        file.truncate(end)  # what a cut left of a line that was never said to be written
        try:
            written = 0
            while written < len(lines):
                written += file.write(lines[written:]) or 0
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _end_of_lines(file: io.FileIO) -> tuple[int, set[bytes]]:
    """The length of a list without what a cut left at its end, a line or zeros, and the last of its lines."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        block = file.read(end - begin)
        whole, zero = block.rfind(b"\n") + 1, block.find(b"\0")
        if zero >= 0:  # no line holds one, and all that stands behind was written at once with it
            whole = block.rfind(b"\n", 0, zero) + 1
        if whole:
            return begin + whole, set(block[:whole].split(b"\n"))
        end = begin
    return 0, set()


def read_list(path: Path) -> Iterator[Erased | Deleted]:
    """Every erasure and deletion of a list; a last line that was cut off is left out.

    Raises OSError, or ValueError with the line that is none.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = orjson.loads(line)
                is_tenant = row.pop("deleted", False)
                yield Deleted(**row) if is_tenant else Erased.load(row)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise ValueError(
                    f"line {number} of {path} is no erasure: take the list as the gateway wrote it"
                ) from None
