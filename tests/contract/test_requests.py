"""Requests of people in the shared database: due dates, one extension, answers, what is sealed, what /my enters (GDPR-24)."""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay import store
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.owner.months import months_after
from relay.store import schema
from tests.contract.conftest import START, World

CASES = tomllib.loads((Path(__file__).parent / "months.toml").read_text())["case"]
DAY = 86_400.0
ANN, BOB = "ann@example.net", "bob@example.net"


def opened(world: World, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.call("request.open", **{"tenant": "shop", "kind": "access", "address": ANN, **changes})
    return made


def states(world: World, **args: Any) -> list[tuple[str, str]]:
    return [(row["kind"], row["state"]) for row in world.call("request.list", **args)]


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


def on_my(world: World) -> dict[str, str]:
    """Ann on /my, past the code."""
    link = make(world.keyring, TokenKind.MY, 1, purpose="", subject_hash=person_hash(world.keyring, 1, ANN))
    asked = world.call("mydata.ask", token=link, address=ANN)
    return {"proof": world.call("mydata.prove", asked=asked["asked"], code=asked["code"])["proof"], "link": link}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_a_term_in_months(case: dict[str, Any]) -> None:
    assert months_after(case["at"].timestamp(), case["months"]) == case["due"].timestamp()


def test_it_is_due_a_month_after_it_was_asked_for(world: World) -> None:
    made = opened(world, asked_at="2025-12-31T09:00:00Z", text="all about me")
    assert made["due_at"] == datetime.fromisoformat("2026-01-31T09:00:00+00:00").timestamp()
    assert (made["state"], made["channel"], made["late"], made["address"]) == ("open", "hand", False, ANN)
    assert made["text"] == "all about me" and [step["step"] for step in made["steps"]] == ["opened"]
    assert opened(world)["due_at"] == datetime.fromisoformat("2026-02-02T10:00:00+00:00").timestamp()
    assert (
        world.refused("request.open", tenant="shop", kind="access", address=ANN, asked_at=START + DAY)
        == "request.ahead"
    )
    assert world.refused("request.open", tenant="shop", kind="look", address=ANN) == "args.choice"


def test_a_reason_makes_it_three_months_once_and_in_time(world: World) -> None:
    ref = opened(world)["ref"]
    assert world.refused("request.extend", ref=ref) == "args.missing"
    made = world.call("request.extend", ref=ref, reason="three systems")
    assert made["due_at"] == datetime.fromisoformat("2026-04-02T10:00:00+00:00").timestamp()
    assert made["extended_at"] == START and made["steps"][-1]["reason"] == "three systems"
    assert world.refused("request.extend", ref=ref, reason="again") == "request.extended"
    assert world.call("request.extend", ref=ref, reason="three systems", once=True)["due_at"] == made["due_at"]
    late = opened(world, address=BOB)["ref"]
    world.now = datetime.fromisoformat("2026-02-02T10:00:01+00:00").timestamp()
    assert world.refused("request.extend", ref=late, reason="no time") == "request.late"


def test_it_is_settled_once(world: World) -> None:
    ref, other = opened(world)["ref"], opened(world, address=BOB, kind="erase")["ref"]
    world.now += DAY
    assert world.refused("request.answer", ref=ref, at=START - DAY) == "request.when", "before it was asked"
    assert world.refused("request.answer", ref=ref, at=START + 9 * DAY) == "request.when"
    done = world.call("request.answer", ref=ref, text="copy sent", at=START + 3600)
    assert (done["state"], done["settled_at"], done["late"]) == ("answered", START + 3600, False)
    refused = world.call("request.refuse", ref=other, reason="not identified")
    assert refused["state"] == "refused" and refused["steps"][-1]["reason"] == "not identified"
    for op, more in (("answer", {}), ("refuse", {"reason": "no"}), ("extend", {"reason": "no"})):
        assert world.refused(f"request.{op}", ref=ref, **more) == "request.settled"
    assert world.call("request.answer", ref=ref, once=True)["settled_at"] == START + 3600, "a run that was cut off"
    assert world.refused("request.refuse", ref=ref, reason="no", once=True) == "request.settled"
    assert states(world) == [] and states(world, state="all") == [("access", "answered"), ("erase", "refused")]


def test_what_is_late_says_so_and_is_counted(world: World) -> None:
    world.call("tenant.add", name="kerk")
    ref = opened(world)["ref"]
    opened(world, tenant="kerk", address=BOB, asked_at=START - 25 * DAY)
    assert world.call("request.figures") == [
        {"tenant": "kerk", "open": 1, "week": 1, "overdue": 0},
        {"tenant": "shop", "open": 1, "week": 0, "overdue": 0},
    ]
    world.now = datetime.fromisoformat("2026-02-02T10:00:00+00:00").timestamp()
    assert states(world, tenant="shop") == [("access", "open")], "to the second"
    world.now += 1
    assert states(world, tenant="shop", state="overdue") == [("access", "overdue")]
    assert [row["overdue"] for row in world.call("request.figures")] == [1, 1]
    assert world.call("request.answer", ref=ref)["late"] is True
    assert [row["tenant"] for row in world.call("request.figures")] == ["kerk"]


def test_it_is_of_its_tenant_alone(world: World) -> None:
    world.call("tenant.add", name="kerk")
    ref = opened(world)["ref"]
    for op, more in (("show", {}), ("answer", {}), ("refuse", {"reason": "no"}), ("extend", {"reason": "no"})):
        assert world.refused(f"request.{op}", ref=ref, tenant="kerk", **more) == "request.unknown"
    assert world.refused("request.show", ref="20260101-none") == "request.unknown"
    assert states(world, tenant="kerk", state="all") == [] and world.call("request.page", tenant="kerk")["items"] == []


def test_pages_leave_nobody_out(world: World) -> None:
    refs = [opened(world, address=f"p{number}@example.net")["ref"] for number in range(5)]
    seen, after = [], None
    while True:
        page = world.call("request.page", tenant="shop", limit=2, after=after)
        seen += [row["ref"] for row in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == refs


def test_who_asked_lies_sealed_and_every_look_is_kept(world: World) -> None:
    ref = opened(world, text="where did you get my name")["ref"]
    world.call("request.show", ref=ref)
    assert ANN.encode() not in bytes_of(world) and b"where did you" not in bytes_of(world)
    kept = [
        (row["op"], row["tenant"]) for row in world.call("audit.list", tenant="shop") if row["op"].startswith("request")
    ]
    assert sorted(kept) == [("request.open", "shop"), ("request.show", "shop")]
    assert all("address" not in row for row in world.call("request.list"))


def test_a_run_that_was_cut_off_opens_no_second_one(world: World) -> None:
    ref = opened(world, asked_at=START - 9 * DAY)["ref"]
    assert opened(world, asked_at=START - 9 * DAY, once=True)["ref"] == ref
    assert opened(world, kind="erase", once=True)["ref"] != ref
    assert opened(world)["ref"] != ref, "a second request, by hand"


def test_an_erasure_leaves_that_it_was_answered_and_not_who_asked(world: World) -> None:
    world.give()
    ref = opened(world, kind="access", text="a copy please")["ref"]
    world.call("request.answer", ref=ref, text="sent to ann@example.net")
    world.call("consent.erase", tenant="shop", address=ANN)
    shown = world.call("request.show", ref=ref)
    assert (shown["address"], shown["text"], shown["state"]) == (None, None, "answered")
    assert [set(step) for step in shown["steps"]] == [{"at", "by", "step"}] * 2


def test_what_a_person_does_on_the_page_is_entered_as_answered(world: World) -> None:
    world.give()
    ann = on_my(world)
    assert states(world, state="all") == [("access", "answered")]
    on_my(world)
    assert len(states(world, state="all")) == 1, "the same day, the same request"
    world.call("mydata.exported", **ann)
    world.call("mydata.change", **ann, action="restrict")
    world.call("mydata.change", **ann, action="unrestrict")
    world.call("mydata.change", **ann, action="stop", purpose="newsletter")
    world.call("mydata.erase", **ann)
    rows = world.call("request.list", state="all")
    assert sorted(row["kind"] for row in rows) == ["access", "erase", "object", "portability", "restrict"]
    assert {(row["state"], row["channel"], row["late"]) for row in rows} == {("answered", "my", False)}
    assert [world.call("request.show", ref=row["ref"])["address"] for row in rows] == [None] * 5
    world.now += DAY + 1
    world.give(email=BOB)
    assert ANN.encode() not in bytes_of(world)


def test_a_confirmed_correction_is_entered(world: World) -> None:
    world.give()
    ann = on_my(world)
    token = world.call("mydata.move", **ann, address="ann@new.example")["token"]
    assert "rectify" not in dict(states(world, state="all")), "nothing before it is confirmed"
    world.call("mydata.moved", token=token)
    (row,) = [row for row in world.call("request.list", state="all") if row["kind"] == "rectify"]
    assert world.call("request.show", ref=row["ref"])["address"] == "ann@new.example"


def test_files_go_five_years_after_they_were_settled(world: World) -> None:
    done, waits = opened(world)["ref"], opened(world, address=BOB)["ref"]
    world.call("request.answer", ref=done)
    world.now += 1_829 * DAY
    assert world.call("retention.run")["people"] == 0
    world.now += 2 * DAY
    assert world.call("retention.run")["people"] == 1
    assert [row.ref for row in stored(world, schema.rights_request)] == [waits], "one that waits stays"
