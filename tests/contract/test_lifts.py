"""A no that its person lifted stands again when the confirmation has had its time, and no sooner (CONSENT-11, CONSENT-15)."""

from __future__ import annotations

from typing import Any

import pytest

from relay.consent.token import TokenKind, make
from relay.owner.hashes import NEWEST_EVENTS
from tests.contract.conftest import World
from tests.contract.test_expiry import ANN, DAY, date, run
from tests.contract.test_moves import NEW, confirmed, goes, judged, on_my
from tests.contract.test_verify import read


def rotate(world: World) -> None:
    world.call("keys.rotate", kind="hash")
    world.now += 5


def said_no_and_came_back(world: World, purpose: str, *, is_rotated: bool = False) -> None:
    world.give(email=ANN)
    if is_rotated:
        rotate(world)
    world.now += DAY
    world.call("consent.withdraw", tenant="shop", address=ANN, **({"purpose": purpose} if purpose else {}))
    world.now += DAY
    confirmed(world, ANN, "newsletter")
    assert goes(world, ANN, "newsletter")


def from_an_old_list(world: World, address: str = ANN) -> list[str]:
    """Why a row of before is refused."""
    found = world.load(world.row(email=address, given_at="2026-01-01T10:00:00Z"))
    return [error["reason"] for error in found["errors"]]


def stops(world: World, address: str = ANN) -> list[tuple[str, list[str]]]:
    rows = world.call("suppression.list", tenant="shop", address=address)
    page = world.call("suppression.page", tenant="shop")["items"]
    assert sorted(row["subject"] for row in rows) == sorted(
        row["subject"] for row in page if row["address"] in (address, None)
    )
    return [(row["scope"], row["lifted"]) for row in rows]


@pytest.mark.parametrize("purpose", ["", "newsletter"])
@pytest.mark.parametrize("is_rotated", [False, True])
def test_a_no_stands_again_without_its_confirmation(world: World, purpose: str, is_rotated: bool) -> None:
    said_no_and_came_back(world, purpose, is_rotated=is_rotated)
    world.now = date("2036-01-02")
    run(world)
    assert from_an_old_list(world) == ["objected"]
    assert world.bars(ANN, "newsletter") == {(purpose or "all", "objection")} and stops(world) == [
        (purpose or "all", [])
    ]
    (told,) = world.call("consent.proof", tenant="shop", address=ANN)["suppressions"]
    assert (told["scope"], told["lifted"]) == (purpose or "all", [])


@pytest.mark.parametrize("purpose", ["", "newsletter"])
def test_so_it_does_at_the_address_that_its_person_moved_to(world: World, purpose: str) -> None:
    said_no_and_came_back(world, purpose)
    world.now += DAY
    token = world.call("mydata.move", **on_my(world, ANN), address=NEW)["token"]
    world.now += 60
    assert world.call("mydata.moved", token=token) == {"moved": 1}
    assert judged(world, NEW)["newsletter"] == (True, True)
    assert stops(world, NEW) == ([] if purpose else [("all", ["newsletter"])])
    world.now = date("2036-01-02")
    run(world)
    assert from_an_old_list(world, NEW) == ["objected"]
    for address in (ANN, NEW):
        told = world.call("consent.proof", tenant="shop", address=address)["suppressions"]
        assert [(stop["scope"], stop["lifted"]) for stop in told] == [(purpose or "all", [])]


def test_a_spelling_that_confirmed_later_keeps_the_lift(world: World) -> None:
    jan, other = "jan@host.example", "jan+x@host.example"
    world.call("consent.withdraw", tenant="shop", address=jan)
    confirmed(world, other, "newsletter")
    world.now = date("2031-08-02")
    confirmed(world, jan, "newsletter")
    run(world)
    assert world.status(other) == "none" and judged(world, jan)["newsletter"] == (True, True)
    world.now = date("2037-01-02")
    run(world)
    assert from_an_old_list(world, jan) == ["objected"]


def test_a_no_of_one_purpose_that_was_lifted_is_shown_nowhere_and_bars_nothing(world: World) -> None:
    said_no_and_came_back(world, "newsletter")
    assert stops(world) == [] and world.bars(ANN) == set() and world.bars(ANN, "newsletter") == set()
    assert world.call("consent.show", tenant="shop", address=ANN)["suppressions"] == []
    assert world.call("consent.proof", tenant="shop", address=ANN)["suppressions"] == []
    assert world.call("mydata.held", **on_my(world, ANN))["stops"] == []
    assert world.call("tenant.export", tenant="shop", part="suppressions")["rows"] == []
    assert "objected" not in str(world.call("consent.records", tenant="shop"))
    assert world.refused("suppression.remove", tenant="shop", address=ANN, scope="newsletter") == "suppression.unknown"
    assert world.load(world.row(email=ANN, text="Ja, nog eens"))["imported"] == 1
    assert again(world)["changed"] and stops(world) == [("newsletter", [])]
    world.now += DAY
    confirmed(world, ANN, "newsletter")
    assert world.status(ANN) == "confirmed" and stops(world) == []


def again(world: World) -> Any:
    world.now += DAY
    return world.call("consent.withdraw", tenant="shop", address=ANN, purpose="newsletter")


def test_an_erasure_takes_the_address_of_a_no_that_was_lifted(world: World) -> None:
    said_no_and_came_back(world, "newsletter")
    world.call("consent.erase", tenant="shop", address=ANN)
    assert read(world, "SELECT * FROM suppression WHERE sealed IS NOT NULL AND lifted != ''") == []
    assert world.bars(ANN) == {("all", "objection")}


def test_a_link_from_before_a_rotation_ends_the_consent_each_time(world: World) -> None:
    """Who came back and leaves again by the same old link: another spelling's confirmation brings nothing back."""
    with world.lookup() as reader:
        key = reader.person_key(1, ANN)
    link = make(world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=key)
    rotate(world)
    for _ in range(2):
        confirmed(world, ANN, "newsletter")
        world.now += DAY
        assert world.call("optout", token=link, scope="all")["changed"]
        assert world.status(ANN) == "objected"
        world.now += DAY
    confirmed(world, ANN.replace("@", "+x@"), "newsletter")
    assert world.status(ANN) == "objected" and judged(world, ANN)["newsletter"] == (False, False)


def test_a_no_that_found_no_consent_ends_it_when_another_spelling_confirms(world: World) -> None:
    """The link is of before the person was on record and of before a rotation, and hundreds have been recorded since."""
    with world.lookup() as reader:
        key = reader.person_key(1, ANN)
    link = make(world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=key)
    rotate(world)
    confirmed(world, ANN, "newsletter")
    world.load(*(world.row(email=f"p{number}@many.example") for number in range(NEWEST_EVENTS)))
    world.now += DAY
    world.call("optout", token=link)
    assert world.status(ANN) == "confirmed" and world.bars(ANN, "newsletter") == {("newsletter", "objection")}
    world.now += DAY
    confirmed(world, ANN.replace("@", "+x@"), "newsletter")
    assert world.status(ANN) == "objected" and judged(world, ANN)["newsletter"] == (False, False)
    world.now += DAY
    confirmed(world, ANN, "newsletter")
    assert judged(world, ANN)["newsletter"] == (True, True)
