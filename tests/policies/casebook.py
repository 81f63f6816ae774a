"""The decision tables of `tests/cases`, row by row; relay.cli.decisions says what a row means, as for `zegel policy test`."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from relay.cli.decisions import NOW, Row, account, envelope, facts, message, submission
from relay.mail.envelope import Tenant
from relay.policy.options import fill

__all__ = ["NOW", "Row", "account", "envelope", "every_row", "facts", "label", "message", "submission"]

CASES = Path(__file__).parent.parent / "cases"


def rows(policy: str) -> list[Row]:
    """The rows of one table; `[defaults]` in the file stands under each of them."""
    table = tomllib.loads((CASES / f"{policy}.toml").read_text("utf-8"))
    return [{**table.get("defaults", {}), **row} for row in table["case"]]


def tables() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.toml"))


def policy(name: str) -> ModuleType:
    return importlib.import_module(f"policies.{name}")


def tenant(row: Row) -> Tenant:
    return account(row).tenant


def settings(name: str, row: Row) -> Any:
    made, problems = fill(policy(name).Settings(), row.get("settings", {}), name)
    assert not problems, problems
    return made


def every_row() -> Iterator[tuple[str, Row]]:
    for name in tables():
        for row in rows(name):
            yield name, row


def label(row: Row) -> str:
    return str(row["why"])
