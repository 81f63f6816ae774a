"""What was said against mail goes along to a corrected address, and is lifted there only by a confirmation there (CONSENT-11)."""

from __future__ import annotations

import pytest

from relay.consent.record import format_time
from tests.contract.conftest import World
from tests.contract.test_expiry import ANN, DAY, date, run
from tests.contract.test_lifts import from_an_old_list, rotate, said_no_and_came_back, stops
from tests.contract.test_moves import NEW, confirmed, judged, on_my

THIRD = "ann@third.example"


def say_no(world: World, address: str, purpose: str = "newsletter") -> None:
    world.now += DAY
    world.call("consent.withdraw", tenant="shop", address=address, **({"purpose": purpose} if purpose else {}))
    world.now += DAY


def move(world: World, old: str, new: str) -> int:
    world.now += DAY
    token = world.call("mydata.move", **on_my(world, old), address=new)["token"]
    world.now += 60
    return int(world.call("mydata.moved", token=token)["moved"])


def proven(world: World, address: str, **at: float) -> list[tuple[str, list[str]]]:
    told = world.call("consent.proof", tenant="shop", address=address, **at)["suppressions"]
    return [(stop["scope"], stop["lifted"]) for stop in told]


@pytest.mark.parametrize("number", range(4))  # which of two rows would come last was a matter of their keys
def test_a_no_that_was_said_again_after_a_rotation_is_one(world: World, number: int) -> None:
    ann = f"ann{number}@example.net"
    world.call("consent.withdraw", tenant="shop", address=ann, purpose="newsletter")
    world.now += DAY
    confirmed(world, ann, "newsletter")
    rotate(world)
    say_no(world, ann)
    assert len(stops(world, ann)) == 1
    move(world, ann, NEW)
    assert from_an_old_list(world, NEW) == ["objected"] and proven(world, NEW) == [("newsletter", [])]


def test_where_no_confirmation_goes_along_the_no_stands(world: World) -> None:
    said_no_and_came_back(world, "newsletter")
    assert (move(world, ANN, NEW), move(world, ANN, THIRD)) == (1, 0)
    day = world.now
    then = proven(world, THIRD, at=day)
    assert from_an_old_list(world, THIRD) == ["objected"] and proven(world, THIRD) == then == [("newsletter", [])]
    assert judged(world, NEW)["newsletter"] == (True, True)
    world.now += DAY
    confirmed(world, THIRD, "newsletter")
    assert proven(world, THIRD) == [] and proven(world, THIRD, at=day) == then, "of that day the same is proven later"


def test_a_single_yes_that_goes_along_lifts_nothing(world: World) -> None:
    """b+x confirmed, and so lifted the no of b; when that has had its time, a plain consent that came from a is no reason."""
    world.call("consent.withdraw", tenant="shop", address=NEW, purpose="newsletter")
    world.now += DAY
    confirmed(world, NEW.replace("@", "+x@"), "newsletter")
    world.now = date("2030-06-01")
    world.give(email=ANN, given_at="2030-05-30T00:00:00Z")
    assert move(world, ANN, NEW) == 1 and world.status(NEW) == "given"
    world.now = date("2031-06-01")
    run(world)
    assert world.bars(NEW, "newsletter") == {("newsletter", "objection")}
    assert proven(world, NEW) == [("newsletter", [])]


def test_a_newer_no_to_everything_counts_beside_an_older_one_that_is_partly_lifted(world: World) -> None:
    say_no(world, NEW, "")
    confirmed(world, NEW, "newsletter")
    say_no(world, ANN, "")
    confirmed(world, ANN, "offers")
    move(world, ANN, NEW)
    assert world.bars(NEW, "newsletter") == {("all", "objection")}
    assert proven(world, NEW) == stops(world, NEW) == [("all", [])], (
        "nor is it lifted for what was barred there already"
    )


def test_a_yes_after_the_no_of_the_other_address_stays_one(world: World) -> None:
    say_no(world, ANN, "")
    confirmed(world, ANN, "offers")
    say_no(world, NEW, "")
    confirmed(world, NEW, "newsletter")
    move(world, ANN, NEW)
    assert proven(world, NEW) == stops(world, NEW) == [("all", ["newsletter"])]
    assert judged(world, NEW)["newsletter"] == (True, True) and not judged(world, NEW)["offers"][0]


def test_a_confirmation_goes_along_though_a_form_was_filled_in_since(world: World) -> None:
    said_no_and_came_back(world, "newsletter")
    world.now += DAY
    world.give(email=ANN, given_at=format_time(world.now))
    assert move(world, ANN, NEW) == 1
    assert world.status(NEW) == "confirmed" and judged(world, NEW)["newsletter"] == (True, True)


@pytest.mark.parametrize("is_rotated", [False, True])
def test_retention_waits_for_who_has_just_been_asked(world: World, is_rotated: bool) -> None:
    world.give()
    if is_rotated:
        rotate(world)
    world.now = date("2031-03-02")
    token = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")["token"]
    run(world)
    world.now += 600
    world.call("consent.confirm", token=token)
    assert world.status(ANN) == "confirmed"
    world.now = date("2037-01-02")
    run(world)
    assert world.status(ANN) == "none"
