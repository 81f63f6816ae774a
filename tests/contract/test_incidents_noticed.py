"""Incidents that the gateway notices, letters to wrong recipients, exports in the audit (CC-20, GDPR-20, GDPR-23)."""

from __future__ import annotations

from typing import Any

import pytest

from relay.consent.token import TokenKind, make
from relay.owner.incidents import MOST_PEOPLE
from tests.contract.conftest import START, World
from tests.contract.test_incidents import ANN, BOB, DAY, EVE, HOUR, WHOM, bytes_of, opened, shown


def row(**changes: Any) -> dict[str, Any]:
    return {
        "tenant": "shop", "kind": "exposure", "credential": "office", "stream": "personal", "class": "personal", "purpose": "",
        "reason": "recipients.exposed", "messages": ["0AAAAAAAAAAAA"], "people": [ANN], "shown": 40, "times": 1,
        "first_at": START, "last_at": START, **changes,
    }  # fmt: skip


def see(world: World, *rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = world.owner.call("incident.seen", {"rows": list(rows), **options}, actor="gateway")  # type: ignore[assignment]
    return made


def refs(world: World, **options: Any) -> list[str]:
    return [one["ref"] for one in world.call("incident.list", **options)]


def test_an_exposure_opens_an_incident_that_nobody_has_seen(world: World) -> None:
    (made,) = see(world, row())
    assert (made["tenant"], made["kind"], made["reason"]) == ("shop", "exposure", "recipients.exposed")
    (figure,) = world.call("incident.figures")["incidents"]
    assert figure["seen"] is False and figure["due"] == ["tenant", "authority"]
    found = world.call("incident.export", ref=made["ref"])
    assert found["opened_by"] == "gateway" and found["facts"]["credential"] == "office" and found["people"] == [ANN]
    assert ANN.encode() not in bytes_of(world)
    world.call("incident.note", ref=made["ref"], text="I am looking at it")
    assert world.call("incident.figures")["incidents"][0]["seen"] is True


def test_a_burst_of_one_campaign_is_one_incident(world: World) -> None:
    many = [
        row(times=200, people=[f"p{number}@example.net"], messages=[f"{number:013d}"], last_at=START + number)
        for number in range(150)
    ]
    (made,) = see(world, *many[:100])
    assert see(world, *many[100:]) == []
    found = world.call("incident.export", ref=made["ref"])
    assert found["times"] == 30_000 and found["last_at"] == START + 149 and len(found["people"]) == 150
    assert len(found["facts"]["messages"]) == 100 and len(found["steps"]) == 1


@pytest.mark.parametrize(
    "other",
    [{"credential": "app"}, {"reason": "leaks.bsn"}, {"purpose": "newsletter"}, {"kind": "leak"}, {"tenant": "kerk"}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_another_thing_is_another_incident(world: World, other: dict[str, str]) -> None:
    world.call("tenant.add", name="kerk")
    see(world, row(), row(**other))
    assert len(refs(world)) == 2


def test_what_happens_after_the_tenant_was_told_is_a_new_incident(world: World) -> None:
    (first,) = see(world, row())
    world.call("incident.notify", ref=first["ref"], to="tenant", **WHOM)
    (second,) = see(world, row(first_at=START + HOUR, last_at=START + HOUR))
    world.call("incident.close", ref=second["ref"], reason="x", without_notice="y")
    (third,) = see(world, row(first_at=START + 2 * HOUR))
    assert see(world, row(first_at=START + 26 * HOUR)) == []
    (fourth,) = see(world, row(first_at=START + 26 * HOUR + 24 * HOUR + 1))
    assert len({first["ref"], second["ref"], third["ref"], fourth["ref"]}) == 4
    assert see(world, row(first_at=START + 60 * HOUR, last_at=START + 60 * HOUR), burst_minutes=12 * 60) == []


def test_an_incident_keeps_so_many_people_and_no_more(world: World) -> None:
    for start in range(0, MOST_PEOPLE + 1_000, 500):
        see(world, row(people=[f"p{number}@example.net" for number in range(start, start + 500)]))
    assert shown(world, refs(world)[0])["addresses"] == MOST_PEOPLE


def test_who_is_gone_takes_nobody_else_with_him(world: World) -> None:
    assert [made["tenant"] for made in see(world, row(tenant="gone"), row(people=["no address", BOB]))] == ["shop"]
    assert world.call("incident.export", ref=refs(world)[0])["people"] == [BOB]


def test_opening_is_in_the_audit_and_counting_is_not(world: World) -> None:
    for _ in range(3):
        see(world, row())
    rows = [one for one in world.call("audit.list", tenant="shop") if one["op"].startswith("incident.")]
    assert [(one["op"], one["actor"]) for one in rows] == [("incident.opened", "gateway")]


# -- exports ------------------------------------------------------------------------------------------------------------


def export_row(at: float, by: str = "operator:carla") -> dict[str, Any]:
    return {"tenant": "shop", "kind": "export", "by": by, "reason": "export.out_of_hours", "first_at": at}


def test_the_audit_tells_who_exported_and_where_to_go_on(world: World) -> None:
    world.give()
    world.owner.call("consent.export", {"tenant": "shop"}, actor="operator:carla")
    first = world.call("incident.exports", since=0)
    assert [(one["tenant"], one["by"], one["at"]) for one in first["rows"]] == [("shop", "operator:carla", START)]
    assert world.call("incident.exports", after=first["last"])["rows"] == []
    assert world.call("incident.exports", since=START + 1)["rows"] == []


def test_an_export_that_was_counted_is_not_counted_again_even_when_all_is_closed(world: World) -> None:
    (made,) = see(world, export_row(START))
    parts = (START, START + 60, START + 120, START + HOUR)
    for at in (*parts, *parts):
        assert see(world, export_row(at)) == []
    assert shown(world, made["ref"])["times"] == 2, "one in three parts, and one an hour later"
    world.call("incident.close", ref=made["ref"], reason="asked for by the tenant", without_notice="no breach")
    for at in parts:
        assert see(world, export_row(at)) == []
    assert len(see(world, export_row(START + 2 * HOUR))) == 1
    assert len(see(world, export_row(START + 2 * HOUR, by="operator:dirk"))) == 1


# -- wrong recipients -----------------------------------------------------------------------------------------------------


def ask(world: World, **changes: Any) -> str:
    ref: str = opened(world)["ref"]
    world.call("deletion.ask", **{"ref": ref, "address": EVE, "what": "a list of members", **changes})
    return ref


def letters(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.call("deletion.letters")
    return found


def send(world: World) -> list[int]:
    """Queue what is due; how many mails each recipient had before."""
    due = letters(world)
    for letter in due:
        world.call("deletion.mailed", id=letter["id"], mails_sent=letter["mails_sent"])
    return [letter["mails_sent"] for letter in due]


def test_reminders_go_after_two_and_five_days_and_then_no_more(world: World) -> None:
    ask(world)
    assert send(world) == [0] and send(world) == []
    for day, sent in ((1.99, []), (2, [1]), (4.99, []), (5, [2]), (400, [])):
        world.now = START + day * DAY
        assert send(world) == sent, day


def test_a_letter_told_twice_counts_once(world: World) -> None:
    ask(world)
    (letter,) = letters(world)
    for _ in range(2):
        world.call("deletion.mailed", id=letter["id"], mails_sent=0)
    world.now = START + 2 * DAY
    assert [one["mails_sent"] for one in letters(world)] == [1]


def test_who_confirms_is_written_down_with_the_time_and_gets_no_reminder(world: World) -> None:
    ref = ask(world)
    token = letters(world)[0]["token"]
    send(world)
    looked = world.call("deletion.look", token=token)
    assert looked == {"what": "a list of members", "asked_at": START, "confirmed_at": 0.0}
    assert world.call("incident.figures")["unanswered"] == 1
    world.now = START + HOUR
    assert world.owner.call("deletion.confirm", {"token": token}, actor="person") == {
        "confirmed_at": START + HOUR, "changed": True,
    }  # fmt: skip
    world.now += DAY
    assert world.call("deletion.confirm", token=token) == {"confirmed_at": START + HOUR, "changed": False}
    (request,) = shown(world, ref)["deletion"]
    assert request["confirmed_at"] == START + HOUR and request["next_mail_at"] is None
    steps = [(step["step"], step["by"]) for step in shown(world, ref)["steps"]]
    assert steps[-1] == ("confirmed", "person")
    assert [one["actor"] for one in world.call("audit.list") if one["op"] == "deletion.confirmed"] == ["person"]
    world.now = START + 2 * DAY
    assert letters(world) == [] and world.call("incident.figures")["unanswered"] == 0


def test_a_closed_incident_reminds_nobody(world: World) -> None:
    ref = ask(world)
    world.call("incident.close", ref=ref, reason="x", without_notice="y")
    assert letters(world) == []
    assert world.refused("deletion.ask", ref=ref, address=BOB, what="x") == "incident.closed"


def test_links_that_are_not_ours_open_nothing(world: World) -> None:
    ask(world)
    (letter,) = letters(world)
    good = letter["token"]
    world.call("tenant.add", name="kerk")
    digest = world.keyring.subject_hash("s\x001\x00eve@other.example")
    forged = {
        "changed": good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        "another kind": make(world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose=str(letter["id"]), subject_hash=digest),
        "another tenant": make(world.keyring, TokenKind.DELETE, 2, purpose=str(letter["id"]), subject_hash=digest),
        "another person": make(world.keyring, TokenKind.DELETE, 1, purpose=str(letter["id"]), subject_hash=bytes(16)),
        "no request": make(world.keyring, TokenKind.DELETE, 1, purpose="77", subject_hash=digest),
        "no number": make(world.keyring, TokenKind.DELETE, 1, purpose="x", subject_hash=digest),
    }
    for name, token in forged.items():
        for op in ("deletion.look", "deletion.confirm"):
            assert world.refused(op, token=token) == "token.unknown", name
    world.call("consent.erase", tenant="shop", address=EVE)
    assert world.refused("deletion.look", token=good) == "token.unknown", "erased, and so is the request"


def test_the_same_recipient_is_asked_once_in_an_incident(world: World) -> None:
    ref = ask(world)
    assert world.refused("deletion.ask", ref=ref, address="Eve@OTHER.example", what="x") == "incident.asked"
