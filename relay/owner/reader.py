"""The reading operations of the shared database, which anybody may run beside its one writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from relay import store
from relay.consent.admit import Admission
from relay.consent.ledger import Ledger
from relay.keyring import Keyring
from relay.owner import instructions
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, Tools
from relay.owner.error import OwnerError
from relay.owner.registry import OPERATIONS, READ_ONLY, Operation
from relay.policy.catalogue import Catalogue
from relay.store.uses import FOLDER

HOUSE: Mapping[str, object] = MappingProxyType({})  # of [policies]: the policies that come with us, as they come


class _Server(Protocol):
    @property
    def data_dir(self) -> Path: ...


class _Storage(Protocol):
    @property
    def database(self) -> str: ...


class Places(Protocol):
    """The part of the settings that the owner reads."""

    @property
    def server(self) -> _Server: ...

    @property
    def storage(self) -> _Storage: ...


class Reader:
    """Answers the reading operations without the owner: for the CLI, the web process and long reads such as `verify`."""

    def __init__(
        self,
        engine: Engine,
        keyring: Keyring,
        *,
        policies: Mapping[str, object] = HOUSE,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`policies` is the config's table [policies]."""
        self._engine = engine
        ledger = Ledger(keyring)
        catalogue = cache(lambda: Catalogue.load(policies))
        self._tools = Tools(keyring, ledger, Admission(keyring, ledger), catalogue, Path(FOLDER))
        self._now = now

    @classmethod
    def open(cls, settings: Places, keyring: Keyring, *, now: Callable[[], float] = time.time) -> Reader:
        """Raises StoreUnavailable where there is no database yet."""
        reader = cls(store.open_reader(settings.storage.database), keyring, now=now)
        reader.keep_uses_in(Path(settings.server.data_dir) / FOLDER)
        return reader

    def keep_uses_in(self, folder: Path) -> None:
        """Where the workers write down which mail rested on which consent (CONSENT-15)."""
        self._tools = self._tools._replace(uses=folder)

    def judge_by(self, policies: Mapping[str, object]) -> None:
        """Another table [policies] from now on."""
        self._tools = self._tools._replace(catalogue=cache(lambda: Catalogue.load(policies)))

    def call(self, op: str, args: Mapping[str, object], *, actor: str = "reader") -> Result:
        """Answer a reading operation. Raises OwnerError, also for one that writes."""
        if op not in READ_ONLY:
            raise OwnerError("op.writes", f"{op} changes something: only the owner does that")
        with self._engine.connect() as connection:
            return self._run(self._desk(connection, actor), op, args)

    def close(self) -> None:
        self._engine.dispose()

    def renew(self) -> None:
        """Connect anew: what the connections so far remember is of the file before."""
        self._engine.dispose()

    def _desk(self, connection: sa.Connection, actor: str) -> Desk:
        return Desk(connection, self._tools, now=self._now(), actor=actor)

    def _run(self, desk: Desk, op: str, args: Mapping[str, object]) -> Result:
        operation, given = _operation(op), Args(args)
        result = operation.run(desk, given)
        given.done()
        if op in instructions.INSTRUCTING:
            instructions.keep(desk, op)
        if operation.slots or operation.audited:
            desk.write_audit(op)
        return result


def _operation(op: str) -> Operation:
    operation = OPERATIONS.get(op)
    if operation is None:
        raise OwnerError("op.unknown", f"there is no operation {op}: see `zegel --help`")
    return operation
