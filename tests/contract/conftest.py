"""One world for the contracts of the shared database; a second backend becomes a second parameter of `database`."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from relay.consent.lookup import Lookup
from relay.directory import Directory
from relay.keyring import Keyring
from relay.owner import Owner, OwnerError

START = 1_767_348_000.0  # 2026-01-02T10:00:00Z


@dataclass(frozen=True)
class _Server:
    data_dir: Path


@dataclass(frozen=True)
class _Storage:
    database: str


@dataclass(frozen=True)
class Settings:
    server: _Server
    storage: _Storage


class World:
    """An owner over real storage, a hand on its clock, and the readers beside it."""

    def __init__(self, folder: Path, database: str) -> None:
        self.settings = Settings(_Server(folder / "data"), _Storage(database))
        self.keyring = Keyring.open(folder / "keys", create=True)
        self.now = START
        self.owner = Owner.open(self.settings, self.keyring, now=lambda: self.now)

    def call(self, op: str, /, **args: Any) -> Any:
        return self.owner.call(op, args)

    def refused(self, op: str, /, **args: Any) -> str:
        """The code with which an operation is refused."""
        with pytest.raises(OwnerError) as caught:
            self.owner.call(op, args)
        return caught.value.code

    @classmethod
    def with_a_shop(cls, folder: Path, database: str) -> World:
        """What `shop` leaves, as a copy of what it left the first time."""
        shutil.copytree(_founded(), folder, dirs_exist_ok=True)
        return cls(folder, database)

    def shop(self) -> None:
        """A tenant `shop` with the purposes newsletter and offers."""
        self.call("tenant.add", name="shop", legal_name="Shop BV")
        for name in ("newsletter", "offers"):
            self.call("purpose.add", tenant="shop", name=name, category="tuin")

    def row(self, **changes: Any) -> dict[str, Any]:
        """A complete row of an import."""
        return {
            "email": "ann@example.net", "purpose": "newsletter", "basis": "consent", "method": "web_form",
            "source": "https://shop.example/join", "given_at": "2026-01-01T10:00:00Z", "text": "Ja, stuur mij de nieuwsbrief",
            "text_language": "nl", "policy_url": "https://shop.example/privacy", "jurisdiction": "NL", "provenance": "own",
            "sensitive_audience": "no", **changes,
        }  # fmt: skip

    def give(self, **changes: Any) -> Any:
        return self.call("consent.give", tenant="shop", **self.row(**changes))

    def load(self, *rows: dict[str, Any]) -> Any:
        return self.call("consent.import_rows", tenant="shop", rows=list(rows))

    def lookup(self) -> Lookup:
        return Lookup(self.settings.storage.database, self.keyring, now=lambda: self.now)

    def status(self, address: str, purpose: str = "newsletter") -> str:
        """Status of the consent that a mail to `address` would meet; "none" without one."""
        with self.lookup() as lookup:
            state = lookup.consents(1, purpose, [address])[address]
        return "none" if state is None else state.status

    def bars(self, address: str, purpose: str = "") -> set[tuple[str, str]]:
        """(scope, reason) of what stands against a mail to `address`."""
        with self.lookup() as lookup:
            return {
                (entry.scope, entry.reason) for entry in lookup.suppressions(1, [address], purpose=purpose)[address]
            }

    def directory(self) -> Directory:
        return Directory.load(self.settings.storage.database, self.keyring)


@cache
def _founded() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="zegel-founded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "data").mkdir()
    made = World(folder, f"sqlite:///{folder}/data/zegel.db")
    made.shop()
    made.owner.close()
    return folder


@pytest.fixture(params=["sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    return f"sqlite:///{tmp_path}/data/zegel.db"


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    made = World.with_a_shop(tmp_path, database)
    yield made
    made.owner.close()
