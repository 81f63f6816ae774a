"""The consent ledger: what may be recorded, what holds, who leaves, and that nobody can rewrite it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay import store
from relay.consent.admit import SAME_TIME_ROWS
from relay.consent.held import HeldConsents
from relay.consent.lookup import MOST_OTHER_LOOKS
from relay.consent.record import parse_time
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.keyring import Kind
from relay.store import schema
from relay.store.connection import connect_reader
from tests.contract.conftest import START, World


def _token(world: World, address: str, purpose: str = "newsletter", kind: TokenKind = TokenKind.UNSUBSCRIBE) -> str:
    digest = person_hash(world.keyring, 1, address)
    return make(world.keyring, kind, 1, purpose=purpose, subject_hash=digest, subscriber="4711")


def _confirm(world: World, address: str, purpose: str = "newsletter") -> Any:
    asked = world.call("consent.request", tenant="shop", address=address, purpose=purpose)
    world.now += 60
    return world.call("consent.confirm", token=asked["token"], ip="192.0.2.7")


def test_a_given_consent_holds_for_its_purpose_only(world: World) -> None:
    given = world.give()
    assert (given["status"], given["basis"], given["controller"]) == ("given", "consent", "Shop BV")
    assert world.status("ann@example.net") == "given"
    assert world.status("ann@example.net", "offers") == "none"  # CONSENT-4
    assert world.status("bob@example.net") == "none"


def test_a_consent_for_another_purpose_is_told_where_one_asks_for_it(world: World) -> None:
    """CONSENT-4: only a consent that stands, and never in place of what is known for the purpose itself."""
    people = ["ann@example.net", "bob@example.net", "cas@example.net"]
    world.give(email=people[0], expires_at="2027-01-01T00:00:00Z")
    world.give(email=people[1])
    world.call("consent.withdraw", tenant="shop", address=people[1], purpose="newsletter")
    world.give(email=people[2], purpose="offers")
    world.give(email=people[2])

    def told(**more: Any) -> dict[str, str]:
        with world.lookup() as lookup:
            found = lookup.consents(1, "offers", people, **more)
        return {address: f"{state.status} {state.purpose}".strip() for address, state in found.items() if state}

    assert told() == {people[2]: "given"}
    assert told(others=["offers", "newsletter"]) == {people[0]: "given newsletter", people[2]: "given"}
    world.now = parse_time("2027-01-01T00:00:01Z") or 0.0
    assert people[0] not in told(others=["newsletter"]), "expired"


def test_consents_held_for_a_purpose_are_counted_no_further_than_is_needed(world: World) -> None:
    """THROTTLE-7: each person once, whoever left or whose consent has expired not, other purposes not."""
    for number in range(8):
        world.give(email=f"person{number}@example.net")
    world.give(email="person0@example.net", given_at="2026-01-02T09:00:00Z")
    world.give(email="person1@example.net", purpose="offers")
    world.give(email="cas@example.net", expires_at="2027-01-01T00:00:00Z")
    world.call("consent.withdraw", tenant="shop", address="person2@example.net", purpose="newsletter")
    world.call("optout", token=_token(world, "person3@example.net"))

    def held(wanted: int, now: float, purpose: str = "newsletter") -> int:
        with world.lookup() as lookup:
            return asyncio.run(HeldConsents(lookup.path).count(1, purpose, wanted, now))

    assert held(100, world.now) == 7
    assert held(100, world.now + 400 * 86_400) == 6, "one has expired"
    assert (held(2, world.now), held(9, world.now, "offers"), held(9, world.now, "x")) == (4, 1, 0)
    with world.lookup() as lookup:
        counts = HeldConsents(lookup.path)
    assert asyncio.run(counts.count(1, "newsletter", 2, world.now)) == 4
    world.give(email="new@example.net")
    assert asyncio.run(counts.count(1, "newsletter", 3, world.now)) == 4, "that is enough"
    assert asyncio.run(counts.count(1, "newsletter", 5, world.now)) == 8, "that was not"
    with sqlite3.connect(lookup.path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT 1 FROM consent_event WHERE tenant_id = 1 AND purpose = 'x'"
        )
        assert "ix_consent_event_tenant_id_purpose" in str(plan.fetchall()), "no scan of all events"


def test_the_sessions_of_a_campaign_count_its_consents_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        world.give(email=f"person{number}@example.net")
    opened: list[Path] = []

    def reader(path: Path) -> sqlite3.Connection:
        opened.append(path)
        return connect_reader(path)

    monkeypatch.setattr("relay.consent.held.connect_reader", reader)
    with world.lookup() as lookup:
        counts = HeldConsents(lookup.path)

    async def sessions() -> list[int]:
        return await asyncio.gather(*(counts.count(1, "newsletter", 100, world.now) for _ in range(20)))

    assert asyncio.run(sessions()) == [8] * 20
    assert len(opened) == 1


def test_looking_for_other_purposes_has_an_end(world: World) -> None:
    """A list of strangers costs no more than MOST_OTHER_LOOKS selects beside its own."""
    world.give()
    strangers = [f"person{number}@example.net" for number in range(MOST_OTHER_LOOKS // 2)]
    with world.lookup() as lookup:
        found = lookup.consents(1, "offers", [*strangers, "ann@example.net"], others=["x", "newsletter", "offers"])
        assert found["ann@example.net"] is None
        found = lookup.consents(1, "offers", ["ann@example.net", *strangers], others=["x", "newsletter", "offers"])
    assert [address for address, state in found.items() if state] == ["ann@example.net"]


def test_consent_is_narrow_and_objection_is_wide(world: World) -> None:
    """CONSENT-16, each of its four cases."""
    world.give(email="Jan@x.test")
    assert world.status("jan@x.test") == "given"
    world.give(email="Piet+nieuws@x.test")
    assert world.status("piet@x.test") == "none"
    assert world.status("piet+NIEUWS@X.test") == "given"
    world.call("suppression.add", tenant="shop", address="support+123@x.test", reason="bounce")
    assert world.bars("support@x.test") == set()
    assert world.bars("Support+123@x.test") == {("all", "bounce")}
    world.call("suppression.add", tenant="shop", address="jan@x.test")
    assert world.bars("Jan+Nieuws@X.test") == {("all", "objection")}
    assert world.bars("ja.n@x.test") == set()  # no dot folding


def test_a_unicode_domain_is_the_same_as_its_a_label(world: World) -> None:
    world.give(email="jan@bücher.example")
    assert world.status("JAN@xn--bcher-kva.example") == "given"


def test_an_import_after_an_opt_out_changes_nothing(world: World) -> None:
    """CONSENT-11: unsubscribe at 10:00, import at 10:05."""
    world.give()
    assert world.call("optout", token=_token(world, "ann@example.net"))["changed"] is True
    world.now += 300
    outcome = world.load(world.row(given_at="2026-01-02T10:04:00Z"), world.row(email="bob@example.net"))
    assert (outcome["imported"], outcome["refused"]) == (1, 1)
    assert [(error["line"], error["field"], error["reason"]) for error in outcome["errors"]] == [
        (1, "email", "objected")
    ]
    assert world.bars("ann@example.net", "newsletter") == {("newsletter", "objection")}
    assert world.status("ann@example.net") == "objected"
    assert world.refused("consent.give", tenant="shop", **world.row()) == "consent.objected"
    assert (
        world.refused("suppression.remove", tenant="shop", address="ann@example.net") == "suppression.objection_stands"
    )


def test_where_nothing_stands_there_is_nothing_to_lift(world: World) -> None:
    """Who was told that only the person can lift it looked for an objection that nobody had made."""
    person = {"tenant": "shop", "address": "zoe@example.net"}
    world.call("suppression.add", tenant="shop", address="ann@example.net")
    for reason in ("objection", "complaint", "bounce", "restriction"):
        assert world.refused("suppression.remove", **person, reason=reason) == "suppression.unknown"
    world.call("suppression.add", **person, reason="bounce")
    assert world.refused("suppression.remove", **person) == "suppression.unknown"
    world.call("suppression.add", **person, reason="complaint", scope="newsletter")
    for reason in ("objection", "complaint"):
        for scope in ("all", "newsletter"):
            assert (
                world.refused("suppression.remove", **person, reason=reason, scope=scope)
                == "suppression.objection_stands"
            )
    assert world.call("suppression.remove", **person, reason="bounce")["removed"] == 1


def test_an_opt_out_of_one_list_leaves_the_others(world: World) -> None:
    """UNSUB-13."""
    world.load(world.row(), world.row(purpose="offers"))
    answer = world.call("optout", token=_token(world, "ann@example.net"))
    assert (answer["scope"], answer["subscriber"], answer["tenant"]) == ("newsletter", "4711", "shop")
    assert world.status("ann@example.net", "offers") == "given"
    assert world.bars("ann@example.net", "offers") == {("newsletter", "objection")}
    world.call("optout", token=_token(world, "ann@example.net"), scope="all")
    assert world.status("ann@example.net", "offers") == "objected"
    assert ("all", "objection") in world.bars("ann@example.net", "offers")


def test_an_opt_out_is_idempotent_and_a_bad_token_changes_nothing(world: World) -> None:
    token = _token(world, "ann@example.net")
    assert world.call("optout", token=token)["changed"] is True
    assert world.call("optout", token=token)["changed"] is False
    assert world.call("consent.verify", tenant="shop")["events"] == 1
    broken = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert world.refused("optout", token=broken) == "token.unknown"


def test_only_a_later_confirmation_of_the_person_lifts_an_objection(world: World) -> None:
    world.load(world.row(), world.row(purpose="offers"))
    world.call("consent.withdraw", tenant="shop", address="ann@example.net")
    world.now += 60
    done = _confirm(world, "ann@example.net")
    assert (done["purpose"], done["lifted"]) == ("newsletter", 1)
    assert world.status("ann@example.net") == "confirmed"
    assert world.bars("ann@example.net", "newsletter") == set()
    # The other purpose stays closed, whatever is imported for it.
    assert world.bars("ann@example.net", "offers") == {("all", "objection")}
    assert world.load(world.row(purpose="offers"))["errors"][0]["reason"] == "objected"
    # And the person may leave again.
    world.now += 60
    assert world.call("optout", token=_token(world, "ann@example.net"))["changed"] is True
    assert ("newsletter", "objection") in world.bars("ann@example.net", "newsletter")


def test_an_old_import_does_not_undo_a_withdrawal_that_was_lifted_and_renewed(world: World) -> None:
    world.call("consent.withdraw", tenant="shop", address="ann@example.net", purpose="newsletter")
    world.now += 60
    _confirm(world, "ann@example.net")
    world.load(world.row(given_at="2025-06-01T00:00:00Z"))
    assert world.status("ann@example.net") == "confirmed"


def test_a_confirmation_link_works_once_and_for_seven_days(world: World) -> None:
    asked = world.call("consent.request", tenant="shop", address="ann@example.net", purpose="newsletter")
    assert world.status("ann@example.net") == "requested"
    with world.lookup() as lookup:
        pending = lookup.requests(1, "newsletter", ["Ann@example.net"])["Ann@example.net"]
    assert pending is not None and (pending.requested_at, pending.mails_sent) == (START, 0)
    assert world.call("confirm.sent", tenant="shop", address="ann@example.net", purpose="newsletter")["mails_sent"] == 1
    world.call("consent.confirm", token=asked["token"])
    assert world.refused("consent.confirm", token=asked["token"]) == "confirm.unknown"
    late = world.call("consent.request", tenant="shop", address="bob@example.net", purpose="newsletter")
    world.now += 7 * 86_400 + 1
    assert world.refused("consent.confirm", token=late["token"]) == "confirm.unknown"


def test_asking_again_does_not_reset_the_count_of_mails(world: World) -> None:
    """CLASS-7: one mail and one reminder, however often a form is sent."""
    ask = {"tenant": "shop", "address": "ann@example.net", "purpose": "newsletter"}
    world.call("consent.request", **ask)
    world.call("confirm.sent", **ask)
    world.now += 3_600
    assert world.call("consent.request", **ask)["mails_sent"] == 1
    world.now += 24 * 3_600
    assert world.call("consent.request", **ask)["mails_sent"] == 0


def test_of_many_requests_at_once_only_two_may_mail(world: World) -> None:
    """CLASS-7: the mail is counted in the commit of the request, so nobody mails on a count that is old."""
    ask = {"tenant": "shop", "address": "ann@example.net", "purpose": "newsletter", "mail": True}
    answers = world.owner.call_many([("consent.request", ask, "gateway")] * 5)
    assert [answer["may_mail"] for answer in answers] == [True, True, False, False, False]  # type: ignore[index, call-overload]
    with world.lookup() as lookup:
        pending = lookup.requests(1, "newsletter", ["ann@example.net"])["ann@example.net"]
    assert pending is not None and pending.mails_sent == 2


def test_the_link_of_each_mail_of_a_request_confirms_until_one_did(world: World) -> None:
    """Who presses twice, or is signed up again by a stranger, must not end with dead links only."""
    ask = {"tenant": "shop", "address": "ann@example.net", "purpose": "newsletter"}
    links = [world.call("consent.request", **ask)["token"] for _ in range(3)]
    world.call("consent.confirm", token=links[0])
    assert world.status("ann@example.net") == "confirmed"
    assert world.refused("consent.confirm", token=links[2]) == "confirm.unknown"


def test_a_link_of_an_older_request_no_longer_confirms(world: World) -> None:
    ask = {"tenant": "shop", "address": "ann@example.net", "purpose": "newsletter"}
    first = world.call("consent.request", **ask)["token"]
    world.now += 25 * 3_600
    world.call("consent.request", **ask)
    assert world.refused("consent.confirm", token=first) == "confirm.unknown"


def test_a_complaint_counts_as_an_objection(world: World) -> None:
    """FB-6."""
    world.give()
    world.call("optout", token=_token(world, "ann@example.net"), channel="complaint", scope="all")
    assert world.bars("ann@example.net") == {("all", "complaint")}
    assert world.load(world.row())["errors"][0]["reason"] == "objected"


def test_a_restriction_bars_and_is_lifted_without_loss(world: World) -> None:
    """GDPR-9: the data are kept."""
    world.give()
    ask = {"tenant": "shop", "address": "ann@example.net", "reason": "restriction"}
    world.call("suppression.add", **ask)
    assert world.bars("ann@example.net") == {("all", "restriction")}
    assert (
        world.refused("consent.request", tenant="shop", address="ann@example.net", purpose="newsletter")
        == "consent.restricted"
    )
    world.call("suppression.remove", **ask)
    assert (world.bars("ann@example.net"), world.status("ann@example.net")) == (set(), "given")


def test_a_bounce_lapses_after_90_days(world: World) -> None:
    """REP-3."""
    world.call("suppression.add", tenant="shop", address="ann@example.net", reason="bounce")
    world.now += 89 * 86_400
    assert world.bars("ann@example.net") == {("all", "bounce")}
    world.now += 2 * 86_400
    assert world.bars("ann@example.net") == set()
    assert world.call("retention.run")["bounces"] == 1


def test_erased_people_stay_away_and_cannot_be_read(world: World, tmp_path: Path) -> None:
    """GDPR-8: erased, then a bought list is imported."""
    marker = "erasemarker.q7x"
    world.give(email=f"{marker}@example.net", evidence_ip="192.0.2.99")
    world.call("consent.erase", tenant="shop", address=f"{marker}@example.net")
    assert world.load(world.row(email=f"{marker}@example.net"))["errors"][0]["reason"] == "objected"
    assert world.bars(f"{marker}@example.net") == {("all", "objection")}
    shown = world.call("consent.proof", tenant="shop", address=f"{marker}@example.net")
    assert {event["event"] for event in shown["events"]} == {"given", "objected", "erased"}
    assert all(event["personal"] is None and event["evidence"] is None for event in shown["events"])
    verified = world.call("consent.verify", tenant="shop")
    assert (verified["ok"], verified["events"], verified["erased"]) == (True, 3, 3)
    for path in (tmp_path / "data").iterdir():
        assert marker.encode() not in path.read_bytes(), path.name


def test_no_address_lies_in_clear_in_the_database(world: World, tmp_path: Path) -> None:
    """GDPR-19."""
    world.give(email="plainmarker@example.net", source="sourcemarker")
    world.call("suppression.add", tenant="shop", address="plainmarker@example.net")
    world.call("consent.request", tenant="shop", address="plainmarker2@example.net", purpose="offers")
    content = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert b"plainmarker" not in content.lower()
    assert b"sourcemarker" not in content
    assert b"Shop BV" in content  # the search itself works


_BENT = [
    ("clear", "UPDATE consent_event SET clear = replace(clear, 'web_form', 'web_farm') WHERE seq = 2"),
    ("purpose", "UPDATE consent_event SET purpose = 'offers' WHERE seq = 2"),
    ("at", "UPDATE consent_event SET at = at + 1 WHERE seq = 2"),
    ("recorded_by", "UPDATE consent_event SET recorded_by = 'nobody' WHERE seq = 2"),
    (
        "sealed",
        "UPDATE consent_event SET sealed = CAST(substr(sealed, 1, 20) || x'00' || substr(sealed, 22) AS BLOB) WHERE seq = 2",
    ),
    ("hash", "UPDATE consent_event SET hash = zeroblob(32) WHERE seq = 2"),
    ("content_hash", "UPDATE consent_event SET content_hash = zeroblob(32) WHERE seq = 2"),
    ("missing", "DELETE FROM consent_event WHERE seq = 2"),
    ("subject", "UPDATE subject SET hash = zeroblob(16) WHERE id = 2"),
]


@pytest.mark.parametrize(("what", "statement"), _BENT, ids=[what for what, _ in _BENT])
def test_a_change_in_an_old_event_is_named(world: World, what: str, statement: str) -> None:
    """CONSENT-14."""
    world.load(*(world.row(email=f"p{number}@example.net") for number in range(1, 4)))
    assert world.call("consent.verify", tenant="shop")["ok"] is True
    engine = store.open(world.settings.storage.database)
    with engine.begin() as connection:
        connection.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
        assert connection.exec_driver_sql(statement).rowcount == 1, what
    engine.dispose()
    found = world.call("consent.verify", tenant="shop")
    assert (found["ok"], found["event"]) == (False, 2)
    assert found["reason"]


def test_events_cut_off_at_the_end_are_noticed(world: World) -> None:
    world.load(*(world.row(email=f"p{number}@example.net") for number in range(1, 4)))
    engine = store.open(world.settings.storage.database)
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.consent_event).where(schema.consent_event.c.seq == 3))
    engine.dispose()
    found = world.call("consent.verify", tenant="shop")
    assert (found["ok"], found["event"], found["reason"]) == (False, 3, "events are missing at the end")


def test_evidence_goes_first_and_the_chain_still_verifies(world: World) -> None:
    """GDPR-14."""
    world.give(evidence_ip="192.0.2.1", evidence_user_agent="Browser/1")
    shown = world.call("consent.proof", tenant="shop", address="ann@example.net")["events"][0]
    assert shown["evidence"] == {"evidence_ip": "192.0.2.1", "evidence_user_agent": "Browser/1"}
    world.now += 740 * 86_400
    assert world.call("retention.run")["evidence"] == 1
    shown = world.call("consent.proof", tenant="shop", address="ann@example.net")["events"][0]
    assert shown["evidence"] is None and shown["personal"]["email"] == "ann@example.net"
    assert world.call("consent.verify", tenant="shop")["ok"] is True


def test_a_dispute_is_replayed_to_its_date(world: World) -> None:
    world.give()
    world.now += 86_400
    world.call("consent.withdraw", tenant="shop", address="ann@example.net", purpose="newsletter")
    then = world.call("consent.proof", tenant="shop", address="ann@example.net", at="2026-01-02T12:00:00Z")
    now = world.call("consent.proof", tenant="shop", address="ann@example.net")
    assert [state["status"] for state in then["states"]] == ["given"]
    assert [state["status"] for state in now["states"]] == ["withdrawn"]
    assert then["events"][0]["text"] == "Ja, stuur mij de nieuwsbrief"
    assert then["events"][0]["personal"] == {"email": "ann@example.net", "source": "https://shop.example/join"}


def test_the_same_file_twice_is_one_set_of_events(world: World) -> None:
    rows = [world.row(email=f"p{number}@example.net") for number in range(3)]
    assert world.load(*rows)["unchanged"] == 0
    again = world.load(*rows, world.row(email="p1@example.net", text="Ja, graag"))
    assert (again["imported"], again["unchanged"]) == (4, 3)
    assert world.call("consent.verify", tenant="shop")["events"] == 4


def test_two_rows_of_one_address_in_a_chunk_leave_the_newer(world: World) -> None:
    world.load(
        world.row(given_at="2025-12-01T00:00:00Z", text="new"), world.row(given_at="2025-01-01T00:00:00Z", text="old")
    )
    shown = world.call("consent.show", tenant="shop", address="ann@example.net")["consents"]
    assert [state["given_at"] for state in shown] == ["2025-12-01T00:00:00Z"]
    assert len(world.call("consent.proof", tenant="shop", address="ann@example.net")["events"]) == 2


def test_third_party_rows_that_share_one_time_are_refused(world: World) -> None:
    """CONSENT-7."""
    third = {"provenance": "third_party", "supplier": "List BV", "contract_ref": "C-1", "third_party_named": "yes"}
    assert world.load(world.row(**third))["errors"][0]["field"] == "provenance"  # off for a new tenant
    world.call("tenant.set", name="shop", allow_third_party=True)
    rows = [world.row(email=f"p{number}@example.net", **third) for number in range(SAME_TIME_ROWS + 5)]
    outcome = world.load(*rows)
    assert (outcome["imported"], outcome["refused"]) == (SAME_TIME_ROWS, 5)
    assert {error["field"] for error in outcome["errors"]} == {"given_at"}


def test_hashes_of_an_older_key_still_count(world: World) -> None:
    """UNSUB-20: rotate the hash key, post a token two years old, the next mail is refused."""
    world.load(world.row(), world.row(email="bob@example.net"))
    token = _token(world, "ann@example.net")
    world.call("suppression.add", tenant="shop", address="carl@example.net")
    world.keyring.rotate(Kind.HASH, now=world.now)
    world.keyring.rotate(Kind.TOKEN, now=world.now)
    world.keyring.rotate(Kind.SUBJECT, now=world.now)
    world.now += 2 * 365 * 86_400
    assert world.call("optout", token=token)["changed"] is True
    assert world.bars("Ann+x@example.net", "newsletter") == {("newsletter", "objection")}
    assert world.bars("carl@example.net") == {("all", "objection")}
    assert world.status("bob@example.net") == "given"
    assert world.load(world.row())["errors"][0]["reason"] == "objected"
    world.load(world.row(email="bob@example.net", given_at="2026-06-01T00:00:00Z"))
    shown = world.call("consent.show", tenant="shop", address="bob@example.net")["consents"]
    assert [state["given_at"] for state in shown] == ["2026-06-01T00:00:00Z"]
    assert world.call("consent.verify", tenant="shop")["ok"] is True


@pytest.mark.parametrize("before", ["nothing", "erased"])
def test_a_link_from_before_a_rotation_ends_what_was_recorded_since(world: World, before: str) -> None:
    """UNSUB-20: it has the hash of then, and what came since lies under the one of now; it stood as given in every list."""
    ann = "ann@example.net"
    if before == "erased":
        world.give()
        world.call("consent.erase", tenant="shop", address=ann)
    token = _token(world, ann)
    world.call("keys.rotate", kind="hash")
    world.now += 60
    world.load(*(world.row(email=f"p{number}@example.net") for number in range(20)))
    if before == "nothing":
        world.give()
        world.give(email="ann+x@example.net")
    else:
        _confirm(world, ann)
    assert world.status(ann) in ("given", "confirmed")
    world.now += 60
    assert [world.call("optout", token=token)["changed"] for _ in range(2)] == [True, False]
    assert world.status(ann) == "objected" and world.status("ann+x@example.net") != "given"
    listed = world.call("consent.page", tenant="shop", purpose="newsletter")["items"]
    assert {row["status"] for row in listed if str(row["email"]).startswith("ann")} <= {"objected"}
    assert world.status("p7@example.net") == "given"


def test_tenants_do_not_see_each_other(world: World) -> None:
    world.call("tenant.add", name="other")
    world.call("purpose.add", tenant="other", name="newsletter")
    world.give()
    world.call("suppression.add", tenant="shop", address="bob@example.net")
    assert world.call("consent.show", tenant="other", address="ann@example.net")["consents"] == []
    assert world.call("suppression.list", tenant="other") == []
    world.call("consent.give", tenant="other", **world.row(email="bob@example.net"))
    assert world.call("consent.verify", tenant="other")["events"] == 1


def test_suppressions_are_listed_with_their_address_until_erasure(world: World) -> None:
    world.call("suppression.add", tenant="shop", address="Ann@example.net", scope="offers")
    world.call("optout", token=_token(world, "bob@example.net"))
    listed = {entry["address"]: entry["scope"] for entry in world.call("suppression.list", tenant="shop")}
    assert listed == {"Ann@example.net": "offers", None: "newsletter"}
    world.call("consent.erase", tenant="shop", address="ann@example.net")
    found = world.call("suppression.list", tenant="shop", address="ann@example.net")
    assert {entry["address"] for entry in found} == {None}


def test_an_export_pages_through_every_event(world: World) -> None:
    world.load(*(world.row(email=f"p{number}@example.net") for number in range(5)))
    first = world.call("consent.export", tenant="shop", limit=3)
    second = world.call("consent.export", tenant="shop", after=first["next"], limit=3)
    assert [event["event_id"] for event in first["events"] + second["events"]] == [1, 2, 3, 4, 5]
    assert second["next"] is None
    assert second["head"] == {"seq": 5, "hash": second["events"][-1]["hash"]}
    assert world.call("consent.heads") == [{"tenant": "shop", **second["head"]}]


def test_readers_cannot_write(world: World) -> None:
    with world.lookup() as lookup, pytest.raises(sqlite3.OperationalError):
        lookup._connection.execute("DELETE FROM suppression")
