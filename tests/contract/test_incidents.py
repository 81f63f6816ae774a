"""Incidents in the shared database: clocks, notices, who is told, what is sealed, what is one incident (GDPR-20 to GDPR-23)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from relay import store
from relay.store import schema
from tests.contract.conftest import START, World

HOUR, DAY = 3_600.0, 86_400.0
ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@other.example"
WHOM = {"whom": "privacy@shop.example"}


def opened(world: World, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.call(
        "incident.open", **{"tenant": "shop", "kind": "loss", "summary": "A list went to the wrong people", **changes}
    )
    return made


def shown(world: World, ref: str) -> dict[str, Any]:
    found: dict[str, Any] = world.call("incident.show", ref=ref)
    return found


def stored(world: World, table: sa.Table) -> list[Any]:
    engine = store.open_reader(world.settings.storage.database)
    with engine.connect() as connection:
        found = list(connection.execute(sa.select(table)))
    engine.dispose()
    return found


def bytes_of(world: World) -> bytes:
    """What lies on the disk, as it is."""
    folder = world.settings.server.data_dir
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_its_clocks_count_from_detection(world: World) -> None:
    made = opened(world, detected_at=START - HOUR)
    assert made["tenant_due_at"] == START + 23 * HOUR and made["authority_due_at"] == START + 71 * HOUR
    assert made["due"] == ["tenant", "authority"] and made["late"] == [] and made["state"] == "open"
    own = opened(world, tenant_minutes=90, authority_minutes=96 * 60)
    assert own["tenant_due_at"] == START + 1.5 * HOUR and own["authority_due_at"] == START + 96 * HOUR
    assert (
        world.refused("incident.open", tenant="shop", kind="loss", summary="x", detected_at=START + HOUR)
        == "incident.ahead"
    )


def test_detected_on_friday_at_18_it_is_due_on_monday_at_18(world: World) -> None:
    """GDPR-21: hours, not working days."""
    world.now = datetime.fromisoformat("2026-01-02T18:30:00+01:00").timestamp()
    made = opened(world, detected_at="2026-01-02T18:00:00+01:00")
    assert made["authority_due_at"] == datetime.fromisoformat("2026-01-05T18:00:00+01:00").timestamp()


def test_it_is_not_closed_while_somebody_must_be_told(world: World) -> None:
    ref = opened(world)["ref"]
    assert world.refused("incident.close", ref=ref, reason="over") == "incident.untold"
    world.call("incident.notify", ref=ref, to="tenant", **WHOM)
    assert world.refused("incident.close", ref=ref, reason="over") == "incident.untold", "nobody has judged the risk"
    assert world.refused("incident.assess", ref=ref, risk="unlikely") == "incident.why"
    world.call("incident.assess", ref=ref, risk="high", why="health data")
    world.call("incident.notify", ref=ref, to="authority", whom="AP", reference="AP-1")
    assert shown(world, ref)["due"] == ["people"]
    world.call("incident.assess", ref=ref, unintelligible=True)
    assert shown(world, ref)["due"] == [], "nobody can read them (GDPR 34(3)(a))"
    closed = world.call("incident.close", ref=ref, reason="all is told")
    assert closed["state"] == "closed" and closed["closed_at"] == START
    for op, args in (("notify", {"to": "people", **WHOM}), ("assess", {"people": 3}), ("close", {"reason": "again"})):
        assert world.refused(f"incident.{op}", ref=ref, **args) == "incident.closed"
    assert world.call("incident.note", ref=ref, text="The authority closed its file")["state"] == "closed"


def test_what_is_not_told_is_written_down_with_its_reason(world: World) -> None:
    ref = opened(world)["ref"]
    closed = world.call("incident.close", ref=ref, reason="a mistake", without_notice="nothing had happened")
    last = closed["steps"][-1]
    assert (last["step"], last["without_notice"], last["not_told"]) == (
        "closed",
        "nothing had happened",
        "tenant authority",
    )


def test_an_unlikely_risk_needs_no_authority(world: World) -> None:
    ref = opened(world)["ref"]
    world.call("incident.assess", ref=ref, risk="unlikely", why="all are colleagues")
    world.call("incident.notify", ref=ref, to="tenant", **WHOM)
    assert world.call("incident.close", ref=ref, reason="done")["late"] == []


def test_a_late_notice_says_why_and_stays_late(world: World) -> None:
    ref = opened(world)["ref"]
    world.now = START + 25 * HOUR
    assert shown(world, ref)["late"] == ["tenant"]
    assert world.refused("incident.notify", ref=ref, to="tenant", **WHOM) == "incident.late"
    world.call("incident.notify", ref=ref, to="tenant", late="nobody was in", **WHOM)
    assert shown(world, ref)["late"] == ["tenant"]
    in_time = opened(world, detected_at=START)["ref"]
    world.call("incident.notify", ref=in_time, to="tenant", at=START + HOUR, **WHOM)
    assert shown(world, in_time)["late"] == [], "it went out in time and is written down later"
    assert world.refused("incident.notify", ref=in_time, to="authority", whom="AP", at=START - HOUR) == "incident.when"


def test_the_first_notice_ends_the_clock_and_later_ones_are_kept(world: World) -> None:
    ref = opened(world)["ref"]
    world.call("incident.notify", ref=ref, to="authority", whom="AP, first")
    world.now += HOUR
    found = world.call("incident.notify", ref=ref, to="authority", whom="AP, more is known")
    assert found["authority_told_at"] == START
    assert [step["whom"] for step in found["steps"] if step["step"] == "notified"] == ["AP, first", "AP, more is known"]


def test_every_step_says_who_and_when_and_is_in_the_audit(world: World) -> None:
    ref = opened(world)["ref"]
    world.now += 60
    world.owner.call("incident.note", {"ref": ref, "text": "a note"}, actor="operator:carla")
    steps = shown(world, ref)["steps"]
    assert [(step["step"], step["by"], step["at"]) for step in steps] == [
        ("opened", "operator", START),
        ("noted", "operator:carla", START + 60),
    ]
    audit = [row for row in stored(world, schema.audit) if row.op.startswith("incident.")]
    assert [(row.op, row.actor) for row in audit] == [
        ("incident.open", "operator"), ("incident.note", "operator:carla"), ("incident.show", "operator"),
    ]  # fmt: skip
    assert all(ref in row.detail for row in audit) and not any("a note" in row.detail for row in audit)


def test_an_incident_is_of_one_tenant(world: World) -> None:
    world.call("tenant.add", name="kerk")
    ref = opened(world)["ref"]
    assert world.call("incident.list", tenant="kerk") == []
    assert [row["ref"] for row in world.call("incident.list")] == [ref]
    for op, args in (("show", {}), ("note", {"text": "x"}), ("export", {}), ("close", {"reason": "x"})):
        assert world.refused(f"incident.{op}", ref=ref, tenant="kerk", **args) == "incident.unknown"
    assert world.refused("incident.show", ref="20260101-none") == "incident.unknown"


def test_lists_show_what_is_asked_for(world: World) -> None:
    first, second = opened(world)["ref"], opened(world)["ref"]
    world.call("incident.close", ref=first, reason="x", without_notice="y")
    assert [row["ref"] for row in world.call("incident.list")] == [second]
    assert [row["ref"] for row in world.call("incident.list", state="closed")] == [first]
    assert [row["ref"] for row in world.call("incident.list", state="all")] == [second, first]


def test_nothing_personal_lies_open_on_the_disk(world: World) -> None:
    ref = opened(world, summary="Carla lost MARKERWORD", addresses=[ANN])["ref"]
    world.call("incident.note", ref=ref, text="MARKERNOTE")
    world.call("incident.notify", ref=ref, to="tenant", whom="MARKERWHOM")
    world.call("deletion.ask", ref=ref, address=EVE, what="MARKERWHAT")
    data = bytes_of(world)
    for word in ("MARKERWORD", "MARKERNOTE", "MARKERWHOM", "MARKERWHAT", ANN, EVE):
        assert word.encode() not in data
    assert world.call("incident.export", ref=ref)["people"] == [ANN]


def test_addresses_are_in_the_export_only(world: World) -> None:
    ref = opened(world, addresses=[ANN, BOB, "Ann@example.net"])["ref"]
    found = shown(world, ref)
    assert found["addresses"] == 2 and ANN not in str(found)
    assert world.call("incident.export", ref=ref)["people"] == [ANN, BOB]
    assert (
        world.refused("incident.open", tenant="shop", kind="loss", summary="x", addresses=["nobody"]) == "args.address"
    )


def test_who_is_erased_is_in_no_incident(world: World) -> None:
    ref = opened(world, addresses=[ANN, BOB])["ref"]
    world.call("deletion.ask", ref=ref, address=ANN, what="the list")
    world.call("consent.erase", tenant="shop", address=ANN)
    found = world.call("incident.export", ref=ref)
    assert found["people"] == [BOB] and found["recipients"] == [] and ANN not in str(found)


def run_retention(world: World) -> None:
    while world.call("retention.run")["more"]:
        pass


def test_people_go_28_days_after_closing_and_the_rest_after_five_years(world: World) -> None:
    ref, still = opened(world, addresses=[ANN])["ref"], opened(world, addresses=[BOB])["ref"]
    world.call("deletion.ask", ref=ref, address=EVE, what="the list")
    world.call("incident.close", ref=ref, reason="x", without_notice="y")
    world.now = START + 28 * DAY
    run_retention(world)
    assert world.call("incident.export", ref=ref)["people"] == [ANN]
    world.now += 1
    run_retention(world)
    found = world.call("incident.export", ref=ref)
    assert found["people"] == [] and found["recipients"] == [] and len(found["steps"]) == 3
    world.now = START + 1_830 * DAY + 1
    run_retention(world)
    assert world.refused("incident.show", ref=ref) == "incident.unknown"
    assert world.call("incident.export", ref=still)["people"] == [BOB], "an open one is never forgotten"
