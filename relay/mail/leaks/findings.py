"""What a scan looks for and what it says: counts by detector, and never a value (DLP-10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

DETECTORS = ("bsn", "iban", "card", "address_list", "address_file", "special", "unreadable")
"""In the order in which they are named where several found something: DLP-1 to -5, -7, -8."""

MAX_DISTINCT = 5_000  # values of one kind that are told apart; more are so many


def plain_hash(name: str) -> str:
    """A short name for a file name."""
    return blake2b(name.encode(errors="replace"), digest_size=6).hexdigest()


def everybody(addresses: frozenset[str]) -> int:
    """Every address counts."""
    return len(addresses)


@dataclass(frozen=True, slots=True)
class Terms:
    """From which number on a detector speaks, and what is normal for this sender."""

    bsn_numbers: int = 3  # distinct ones without a word beside them (DLP-1)
    iban_numbers: int = 5  # distinct ones that are not the tenant's own (DLP-2)
    card_numbers: int = 3  # distinct ones without a word beside them (DLP-3)
    text_addresses: int = 20  # distinct outsiders in the text (DLP-4)
    file_addresses: int = 50  # distinct ones in a file (DLP-5)
    file_rows: int = 50  # of a table with the columns of an address file (DLP-5)
    file_columns: int = 3
    own_ibans: frozenset[str] = field(default_factory=frozenset)  # without blanks, in capitals
    outsiders: Callable[[frozenset[str]], int] = everybody  # how many of these the readers should not see (CC-5)
    hash_name: Callable[[str], str] = plain_hash


class FileCounts(NamedTuple):
    """What one attachment holds; `name_hash` stands for its name."""

    name_hash: str
    counts: Mapping[str, int]


class Findings(NamedTuple):
    """`counts` by detector, only of those that found enough to speak; `files` says which attachments hold what.

    `bomb` is the limit of DLP-8 that was passed, "" for none; then the counts are those of what was read before.
    `unreadable` says why files could not be checked, `crashes` where readers of ours failed: both for the operator.
    """

    counts: Mapping[str, int]
    files: tuple[FileCounts, ...] = ()
    bomb: str = ""
    unreadable: tuple[str, ...] = ()
    crashes: tuple[str, ...] = ()


NOTHING = Findings({})
