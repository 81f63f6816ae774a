"""What was said against mail goes along to a corrected address, and is lifted there only by a confirmation there (CONSENT-11)."""

from __future__ import annotations

import pytest

from relay.consent.record import format_time
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from tests.contract.conftest import World
from tests.contract.test_expiry import ANN, DAY, date, run
from tests.contract.test_lifts import from_an_old_list, rotate, said_no_and_came_back, stops
from tests.contract.test_moves import NEW, confirmed, judged, on_my
from tests.contract.test_verify import read

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
@pytest.mark.parametrize("day", ["2031-02-27", "2031-03-04", "2031-05-01"])
def test_retention_leaves_the_link_of_who_has_just_been_asked(world: World, is_rotated: bool, day: str) -> None:
    """As long as it works, whenever he is asked: he may be asked in the hour in which the old proof has had its time."""
    world.give()
    if is_rotated:
        rotate(world)
    world.now = date(day)
    token = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")["token"]
    for _ in range(2):
        run(world)
        world.now += 3.45 * DAY
    world.call("consent.confirm", token=token)
    assert world.status(ANN) == "confirmed"
    world.now = date("2037-01-02")
    run(world)
    assert world.status(ANN) == "none"


def other(address: str) -> str:
    """Another spelling of the same mailbox."""
    return address.replace("@", "+x@")


def agrees(world: World, address: str, *, goes: bool) -> None:
    """Gate and proof say the same of the newsletter."""
    assert judged(world, address)["newsletter"] == (goes, goes)


@pytest.mark.parametrize("is_erased", [False, True])
def test_a_lift_brings_nothing_back_that_was_agreed_to_before_the_no(world: World, is_erased: bool) -> None:
    """Nothing was on record of this spelling, so no state says when it ended."""
    if is_erased:
        world.call("consent.erase", tenant="shop", address=ANN)
    else:
        say_no(world, ANN)
    world.now += DAY
    confirmed(world, other(ANN), "newsletter")
    assert from_an_old_list(world) == [] and world.status(ANN) == "none"
    world.now += DAY
    world.give(email=ANN, given_at=format_time(world.now))
    assert world.status(ANN) == "given"


def test_no_consent_goes_along_behind_a_no(world: World) -> None:
    say_no(world, ANN)
    confirmed(world, other(ANN), "newsletter")
    world.now += DAY
    world.give(email=ANN, given_at=format_time(world.now))
    assert move(world, ANN, NEW) == 0
    world.now += DAY
    confirmed(world, other(NEW), "newsletter")
    assert world.status(NEW) == "none"


def test_a_confirmation_at_the_new_address_after_both_noes_counts(world: World) -> None:
    say_no(world, NEW)
    say_no(world, ANN)
    confirmed(world, NEW, "newsletter")
    world.now += DAY
    confirmed(world, other(NEW), "newsletter")
    move(world, ANN, NEW)
    agrees(world, NEW, goes=True)
    agrees(world, other(NEW), goes=True)
    assert proven(world, NEW) == stops(world, NEW) == []


def test_a_confirmation_that_went_along_keeps_a_no_lifted(world: World) -> None:
    say_no(world, NEW)
    confirmed(world, other(NEW), "newsletter")
    world.now = date("2030-12-01")
    confirmed(world, ANN, "newsletter")
    assert move(world, ANN, NEW) == 1
    world.now = date("2031-06-01")
    run(world)
    assert world.status(other(NEW)) == "none"
    agrees(world, NEW, goes=True)


def test_nobody_holds_retention_off_by_asking_again_and_again(world: World) -> None:
    world.give()
    for month in ("04", "05", "06"):
        world.now = date(f"2031-{month}-01")
        world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")
        run(world)
    assert read(world, "SELECT * FROM consent_event WHERE event = 'given' AND expired_at = 0") == []


@pytest.mark.parametrize("way", ["page", "link", "operator"])
def test_a_no_that_is_said_again_counts_as_of_then(world: World, way: str) -> None:
    """She confirmed at the new address after her first no at the old one, and then said no there again."""
    world.give(email=ANN)
    person = person_hash(world.keyring, 1, ANN)
    link = make(world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=person)
    say_no(world, NEW, "")
    say_no(world, ANN, "")
    confirmed(world, NEW, "newsletter")
    world.now += DAY
    before = len(world.call("consent.proof", tenant="shop", address=ANN)["events"])
    if way == "page":
        assert world.call("mydata.change", **on_my(world, ANN), action="stop_all")["changed"] is False
    elif way == "link":
        assert world.call("optout", token=link, scope="all")["changed"] is False
    else:
        say_no(world, ANN, "")
    assert len(world.call("consent.proof", tenant="shop", address=ANN)["events"]) == before, "it fills no history"
    move(world, ANN, NEW)
    agrees(world, NEW, goes=False)


def test_a_list_that_is_sent_again_says_no_only_once(world: World) -> None:
    """A tool that puts its whole list in each night does not take away what was confirmed at another address since."""
    world.call("suppression.add", tenant="shop", address=ANN)
    say_no(world, NEW, "")
    confirmed(world, NEW, "newsletter")
    world.now += DAY
    world.call("suppression.add", tenant="shop", address=ANN)
    move(world, ANN, NEW)
    agrees(world, NEW, goes=True)


@pytest.mark.parametrize("purpose", ["", "newsletter"])
def test_a_confirmation_that_a_list_claims_lifts_nothing(world: World, purpose: str) -> None:
    """What the sender imports says when somebody confirmed; a no is lifted by what the person did here."""
    say_no(world, NEW, purpose)
    confirmed(world, NEW, "newsletter")
    world.now += DAY
    confirmed(world, ANN, "newsletter")
    say_no(world, ANN, purpose)
    day = format_time(world.now)
    claim = {"given_at": day, "doi_sent_at": day, "confirmed_at": day, "doi_message_id": "<m@shop.example>"}
    world.give(email=NEW, method="double_optin", **claim)
    world.now += DAY
    assert judged(world, NEW)["newsletter"] == (True, True)
    move(world, ANN, NEW)
    assert judged(world, NEW)["newsletter"] == (False, False)
    assert world.bars(NEW, "newsletter") == {(purpose or "all", "objection")}
    world.now += DAY
    confirmed(world, NEW, "newsletter")
    assert judged(world, NEW)["newsletter"] == (True, True)
