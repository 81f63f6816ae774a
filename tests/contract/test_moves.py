"""A corrected address: what the person said goes along, and proof, page and delivery say the same of both (GDPR-7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import World

OLD, NEW = "ann@example.net", "ann@new.example"


def on_my(world: World, address: str) -> dict[str, str]:
    """Somebody on /my, past the code."""
    asked = world.call("mydata.start", tenant="shop", address=address)
    proof = world.call("mydata.prove", asked=asked["asked"], code=asked["code"])["proof"]
    return {"proof": proof, "link": asked["token"]}


def asked(world: World) -> str:
    """The link in the mail to the new address."""
    token: str = world.call("mydata.move", **on_my(world, OLD), address=NEW)["token"]
    return token


def confirmed(world: World, address: str, purpose: str) -> None:
    world.now += 60
    request = world.call("consent.request", tenant="shop", address=address, purpose=purpose)
    world.now += 60
    world.call("consent.confirm", token=request["token"])


def judged(world: World, address: str) -> dict[str, tuple[bool, bool]]:
    """By purpose: whether the proof says that mail goes, and whether it goes."""
    proof = world.call("consent.proof", tenant="shop", address=address)
    told = {one["purpose"]: one["mailed"] for one in proof["judgements"]}
    return {name: (told.get(name, False), goes(world, address, name)) for name in ("newsletter", "offers")}


def goes(world: World, address: str, purpose: str) -> bool:
    bars = {scope for scope, _ in world.bars(address, purpose)} & {"all", purpose}
    return world.status(address, purpose) in ("given", "confirmed") and not bars


def test_a_no_goes_along_and_stands_in_the_proof(world: World) -> None:
    world.load(world.row(email=OLD), world.row(email=NEW, purpose="offers"))
    world.call("consent.withdraw", tenant="shop", address=OLD, purpose="offers")
    world.now += 60
    world.call("mydata.moved", token=asked(world))
    world.now += 60
    assert judged(world, NEW) == {"newsletter": (True, True), "offers": (False, False)}
    (stop,) = world.call("consent.proof", tenant="shop", address=NEW)["suppressions"]
    assert (stop["scope"], stop["reason"], stop["at"]) == ("offers", "objection", "2026-01-02T10:00:00Z")


def test_a_block_goes_along_and_stands_in_the_proof(world: World) -> None:
    world.load(world.row(email=OLD))
    token = asked(world)
    world.call("mydata.change", **on_my(world, OLD), action="restrict")
    world.now += 60
    world.call("mydata.moved", token=token)
    assert judged(world, NEW)["newsletter"] == (False, False)
    (stop,) = world.call("consent.proof", tenant="shop", address=NEW)["suppressions"]
    assert (stop["scope"], stop["reason"]) == ("all", "restriction")


def test_what_was_confirmed_after_a_no_to_everything_goes_on(world: World) -> None:
    world.load(world.row(email=OLD), world.row(email=OLD, purpose="offers"))
    world.call("consent.withdraw", tenant="shop", address=OLD)
    confirmed(world, OLD, "newsletter")
    assert judged(world, OLD) == {"newsletter": (True, True), "offers": (False, False)}
    world.now += 60
    world.call("mydata.moved", token=asked(world))
    world.now += 60
    assert judged(world, NEW) == {"newsletter": (True, True), "offers": (False, False)}


@pytest.mark.parametrize("who", ["operator", "herself"])
def test_a_link_from_before_an_erasure_moves_nobody(world: World, who: str) -> None:
    world.load(world.row(email=OLD))
    token, page = asked(world), on_my(world, OLD)
    world.now += 60
    if who == "herself":
        world.call("mydata.erase", **page)
    else:
        world.call("consent.erase", tenant="shop", address=OLD)
    assert world.refused("mydata.moved", token=token) == "move.unknown"
    assert world.call("suppression.list", tenant="shop") != []
    assert world.bars(NEW) == set()


def test_who_asks_again_and_again_fills_no_history(world: World) -> None:
    """Beyond the mails that a day allows nothing is written: the form is open to strangers."""

    def ask() -> Any:
        return world.call("consent.request", tenant="shop", address=OLD, purpose="newsletter", mail=True)

    links = [ask()["token"] for _ in range(30)]
    assert len(events_of(world, OLD)) == 2
    world.call("consent.confirm", token=links[-1])
    assert world.status(OLD) == "confirmed"
    assert ask()["may_mail"] and len(events_of(world, OLD)) == 4, "one of a new request"


def events_of(world: World, address: str) -> list[Any]:
    found: list[Any] = world.call("consent.proof", tenant="shop", address=address)["events"]
    return found


def test_a_no_that_goes_along_ends_the_consents_of_every_spelling_there(world: World) -> None:
    """CONSENT-16: else one spelling would come back with the confirmation of the other, and its proof would say no."""
    other = NEW.replace("@", "+list@")
    world.load(world.row(email=OLD), world.row(email=NEW))
    world.call("consent.withdraw", tenant="shop", address=OLD)
    world.now += 60
    token: str = world.call("mydata.move", **on_my(world, OLD), address=other)["token"]
    world.call("mydata.moved", token=token)
    confirmed(world, other, "newsletter")
    world.now += 60
    assert judged(world, other)["newsletter"] == (True, True)
    assert judged(world, NEW)["newsletter"] == (False, False)
