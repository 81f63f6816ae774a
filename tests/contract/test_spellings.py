"""jan@ and jan+x@ may be two people: who reads one lifts and erases nothing of the other (CONSENT-16, GDPR-8, GDPR-9)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from relay.consent.erased import Erased
from relay.consent.subject import person_hash, person_text
from relay.consent.token import TokenKind, make
from relay.owner.hook_events import opened_body, unseal
from relay.store.schema import address_change, rights_request, webhook_event
from tests.contract.conftest import World

JAN, PLUS, OWN = "jan@host.test", "jan+x@host.test", "evil@own.test"


def on_my(world: World, address: str) -> dict[str, str]:
    """Whoever reads `address`, past the code; hours later, since a day has a few codes only."""
    world.now += 6 * 3_600
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


def test_who_has_the_old_mailbox_by_now_keeps_what_is_his(world: World) -> None:
    """GDPR-7: whoever moved away from info@ and is erased at home erased its later reader, and set an objection for him."""
    old, home = "info@shopkeeper.test", "ann@home.test"
    for purpose in ("newsletter", "offers"):
        world.give(email=old, purpose=purpose)
    before = world.call("request.open", tenant="shop", address=old, kind="access", text="of the one who left")["ref"]
    move(world, old, home)
    world.now += 2 * 365 * 86_400
    token = world.call("consent.request", tenant="shop", address=old, purpose="newsletter")["token"]
    world.now += 60
    world.call("consent.confirm", token=token)
    later = world.call("request.open", tenant="shop", address=old, kind="access", text="of who came")["ref"]
    assert world.call("mydata.erase", **on_my(world, home))["erased"] is True
    assert (world.status(old), world.status(old, "offers"), world.bars(old)) == ("confirmed", "erased", set())
    proof = world.call("consent.proof", tenant="shop", address=old)
    named = {event["event"]: event["personal"] is not None for event in proof["events"]}
    assert named == {"given": False, "withdrawn": False, "requested": True, "confirmed": True, "erased": False}
    assert {state["purpose"]: state["status"] for state in proof["states"]} == {
        "newsletter": "confirmed",
        "offers": "erased",
    }
    assert [world.call("request.show", ref=ref)["text"] for ref in (before, later)] == [None, "of who came"]
    due = {bool(row["moved_at"]): row for row in world.call("erasure.due")}
    assert due[True]["at"] - due[True]["moved_at"] > 2 * 365 * 86_400, (
        "mail to who came stays in queue and delivery log"
    )
    assert Erased.load(due[True]).until == due[True]["moved_at"]
    assert world.call("consent.verify", tenant="shop")["ok"] is True


def test_where_nobody_came_after_him_the_key_of_the_old_address_goes(world: World) -> None:
    world.give(email=JAN, evidence_ip="192.0.2.7")
    move(world, JAN, OWN)
    world.call("mydata.erase", **on_my(world, OWN))
    assert named(world, JAN) == []
    assert world.bars(JAN) == {("all", "objection")}, (
        "nobody reads the mail there who has a say; no old list brings him back"
    )
    assert (
        world.call("consent.verify", tenant="shop")["erased"] == world.call("consent.verify", tenant="shop")["events"]
    )


def test_who_came_from_elsewhere_to_the_old_mailbox_is_not_followed(world: World) -> None:
    """JAN moved to OWN; somebody else moves to JAN: what he was before is none of the first one's."""
    third = "piet@third.test"
    world.give(email=JAN)
    world.give(email=third)
    move(world, JAN, OWN)
    move(world, third, JAN)
    world.call("mydata.erase", **on_my(world, OWN))
    assert third in named(world, third) and JAN in named(world, JAN)


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


def test_a_restore_erases_at_an_address_of_before_only_what_was_his(world: World) -> None:
    world.give(email=JAN)
    exact = tuple(one.hex() for one in world.keyring.subject_hashes(person_text(1, JAN)))
    one = Erased.of(world.keyring, (1, "shop"), world.now + 1_000, [JAN], exact, world.now)
    world.now += 60
    token = world.call("consent.request", tenant="shop", address=JAN, purpose="newsletter")["token"]
    world.call("consent.confirm", token=token)
    world.call("erasure.again", person=one.line())
    assert len(named(world, JAN)) == 2
    assert (world.status(JAN), world.bars(JAN)) == ("confirmed", set())


def test_a_restore_that_knows_nobody_lets_no_old_list_bring_him_back(world: World) -> None:
    """He moved from JAN and was erased; the backup was made before he was ever known."""
    exact = tuple(one.hex() for one in world.keyring.subject_hashes(person_text(1, JAN)))
    one = Erased.of(world.keyring, (1, "shop"), world.now + 1_000, [JAN], exact, world.now)
    world.call("erasure.again", person=one.line())
    world.now += 2_000
    assert world.load(world.row(email=JAN))["imported"] == 0 and world.status(JAN) == "none"


def test_who_is_erased_is_in_no_change_of_address_of_somebody_else(world: World) -> None:
    """JAN has asked to move to OWN and has not confirmed it; the other spelling of OWN is not meant by it."""
    world.give(email=JAN)
    world.give(email=OWN)
    world.give(email=PLUS)
    assert world.call("mydata.move", **on_my(world, JAN), address=OWN)["token"]
    world.call("mydata.erase", **on_my(world, PLUS))
    assert count(world, address_change) == 1
    world.call("consent.erase", tenant="shop", address=OWN)
    assert count(world, address_change) == 0


def told(world: World) -> list[tuple[str, str | None]]:
    """What waits for the tenant's tool, each with whom it names."""
    with world.owner._engine.connect() as connection:
        rows = connection.execute(sa.select(webhook_event).order_by(webhook_event.c.id)).all()
    bodies = [opened_body(world.keyring, row) or {} for row in rows]
    return [(body["event"], body.get("address")) for body in bodies]


def test_a_restore_tells_of_nobody_else(world: World) -> None:
    """The line in the list of erasures has no address, and what is still read under the same hash may be another spelling's."""
    world.call("webhook.add", tenant="shop", name="crm", url="https://crm.example.org/hook", with_address=True)
    world.load(world.row(email="jan+x@example.net"), world.row(email="jan@example.net"))
    exact = world.keyring.subject_hashes(person_text(1, "jan+x@example.net"))
    one = Erased.of(world.keyring, (1, "shop"), world.now, ["jan+x@example.net"], tuple(each.hex() for each in exact))
    world.call("erasure.again", person=one._asdict())
    assert {address for _, address in told(world)} <= {None, "jan+x@example.net"}
    assert "jan@example.net" in named(world, "jan@example.net")


def count(world: World, table: sa.Table) -> int:
    with world.owner._engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


@pytest.mark.parametrize(("gone", "kept"), [(PLUS, JAN), (JAN, PLUS)])
def test_one_of_two_spellings_is_erased_wherever_it_stands(world: World, gone: str, kept: str) -> None:
    """GDPR-8: the tool was never told, the link of a change of address worked on, and incidents named whom it was."""
    world.call("webhook.add", tenant="shop", name="crm", url="https://crm.example.org/z", with_address=True)
    refs = {}
    for address in (gone, kept):
        world.give(email=address)
        token = world.call("consent.request", tenant="shop", address=address, purpose="offers")["token"]
        world.call("consent.confirm", token=token)
        made = world.call("incident.open", tenant="shop", kind="loss", summary="a list", addresses=[address])
        refs[address] = made["ref"]
        world.call("deletion.ask", ref=made["ref"], address=address, what="the list")
    visit = on_my(world, gone)
    link = world.call("mydata.move", **visit, address=OWN)["token"]
    assert count(world, address_change) == 1
    assert world.call("mydata.erase", **visit)["erased"] is True
    assert told(world) == [("confirmed", kept), ("erased", gone)]
    assert [world.call("incident.export", ref=refs[address])["people"] for address in (gone, kept)] == [[], [kept]]
    assert [len(world.call("incident.export", ref=refs[address])["recipients"]) for address in (gone, kept)] == [0, 1]
    assert count(world, address_change) == 0
    assert world.refused("mydata.moved", token=link) == "move.unknown"
    assert set(named(world, kept)) == {kept}


def test_the_change_of_address_of_the_other_spelling_goes_on(world: World) -> None:
    for address in (PLUS, JAN):
        world.give(email=address)
    link = world.call("mydata.move", **on_my(world, JAN), address=OWN)["token"]
    visit = on_my(world, PLUS)
    asked = world.call("mydata.start", tenant="shop", address=JAN)
    open_page = {
        "proof": world.call("mydata.prove", asked=asked["asked"], code=asked["code"])["proof"],
        "link": asked["token"],
    }
    world.call("mydata.erase", **visit)
    assert world.refused("mydata.held", **visit) == "proof.over"
    assert world.call("mydata.held", **open_page)["address"] == JAN, "his page stays open"
    assert count(world, address_change) == 1 and world.call("mydata.moved", token=link)["moved"] == 0


def views(world: World, address: str) -> set[str]:
    """What delivery, `consent show`, the person's own page and the proof say of the newsletter: one word where they agree."""
    shown = world.call("consent.show", tenant="shop", address=address)["consents"]
    held = world.call("mydata.held", **on_my(world, address))["consents"]
    proof = world.call("consent.proof", tenant="shop", address=address, purpose="newsletter")
    (judged,) = proof["judgements"]
    said = {world.status(address)}
    for rows in (shown, held, proof["states"]):
        said |= {row["status"] for row in rows if row["purpose"] == "newsletter"}
    with world.lookup() as lookup:
        is_stopped = bool(lookup.suppressions(1, [address], purpose="newsletter")[address])
    assert judged["counts"] is (not is_stopped and said <= {"given", "confirmed"}), judged
    return said


def stop(world: World, how: str) -> None:
    if how == "link":
        key = person_hash(world.keyring, 1, PLUS)
        link = make(world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=key)
        world.call("optout", token=link)
    elif how == "my":
        change(world, PLUS, "stop_all")
    elif how == "list":
        world.call("mydata.change", **on_my(world, PLUS), action="stop", purpose="newsletter")
    elif how == "erase":
        world.call("mydata.erase", **on_my(world, PLUS))
    else:
        world.call("consent.withdraw", tenant="shop", address=PLUS)


@pytest.mark.parametrize(
    ("how", "word"),
    [("link", "objected"), ("my", "objected"), ("list", "withdrawn"), ("cli", "withdrawn"), ("erase", "objected")],
)
def test_a_no_is_wide_and_a_yes_is_not_whoever_is_asked(world: World, how: str, word: str) -> None:
    """CONSENT-11, CONSENT-16: jan@ was mailed on a consent of which his proof said that he had objected."""
    for address in (JAN, PLUS):
        world.give(email=address)
    assert views(world, JAN) == views(world, PLUS) == {"given"}
    stop(world, how)
    assert views(world, JAN) == {word}
    assert views(world, PLUS) == {"erased" if how == "erase" else word}
    world.now += 3_600
    token = world.call("consent.request", tenant="shop", address=PLUS, purpose="newsletter")["token"]
    world.now += 60
    world.call("consent.confirm", token=token)
    assert (views(world, JAN), views(world, PLUS)) == ({word}, {"confirmed"})


def corrections(world: World) -> set[tuple[str, str]]:
    """Of each correction the address that it went to, and the one before, where it can be read."""
    with world.owner._engine.connect() as connection:
        rows = connection.execute(sa.select(rights_request).where(rights_request.c.kind == "rectify")).all()
    plain = [orjson.loads(unseal(world.keyring, f"request\0{row.ref}", row.sealed) or b"{}") for row in rows]
    return {(facts.get("address", ""), facts.get("was", "")) for facts in plain}


@pytest.mark.parametrize("erase", ["my", "cli"])
def test_an_erased_address_is_not_in_the_correction_that_left_it(world: World, erase: str) -> None:
    """GDPR-8: the request of the new address named the old one after its erasure."""
    new, third = "jan@new.test", "plus@new.test"
    for address in (JAN, PLUS, OWN):
        world.give(email=address)
    move(world, JAN, new)
    move(world, PLUS, third)
    move(world, OWN, "own@new.test")
    assert corrections(world) == {(new, JAN), (third, PLUS), ("own@new.test", OWN)}
    if erase == "my":  # one spelling
        world.call("mydata.erase", **on_my(world, JAN))
        assert corrections(world) == {(new, ""), (third, PLUS), ("own@new.test", OWN)}
    else:
        world.call("consent.erase", tenant="shop", address=JAN)
        assert corrections(world) == {(new, ""), (third, ""), ("own@new.test", OWN)}
    assert named(world, new) == [new], "who he is now stays"


def test_two_visits_in_a_day_are_one_request_and_the_correction_is_found(world: World) -> None:
    world.give(email=JAN)
    on_my(world, JAN)
    world.now += 17 * 3_600  # with the hours of the next visit not quite a day
    token = world.call("mydata.move", **on_my(world, JAN), address=OWN)["token"]
    world.now += 86_000
    world.call("mydata.moved", token=token)
    assert corrections(world) == {(OWN, JAN)}
    world.call("consent.erase", tenant="shop", address=JAN)
    assert corrections(world) == {(OWN, "")}
