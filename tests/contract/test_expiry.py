"""What the proof has of people ends: their keys, what they agreed to, who asked and never confirmed (CONSENT-15, GDPR-14)."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from relay.consent.record import parse_time
from relay.owner import consents, expiry
from tests.contract.conftest import START, World
from tests.contract.test_verify import read

ANN, BOB = "ann@example.net", "bob@example.net"
DAY = 86_400


def date(text: str) -> float:
    return parse_time(f"{text}T00:00:00Z") or 0.0


def given_long_ago(world: World) -> None:
    """Ann's yes of 2019; its proof has had its time in 2025."""
    world.now = date("2020-01-02")
    world.give(given_at="2019-06-01T10:00:00Z")


def run(world: World) -> None:
    while world.call("retention.run")["more"]:
        pass
    world.call("retention.forget_texts", texts=world.call("retention.texts"))
    found = world.call("consent.verify", tenant="shop")
    assert found["ok"], found


def keys_left(world: World) -> int:
    return int(read(world, "SELECT count(*) FROM subject WHERE wrapped IS NOT NULL")[0][0])


def ask(world: World, address: str = ANN) -> Any:
    return world.call("consent.request", tenant="shop", address=address, purpose="newsletter", mail=True)


def test_of_who_left_long_ago_the_hash_stays_and_nothing_else(world: World) -> None:
    given_long_ago(world)
    world.give(email=BOB, given_at="2019-06-01T10:00:00Z", text="Ja, graag")
    world.call("suppression.add", tenant="shop", address="cold@example.net", reason="complaint")
    world.call("consent.withdraw", tenant="shop", address=ANN, purpose="newsletter")
    world.now = date("2025-01-31")
    run(world)
    assert keys_left(world) == 3 and len(read(world, "SELECT * FROM consent_text")) == 2
    world.now = date("2025-02-01")
    run(world)
    assert keys_left(world) == 0 and read(world, "SELECT * FROM consent_text") == []
    assert {row["address"] for row in world.call("suppression.list", tenant="shop")} == {None}
    assert read(world, "SELECT * FROM suppression WHERE sealed IS NOT NULL") == []
    assert "@" not in str([row["personal"] for row in world.call("consent.export", tenant="shop")["events"]])
    assert world.bars(ANN, "newsletter") == {("newsletter", "objection")}
    assert world.bars("cold@example.net") == {("all", "complaint")}
    assert world.load(world.row(given_at="2019-06-01T10:00:00Z"))["errors"][0]["reason"] == "objected"
    world.now += DAY
    world.call("consent.confirm", token=ask(world)["token"])
    assert world.status(ANN) == "confirmed", "who comes back has a key of his own again"
    run(world)


def test_a_text_stays_while_an_event_names_it(world: World) -> None:
    given_long_ago(world)
    world.now = date("2024-01-02")
    world.give(email=BOB, given_at="2024-01-01T10:00:00Z")
    world.now = date("2025-02-01")
    run(world)
    assert keys_left(world) == 1 and len(read(world, "SELECT * FROM consent_text")) == 1
    world.now = date("2029-02-01")
    run(world)
    assert keys_left(world) == 0 and read(world, "SELECT * FROM consent_text") == []


def test_a_key_stays_while_something_needs_it(world: World) -> None:
    given_long_ago(world)
    world.now = date("2024-12-01")
    world.call("consent.withdraw", tenant="shop", address=ANN)
    world.call("suppression.add", tenant="shop", address=BOB, reason="bounce")
    world.now = date("2025-02-01")
    run(world)
    assert {row["address"] for row in world.call("suppression.list", tenant="shop")} == {ANN, BOB}
    world.now = date("2025-03-15")
    run(world)
    assert [row["address"] for row in world.call("suppression.list", tenant="shop")] == [ANN], "the bounce is over"
    assert keys_left(world) == 1
    world.now = date("2030-01-01")
    run(world)
    assert [row["address"] for row in world.call("suppression.list", tenant="shop")] == [None]
    assert keys_left(world) == 0


def test_each_hour_looks_at_other_people_until_all_were_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "PEOPLE_AT_ONCE", 3)
    world.now = date("2020-01-02")
    for number in range(10):
        world.call("suppression.add", tenant="shop", address=f"p{number}@example.net")
    world.now = date("2025-03-01")
    gone = []
    for _ in range(5):
        gone.append(world.call("retention.run")["keys"])
        world.now += 3_600
    assert (max(gone), sum(gone), keys_left(world)) == (3, 10, 0)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_that_nobody_confirmed_is_unreadable_after_thirty_days(world: World) -> None:
    """Somebody may have typed in anybody's address."""
    ask(world)
    world.now += DAY + 60
    ask(world)
    world.now += 29 * DAY
    run(world)
    assert world.status(ANN) == "requested"
    world.now += 2 * DAY
    run(world)
    assert world.status(ANN) == "none" and keys_left(world) == 0
    page = world.call("consent.page", tenant="shop", purpose="newsletter")["items"]
    assert page == [] and ANN not in str(world.call("consent.export", tenant="shop"))
    world.call("consent.confirm", token=ask(world)["token"])
    assert world.status(ANN) == "confirmed"


@pytest.mark.parametrize("is_rotated", [False, True])
def test_what_held_before_the_request_holds_again(world: World, is_rotated: bool) -> None:
    world.give()
    world.call("consent.withdraw", tenant="shop", address=ANN, purpose="newsletter")
    if is_rotated:
        world.call("keys.rotate", kind="hash")
        world.now += 5
    world.now += DAY
    ask(world)
    assert world.status(ANN) == "requested"
    world.now += 31 * DAY
    run(world)
    assert world.status(ANN) == "withdrawn" and keys_left(world) == 1
    events = world.call("consent.proof", tenant="shop", address=ANN)["events"]
    assert [event["event"] for event in events] == ["given", "withdrawn", None]
    world.now = date("2031-03-01")
    run(world)
    assert world.status(ANN) == "none" and keys_left(world) == 0


def test_the_request_behind_a_confirmation_is_part_of_its_proof(world: World) -> None:
    token = ask(world)["token"]
    world.now += 60
    world.call("consent.confirm", token=token)
    world.now += 2 * DAY
    ask(world)
    world.now += 31 * DAY
    run(world)
    assert world.status(ANN) == "confirmed"
    events = world.call("consent.proof", tenant="shop", address=ANN)["events"]
    assert [event["event"] for event in events] == ["requested", "confirmed", None]


# -- at the same moment -----------------------------------------------------------------------------------------------


def test_a_consent_by_a_clock_ahead_counts_in_delivery_and_proof_alike(world: World) -> None:
    ahead = "2026-01-02T10:04:50Z"
    assert world.give(given_at=ahead)["given_at"] == "2026-01-02T10:00:00Z"
    (judged,) = world.call("consent.proof", tenant="shop", address=ANN)["judgements"]
    assert (judged["counts"], world.status(ANN)) == (True, "given")
    world.now += 5
    assert world.give(given_at=ahead)["unchanged"], "the same row again is the same record"
    assert world.refused("consent.give", tenant="shop", **world.row(given_at="2026-01-02T10:06:00Z"))
    world.now = START + 10
    assert (
        world.give(email=BOB, given_at=ahead, expires_at="2026-01-02T10:09:00Z")["expires_at"] == "2026-01-02T10:09:00Z"
    )


def test_all_consents_of_a_person_are_read_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a query for each of 4,000 lists it took 10 s."""
    for number in range(30):
        world.call("purpose.add", tenant="shop", name=f"list{number:02}")
    world.load(world.row(), world.row(purpose="list07"))
    world.call("keys.rotate", kind="hash")
    world.now += 5
    asked: list[str] = []

    @sa.event.listens_for(sa.engine.Engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        asked.append(statement)

    found = world.call("consent.show", tenant="shop", address=ANN)
    few = len(asked)
    monkeypatch.setattr(consents, "KEYS_AT_ONCE", 7)
    again = world.call("consent.show", tenant="shop", address=ANN)
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
    assert [one["purpose"] for one in found["consents"]] == ["list07", "newsletter"] and again == found
    assert few < 10


def test_texts_go_however_many_there_are_and_one_that_is_named_again_stays(world: World) -> None:
    """Looked for by a reader, in one pass; what came in between is looked at again."""
    world.now = date("2020-01-02")
    for number in range(60):
        world.give(email=f"p{number}@example.net", given_at="2020-01-01T10:00:00Z", text=f"Ja, {number}")
    world.now = date("2030-01-02")
    while world.call("retention.run")["more"]:
        pass
    found = world.call("retention.texts")
    assert len(found) == 60
    world.give(email=BOB, given_at="2030-01-01T10:00:00Z", text="Ja, 7")
    assert world.call("retention.forget_texts", texts=found) == {"texts": 59}
    assert world.call("consent.verify", tenant="shop")["ok"]


def test_who_blocked_his_data_lifts_it_whenever_he_wants(world: World) -> None:
    """GDPR-9: the key of who blocked stays, for only he lifts it."""
    world.now = date("2020-01-02")
    world.give(email=ANN, given_at="2020-01-01T10:00:00Z")
    world.call("suppression.add", tenant="shop", address=ANN, reason="restriction")
    world.now = date("2029-01-02")
    run(world)
    (shown,) = world.call("suppression.list", tenant="shop")
    assert shown["address"] == ANN


def test_a_no_stands_again_when_the_confirmation_that_lifted_it_has_gone(world: World) -> None:
    """Proof and delivery say the same of a new yes: it takes a confirmation (CONSENT-11)."""
    world.now = date("2020-01-02")
    world.call("suppression.add", tenant="shop", address=ANN)
    world.now += 60
    asked = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")
    world.call("consent.confirm", token=asked["token"])
    assert [row["lifted"] for row in world.call("suppression.list", tenant="shop")] == [["newsletter"]]
    world.now = date("2030-01-02")
    run(world)
    assert [row["lifted"] for row in world.call("suppression.list", tenant="shop")] == [[]]
    assert world.refused("consent.give", tenant="shop", **world.row(email=ANN)) == "consent.objected"
