"""Erasures once more: who was erased after a backup was made is in it, and must not come back with it (GDPR-8)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from relay.consent.erased import Erased, read_list
from relay.keyring import Keyring
from relay.owner import Owner
from relay.owner.forgetting import forget_files
from relay.owner.owner import LOCK
from relay.store.generation import FILE as GENERATION

OVERLAP_SECONDS = 60.0
"""Before the cut: the list is written a moment after the commit."""


class _Server(NamedTuple):
    data_dir: Path


class _Storage(NamedTuple):
    database: str


class _Places(NamedTuple):
    server: _Server
    storage: _Storage


def known(path: Path) -> list[Erased]:
    """Everybody on the list of a gateway, each once. Raises OSError or ValueError."""
    return list({orjson.dumps(one._asdict()): one for one in read_list(path)}.values())


def since(people: list[Erased], cut_at: float) -> list[Erased]:
    """Those whom a backup does not know to be erased."""
    return [one for one in people if one.at >= cut_at - OVERLAP_SECONDS]


def erase_again(stage: Path, database: str, keyring: Keyring, people: list[Erased]) -> None:
    """In a folder that nobody reads yet: the database, then the files.

    Raises OwnerError, StoreUnavailable, sqlite3.Error or OSError.
    """
    places = _Places(_Server(stage), _Storage(f"sqlite:///{stage / database}"))
    with Owner.open(places, keyring) as owner:
        for lot in _lots(people):
            for answer in owner.call_many([("erasure.again", {"person": one._asdict()}, "restore") for one in lot]):
                if isinstance(answer, Exception):
                    raise answer
    for name in (LOCK, GENERATION):  # of whoever opens the folder next
        (stage / name).unlink(missing_ok=True)
    forget_files(stage, keyring, people, last=True)


def _lots(people: list[Erased]) -> Iterator[list[Erased]]:
    for start in range(0, len(people), 50):
        yield people[start : start + 50]
