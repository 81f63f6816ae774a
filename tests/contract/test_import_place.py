"""An import that broke off goes on: how far it came is kept with its rows, and holds only while nothing else has changed."""

from __future__ import annotations

from typing import Any

import pytest

from relay.owner import OwnerError
from tests.contract.conftest import World

SO_FAR = {"done_bytes": 4_000, "done_lines": 11, "imported": 8, "unchanged": 1, "refused": 2}
NOTHING = dict.fromkeys(SO_FAR, 0)


def place(world: World, tenant: str = "shop", file: str = "1:2:3") -> Any:
    return world.call("consent.import_place", tenant=tenant, file=file)


def load(world: World, *rows: dict[str, Any], **changes: Any) -> Any:
    told = {"file": "1:2:3", **SO_FAR, **changes}
    return world.call("consent.import_rows", tenant="shop", rows=list(rows), place=told)


def test_the_place_is_kept_with_the_counts_of_its_chunk(world: World) -> None:
    assert place(world) == NOTHING
    load(world, world.row(), world.row(email="broken"))
    assert place(world) == {**SO_FAR, "imported": 9, "refused": 3}
    load(world, world.row(), imported=9, refused=3, done_lines=12, done_bytes=5_000)
    assert place(world) == {"done_bytes": 5_000, "done_lines": 12, "imported": 10, "unchanged": 2, "refused": 3}
    world.call("consent.import_done", tenant="shop")
    assert place(world) == NOTHING


def test_it_holds_for_that_file_and_that_tenant_only(world: World) -> None:
    world.call("tenant.add", name="other", language="en")
    load(world, world.row())
    assert place(world, file="1:2:4") == NOTHING
    assert place(world, tenant="other") == NOTHING
    world.call("consent.import_done", tenant="other")
    assert place(world)["done_lines"] == 11


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("purpose.add", {"tenant": "shop", "name": "extra"}),
        ("tenant.set", {"name": "shop", "allow_third_party": True}),
        ("tenant.set", {"name": "shop", "legal_name": "Shop Holding BV"}),
    ],
)
def test_who_may_record_something_else_since_begins_anew(world: World, op: str, args: dict[str, Any]) -> None:
    """Rows that were refused may be taken now, and what was taken may say something else."""
    load(world, world.row())
    world.call(op, **args)
    assert place(world) == NOTHING


def test_a_chunk_that_is_not_kept_leaves_no_place(world: World) -> None:
    for wrong in ({"done_lines": -1}, {"done_bytes": "4000"}, {"file": ""}, {"more": 1}):
        with pytest.raises(OwnerError):
            load(world, world.row(email="ann@example.org"), **wrong)
    assert place(world) == NOTHING and world.status("ann@example.org") == "none"
