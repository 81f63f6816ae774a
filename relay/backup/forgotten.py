"""Erasures once more: who was erased after a backup was made is in it, and must not come back with it (GDPR-8).

Nor must a tenant that was deleted since (GDPR-18).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from relay.consent.erased import Deleted, Erased, read_list
from relay.keyring import Keyring
from relay.owner import Owner, OwnerError
from relay.owner.forgetting import forget_files, forget_tenant
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


class Gone(NamedTuple):
    """Who was erased and which tenants were deleted, each once."""

    people: list[Erased]
    tenants: list[Deleted]


def known(path: Path) -> Gone:
    """Everybody on the list of a gateway. Raises OSError or ValueError."""
    people: dict[bytes, Erased] = {}
    tenants: dict[int, Deleted] = {}
    for one in read_list(path):
        if isinstance(one, Deleted):
            tenants[one.tenant_id] = one
        else:
            people[orjson.dumps(one.line())] = one
    return Gone(list(people.values()), list(tenants.values()))


def since(gone: Gone, cut_at: float) -> Gone:
    """Those whom a backup does not know to be gone."""
    begin = cut_at - OVERLAP_SECONDS
    return Gone([one for one in gone.people if one.at >= begin], [one for one in gone.tenants if one.at >= begin])


def erase_again(stage: Path, database: str, keyring: Keyring, gone: Gone) -> None:
    """In a folder that nobody reads yet: the database, then the files.

    Raises OwnerError, StoreUnavailable, sqlite3.Error or OSError.
    """
    places = _Places(_Server(stage), _Storage(f"sqlite:///{stage / database}"))
    with Owner.open(places, keyring) as owner:
        owner.keep_list_in(None)  # it comes along whole, with the times of then
        for lot in _lots(gone.people):
            for answer in owner.call_many([("erasure.again", {"person": one._asdict()}, "restore") for one in lot]):
                if isinstance(answer, Exception):
                    raise answer
        for one in gone.tenants:
            _delete(owner, stage, keyring, one)
    for name in (LOCK, GENERATION):  # of whoever opens the folder next
        (stage / name).unlink(missing_ok=True)
    forget_files(stage, keyring, gone.people, last=True)


def _delete(owner: Owner, stage: Path, keyring: Keyring, one: Deleted) -> None:
    """All of it but what is counted, which goes by itself: nothing of it names the tenant."""
    try:
        owner.call("tenant.delete", {"name": one.tenant, "id": one.tenant_id}, actor="restore")
    except OwnerError as error:
        if error.code != "tenant.unknown":
            raise
        return  # it came after the backup
    forget_tenant(stage, keyring, one)
    after: object = 0.0
    while after is not None:
        after = _next_batch(owner, one, after)
    owner.call("tenant.emptied", {"name": one.tenant}, actor="restore")


def _next_batch(owner: Owner, one: Deleted, after: object) -> object:
    """Empty one; where the one behind it begins, None after the last."""
    answer = owner.call("tenant.empty", {"name": one.tenant, "after": after}, actor="restore")
    return answer["next"] if isinstance(answer, dict) and answer["more"] else None


def _lots(people: list[Erased]) -> Iterator[list[Erased]]:
    for start in range(0, len(people), 50):
        yield people[start : start + 50]
