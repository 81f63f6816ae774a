"""Lists in pages: everybody once, whatever comes in between; whoever changes comes again, nobody is left out."""

from __future__ import annotations

from typing import Any

import pytest

from relay.keyring import Kind
from tests.contract.conftest import World


def consents(world: World, *, after: int = 0, limit: int = 2) -> Any:
    return world.call("consent.page", tenant="shop", purpose="newsletter", after=after, limit=limit)


def every(world: World, *, limit: int = 2) -> list[tuple[str | None, str]]:
    found, after = [], 0
    while after is not None:
        page = consents(world, after=after, limit=limit)
        found += [(row["email"], row["status"]) for row in page["items"]]
        after = page["next"]
    return found


def give(world: World, *names: str, **changes: Any) -> None:
    for name in names:
        world.give(email=f"{name}@example.net", **changes)


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_each_person_comes_once_as_he_stands_now(world: World, limit: int) -> None:
    give(world, "ann", "bob", "cat", "dan", "eve")
    give(world, "ann", purpose="offers")
    give(world, "bob", given_at="2026-01-01T11:00:00Z")
    world.call("consent.withdraw", tenant="shop", address="cat@example.net")
    world.call("consent.erase", tenant="shop", address="dan@example.net")
    world.call("consent.request", tenant="shop", address="fay@example.net", purpose="newsletter")
    named = [
        ("ann", "given"),
        ("cat", "withdrawn"),
        ("", "erased"),
        ("eve", "given"),
        ("bob", "given"),
        ("fay", "requested"),
    ]
    assert every(world, limit=limit) == [(f"{name}@example.net" if name else None, status) for name, status in named]


def test_what_comes_in_between_two_pages_moves_nobody(world: World) -> None:
    give(world, "ann", "bob", "cat", "dan")
    first = consents(world)
    assert [row["email"] for row in first["items"]] == ["ann@example.net", "bob@example.net"]
    give(world, "aaa", "zzz")
    give(world, "ann", "cat", given_at="2026-01-01T11:00:00Z")
    rest, after = [], first["next"]
    while after is not None:
        page = consents(world, after=after)
        rest += [row["email"].partition("@")[0] for row in page["items"]]
        after = page["next"]
    assert rest == ["dan", "aaa", "zzz", "ann", "cat"], "ann changed, so she comes again; cat once"


def test_a_rotated_hash_key_hides_nobody(world: World) -> None:
    give(world, "ann", "bob")
    world.call("consent.withdraw", tenant="shop", address="bob@example.net")
    world.keyring.rotate(Kind.HASH, now=world.now)
    give(world, "ann", "cat", given_at="2026-01-01T11:00:00Z")
    world.call("consent.request", tenant="shop", address="bob@example.net", purpose="newsletter")
    assert {name for name, _ in every(world)} == {f"{name}@example.net" for name in ("ann", "bob", "cat")}


def test_suppressions_come_in_order_and_stay_so(world: World) -> None:
    for number in range(5):
        world.now += number % 2  # some at the same moment
        world.call("suppression.add", tenant="shop", address=f"p{number}@example.net", reason="objection")
    world.call("tenant.add", name="rival")
    world.call("suppression.add", tenant="rival", address="p9@example.net")
    found: list[str] = []
    after = None
    for turn in range(9):
        page = world.call("suppression.page", tenant="shop", limit=2, after=after)
        found += [row["address"].partition("@")[0] for row in page["items"]]
        after = page["next"]
        if after is None:
            break
        world.now += 1
        if turn == 0:
            world.call("suppression.add", tenant="shop", address="new@example.net", reason="restriction")
    assert sorted(found) == ["new", "p0", "p1", "p2", "p3", "p4"] and found[-1] == "new"


def test_a_bounce_that_is_over_stands_no_more(world: World) -> None:
    world.call("suppression.add", tenant="shop", address="bob@example.net", reason="bounce")
    assert len(world.call("suppression.page", tenant="shop")["items"]) == 1
    world.now += 91 * 86_400
    assert world.call("suppression.page", tenant="shop") == {"items": [], "next": None}


def test_what_is_no_place_is_refused(world: World) -> None:
    assert world.refused("suppression.page", tenant="shop", after={"at": "x"}) == "args.type"
    assert world.refused("consent.page", tenant="shop", purpose="none") == "purpose.unknown"
    assert world.refused("consent.page", tenant="shop", purpose="newsletter", limit=201) == "args.number"
