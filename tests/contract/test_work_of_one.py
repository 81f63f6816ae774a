"""What an operation about one person costs does not grow with what stands against everybody else of the tenant."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import World

FEW, MANY = 600, 6_000
STEP = 100  # instructions of SQLite between two counts


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/data/zegel.db"


def instructions(world: World, work: Callable[[], object]) -> int:
    """How many hundred the database runs for it."""
    count = [0]

    def one() -> int:
        count[0] += 1
        return 0

    raw = world.owner._raw()
    raw.set_progress_handler(one, STEP)
    work()
    raw.set_progress_handler(None, 0)
    return count[0]


def stand(folder: Path, number: int) -> None:
    """So many more have said no to the shop as one did, each a subject."""
    with closing(sqlite3.connect(folder / "data" / "zegel.db")) as connection:
        connection.row_factory = sqlite3.Row
        objection = connection.execute("SELECT * FROM suppression WHERE reason = 'objection'").fetchone()
        person = connection.execute("SELECT * FROM subject WHERE id = ?", (objection["subject_id"],)).fetchone()
        for table, row, key, place in (
            ("subject", person, "hash", "id"),
            ("suppression", objection, "key", "subject_id"),
        ):
            _copies(connection, table, dict(row), number, key, place)
        connection.commit()


def _copies(connection: sqlite3.Connection, table: str, row: dict[str, Any], number: int, key: str, place: str) -> None:
    several = ({**row, key: n.to_bytes(16), place: 1_000_000 + n} for n in range(number))
    insert = f"INSERT INTO {table} ({','.join(row)}) VALUES ({','.join('?' * len(row))})"
    connection.executemany(insert, (tuple(one.values()) for one in several))


def cost(folder: Path, others: int, work: Callable[[World], object], *before: tuple[str, dict[str, str]]) -> int:
    """Of `work` where so many others have said no; `before` is done first."""
    first = World.with_a_shop(folder, database(folder))
    first.call("suppression.add", tenant="shop", address="cat@example.net")
    for op, args in before:
        first.call(op, tenant="shop", **args)
    first.owner.close()
    stand(folder, others)
    second = World(folder, database(folder))
    try:
        return instructions(second, lambda: work(second))
    finally:
        second.owner.close()


def erase(world: World) -> None:
    world.call("consent.erase", tenant="shop", address="ann@example.net")


def leave(world: World) -> None:
    """One batch of a tenant that was deleted."""
    world.call("tenant.delete", name="shop")
    assert world.call("tenant.empty", name="shop")["more"]


BOUNCES = tuple(("suppression.add", {"address": f"{n}@example.net", "reason": "bounce"}) for n in range(50))
OBJECTION = (("suppression.add", {"address": "ann@example.net"}),)


@pytest.mark.parametrize(("work", "before"), [(erase, OBJECTION), (leave, BOUNCES)])
def test_who_leaves_another_list_does_not_wait_for_it(
    tmp_path: Path, work: Callable[[World], object], before: tuple[tuple[str, dict[str, str]], ...]
) -> None:
    """GDPR-8, GDPR-18: an operation holds the one writer, and an opt-out of any other tenant comes behind it."""
    costs = [cost(tmp_path / str(others), others, work, *before) for others in (FEW, MANY)]
    assert 0 < costs[1] < 1.5 * costs[0], costs
