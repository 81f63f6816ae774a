"""What is kept of people under more than one hash key has its time as well (CONSENT-15, UNSUB-20)."""

from __future__ import annotations

import pytest

from relay.owner import optins
from tests.contract.conftest import World
from tests.contract.test_expiry import ANN, DAY, ask, date, keys_left, run
from tests.contract.test_lifts import rotate
from tests.contract.test_moves import NEW, confirmed, events_of, on_my
from tests.contract.test_verify import read

LEFT = "SELECT event FROM consent_event WHERE expired_at = 0 AND event != 'expired'"


def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of a double opt-in were written under the newest hash key, whatever the state lay under."""
    monkeypatch.setattr(optins, "_key", lambda desk, keys: keys[0])


@pytest.mark.parametrize("is_of_before", [False, True])
def test_who_confirmed_after_a_rotation_is_forgotten_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch, is_of_before: bool
) -> None:
    if is_of_before:
        as_before(monkeypatch)
    world.give(text="Ja, graag")
    rotate(world)
    confirmed(world, ANN, "newsletter")
    assert len(read(world, "SELECT DISTINCT key FROM consent_event")) == 1 + is_of_before
    assert len(events_of(world, ANN)) == 3
    world.now = date("2036-01-02")
    run(world)
    assert read(world, LEFT) == [] and read(world, "SELECT * FROM consent_text") == []
    assert world.status(ANN) == "none" and keys_left(world) == 0


@pytest.mark.parametrize("is_of_before", [False, True])
def test_so_is_who_was_erased_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch, is_of_before: bool) -> None:
    """Nobody can tell any more whose the events are; the state still names the last of them."""
    if is_of_before:
        as_before(monkeypatch)
    world.give()
    rotate(world)
    confirmed(world, ANN, "newsletter")
    world.call("consent.erase", tenant="shop", address=ANN)
    world.now = date("2036-01-02")
    run(world)
    assert read(world, LEFT) == [("objected",), ("erased",)] and read(world, "SELECT * FROM consent_text") == []


@pytest.mark.parametrize("is_erased_again", [False, True])
def test_who_was_erased_and_came_back_after_a_rotation_is_one_person(world: World, is_erased_again: bool) -> None:
    world.give(text="De oude tekst")
    world.call("consent.erase", tenant="shop", address=ANN)
    rotate(world)
    world.now += DAY
    confirmed(world, ANN, "newsletter")
    if is_erased_again:
        world.now += DAY
        world.call("consent.erase", tenant="shop", address=ANN)
    world.now = date("2036-01-02")
    run(world)
    assert {row[0] for row in read(world, LEFT)} == {"objected", "erased"}
    assert read(world, "SELECT * FROM consent_text") == [] and keys_left(world) == 0


def test_another_spelling_keeps_its_own_proof(world: World) -> None:
    other = ANN.replace("@", "+list@")
    world.give()
    world.give(email=other)
    rotate(world)
    world.now = date("2030-01-02")
    confirmed(world, other, "newsletter")
    world.now = date("2031-06-02")
    run(world)
    assert (world.status(ANN), world.status(other)) == ("none", "confirmed")
    assert read(world, LEFT) == [("given",), ("requested",), ("confirmed",)] and keys_left(world) == 1


@pytest.mark.parametrize("rotations", [0, 1, 2])
def test_who_blocked_his_data_keeps_his_key(world: World, rotations: int) -> None:
    """GDPR-9: only who set a block lifts it, whenever he wants."""
    world.give()
    for _ in range(rotations):
        rotate(world)
    assert world.call("mydata.change", **on_my(world, ANN), action="restrict") == {"changed": True}
    world.now = date("2038-01-02")
    run(world)
    lifted = world.call("mydata.change", **on_my(world, ANN), action="unrestrict")
    assert lifted == {"changed": True, "stays": False} and world.bars(ANN) == set()


def test_of_who_left_the_address_goes_after_a_rotation_too(world: World) -> None:
    world.give()
    rotate(world)
    world.call("consent.withdraw", tenant="shop", address=ANN)
    world.now = date("2038-01-02")
    run(world)
    assert read(world, "SELECT * FROM suppression WHERE sealed IS NOT NULL") == [] and keys_left(world) == 0
    assert world.bars(ANN) == {("all", "objection")}


@pytest.mark.parametrize("is_rotated", [False, True])
def test_a_request_of_a_stranger_leaves_the_end_that_was(world: World, is_rotated: bool) -> None:
    world.give()
    world.now += DAY
    token = world.call("mydata.move", **on_my(world, ANN), address=NEW)["token"]
    world.call("mydata.moved", token=token)
    world.now += DAY
    world.call("mydata.erase", **on_my(world, NEW))
    if is_rotated:
        rotate(world)
    world.now += DAY
    ask(world)
    world.now += 40 * DAY
    run(world)
    assert world.status(ANN) == "erased"
    world.load(world.row(given_at="2026-01-01T10:00:00Z"))
    assert world.status(ANN) == "erased", "a list of before brings nobody back"
