"""jan@ and jan+x@ may be two people: who reads one lifts and erases nothing of the other (CONSENT-16, GDPR-8, GDPR-9)."""

from __future__ import annotations

from typing import Any

from tests.contract.conftest import World

JAN, PLUS, OWN = "jan@host.test", "jan+x@host.test", "evil@own.test"


def on_my(world: World, address: str) -> dict[str, str]:
    """Whoever reads `address`, past the code."""
    world.now += 60
    asked = world.call("mydata.start", tenant="shop", address=address)
    proven = world.call("mydata.prove", asked=asked["asked"], code=asked["code"])
    return {"proof": proven["proof"], "link": asked["token"]}


def move(world: World, old: str, new: str) -> None:
    token = world.call("mydata.move", **on_my(world, old), address=new)["token"]
    world.now += 60
    world.call("mydata.moved", token=token)


def named(world: World, address: str) -> list[str]:
    """Addresses by which the proof of one still names somebody."""
    events: Any = world.call("consent.proof", tenant="shop", address=address)["events"]
    return [event["personal"]["email"] for event in events if event["personal"]]


def change(world: World, address: str, action: str) -> Any:
    return world.call("mydata.change", **on_my(world, address), action=action)


def test_who_moves_away_first_erases_no_other_spelling_either(world: World) -> None:
    for address in (PLUS, JAN):
        world.give(email=address)
    ref = world.call("request.open", tenant="shop", address=JAN, kind="access", text="mine")["ref"]
    move(world, PLUS, OWN)
    assert world.call("mydata.erase", **on_my(world, OWN))["erased"] is True
    assert set(named(world, JAN)) == {JAN}
    assert world.status(JAN) != "erased"
    assert world.call("request.show", ref=ref)["text"] == "mine"
    due = world.call("erasure.due")
    assert len(due) == 2 and all(row["exact"] for row in due), "queue and delivery log keep what is the other's"


def test_a_move_of_another_spelling_is_not_mine(world: World) -> None:
    """Who erases under jan+x@ does not erase the address from which jan@ came."""
    world.give(email=OWN)
    world.give(email=PLUS)
    move(world, OWN, JAN)
    world.call("mydata.erase", **on_my(world, PLUS))
    assert OWN in named(world, OWN) and JAN in named(world, JAN)


def test_a_block_is_lifted_by_the_spelling_that_set_it(world: World) -> None:
    world.give(email=JAN)
    assert change(world, JAN, "restrict")["changed"] is True
    assert change(world, PLUS, "unrestrict") == {"changed": False, "stays": True}
    assert world.bars(JAN) == world.bars(PLUS) == {("all", "restriction")}
    assert change(world, JAN, "unrestrict") == {"changed": True, "stays": False}
    assert world.bars(JAN) == set()
    assert change(world, JAN, "unrestrict") == {"changed": False, "stays": False}


def test_a_block_that_two_spellings_set_stands_until_both_have_lifted_it(world: World) -> None:
    world.give(email=JAN)
    assert [change(world, address, "restrict")["changed"] for address in (PLUS, JAN, JAN)] == [True, True, False]
    assert change(world, PLUS, "unrestrict") == {"changed": True, "stays": True}
    assert world.bars(JAN) == {("all", "restriction")}
    proof = world.call("consent.proof", tenant="shop", address=JAN)
    assert [stop["reason"] for stop in proof["suppressions"]] == ["restriction"]
    assert change(world, PLUS, "unrestrict") == {"changed": False, "stays": True}
    assert change(world, JAN, "unrestrict") == {"changed": True, "stays": False}
    assert world.bars(JAN) == set()
    assert world.call("consent.verify", tenant="shop")["ok"] is True


def test_a_block_of_who_was_erased_is_the_tenants_to_lift(world: World) -> None:
    world.give(email=JAN)
    change(world, JAN, "restrict")
    world.call("mydata.erase", **on_my(world, JAN))
    assert change(world, PLUS, "unrestrict")["stays"] is True
    remove = {"tenant": "shop", "address": JAN, "reason": "restriction"}
    assert world.call("suppression.remove", **remove)["removed"] == 1
    assert ("all", "restriction") not in world.bars(JAN)
