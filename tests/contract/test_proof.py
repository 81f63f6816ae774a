"""The proof for one address: what stood at any past date, by which rule it counted, and a page that prints (CONSENT-10, -14)."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import tomllib
from typing import Any

import pytest
import sqlalchemy as sa

from relay.owner import OwnerError
from relay.portal import proof_page
from relay.store import schema
from tests.contract.conftest import START, World

DAY = 86_400.0
ANN = "ann@example.net"


def proof(world: World, address: str = ANN, **more: Any) -> Any:
    return world.call("consent.proof", tenant="shop", address=address, **more)


def judged(found: Any, purpose: str = "newsletter") -> tuple[bool, str, str | None]:
    (one,) = [row for row in found["judgements"] if row["purpose"] == purpose]
    return one["counts"], one["rule"], one["reason"]


def day(number: int) -> str:
    """A date a number of days after START, as `at` takes it."""
    return f"2026-01-{2 + number:02d}T10:00:00Z"


def confirm(world: World, purpose: str = "newsletter") -> None:
    asked = world.call("consent.request", tenant="shop", address=ANN, purpose=purpose)
    world.call("consent.confirm", token=asked["token"], ip="192.0.2.7")


def test_each_date_has_its_own_answer(world: World) -> None:
    """What a regulator asks: did it count then, by which rule, and when did it stop."""
    world.give()
    world.now = START + 2 * DAY
    world.call("consent.withdraw", tenant="shop", address=ANN)
    world.now = START + 4 * DAY
    confirm(world)
    world.now = START + 6 * DAY
    world.call("suppression.add", tenant="shop", address=ANN, reason="restriction")
    world.now = START + 8 * DAY
    world.call("suppression.remove", tenant="shop", address=ANN, reason="restriction")
    world.now = START + 9 * DAY
    answers = [judged(proof(world, at=day(number))) for number in (1, 3, 5, 7, 8)]
    assert answers == [
        (True, "CONSENT-1", None),
        (False, "CONSENT-11", "suppression.objected"),
        (True, "CONSENT-8", None),
        (False, "GDPR-9", "suppression.restricted"),
        (True, "CONSENT-8", None),
    ]
    stops = [
        [(row["scope"], row["reason"], row["lifted"]) for row in proof(world, at=day(n))["suppressions"]]
        for n in (1, 3, 5, 7, 8)
    ]
    lifted = ("all", "objection", ["newsletter"])
    assert stops == [[], [("all", "objection", [])], [lifted], [lifted, ("all", "restriction", [])], [lifted]]


def test_the_past_as_it_is_folded_ends_where_the_store_stands(world: World) -> None:
    """Two ways to know the present: the store of suppressions, and the events behind it."""
    steps: list[tuple[str, dict[str, Any]]] = [
        ("consent.withdraw", {"purpose": "newsletter"}),
        ("suppression.add", {"reason": "complaint", "scope": "offers"}),
        ("suppression.add", {"reason": "restriction"}),
        ("suppression.remove", {"reason": "restriction"}),
        ("consent.withdraw", {}),
    ]
    world.give()
    for op, args in steps:
        world.now += DAY
        world.call(op, tenant="shop", address=ANN, **args)
    for purpose in ("newsletter", "offers"):
        confirm(world, purpose)
        shown = world.call("consent.show", tenant="shop", address=ANN)["suppressions"]
        found = proof(world)["suppressions"]
        assert sorted(found, key=str) == sorted(shown, key=str), purpose
    world.now += DAY
    world.call("consent.withdraw", tenant="shop", address=ANN)
    assert [row["lifted"] for row in proof(world)["suppressions"]] == [[]], "said again, it holds for all again"


def test_of_a_day_to_come_nothing_is_proven(world: World) -> None:
    """Asked for the year 2099 it said that advertising counted on that day, and who withdrew the next morning was in it."""
    world.give()
    for at in ("2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert proof(world, at=at) == proof(world)
    assert world.refused("consent.proof", tenant="shop", address=ANN, at="9999-12-31T23:59:59-23:59") == "args.time"
    assert world.refused("consent.proof", tenant="shop", address=ANN, at="0001-01-01T00:00:00+23:59") == "args.time"


def test_what_was_recorded_later_did_not_count_yet(world: World) -> None:
    world.now = START + 5 * DAY
    world.give(given_at="2026-01-01T10:00:00Z")
    assert judged(proof(world, at=day(1))) == (False, "CONSENT-1", "consent.missing")
    assert judged(proof(world, at=day(5))) == (True, "CONSENT-1", None)
    assert proof(world, at=day(1))["events"][0]["recorded_at"] == day(5), "shown all the same"


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"jurisdiction": "DE"}, (False, "CONSENT-8", "consent.single_optin")),
        ({"expires_at": "2026-01-04T10:00:00Z"}, (False, "CONSENT-13", "consent.expired")),
        (
            {"basis": "soft_optin", "sale_ref": "1", "sale_at": "2026-01-01T10:00:00Z", "sale_kind": "paid",
             "product_category": "tuin", "informed_at_collection": "yes", "optout_offered_at_collection": "yes"},
            (True, "CONSENT-5", None),
        ),
    ],
)  # fmt: skip
def test_the_rule_is_named(world: World, row: dict[str, str], rule: tuple[bool, str, str | None]) -> None:
    world.give(**row)
    world.now += 3 * DAY
    assert judged(proof(world)) == rule
    world.call("policy.mode", tenant="shop", policy="consent", settings={"double_optin": []})
    world.call("tenant.set", name="shop", allow_soft_optin=False)
    assert judged(proof(world))[2] != "consent.single_optin", "by the tenant's own settings"
    assert proof(world)["judgements"][0]["why"] is None or "{" not in proof(world)["judgements"][0]["why"]["nl"]


def test_a_rule_that_only_watched_let_mail_go(world: World) -> None:
    world.give(jurisdiction="DE")
    world.call("policy.mode", tenant="shop", policy="consent", mode="observe")
    (one,) = proof(world)["judgements"]
    assert (one["counts"], one["mailed"], one["mode"], one["rule"]) == (False, True, "observe", "CONSENT-8")


def test_the_hashes_can_be_checked_by_anybody(world: World) -> None:
    """CONSENT-14: with what the proof says and nothing else."""
    world.give(email="bob@example.net")
    world.give()
    found = proof(world)
    (event,) = found["events"]
    place = struct.pack("!QQ", found["tenant_id"], event["event_id"])
    parts = bytes.fromhex(event["prev_hash"]) + place + bytes.fromhex(event["content_hash"])
    assert hashlib.sha256(parts).hexdigest() == event["hash"] == found["head"]["hash"]
    assert (event["schema_version"], len(event["record_id"])) == (1, 32)


def test_who_looked_is_in_the_audit_without_the_address(world: World) -> None:
    """GDPR-2."""
    world.give()
    world.owner.call("consent.proof", {"tenant": "shop", "address": ANN}, actor="operator:eve")
    world.owner.call("consent.export", {"tenant": "shop"}, actor="api:tool")
    with world.owner._engine.connect() as connection:
        rows = connection.execute(sa.select(schema.audit).order_by(schema.audit.c.id)).all()[-2:]
    assert [(row.actor, row.op, row.tenant_id) for row in rows] == [
        ("operator:eve", "consent.proof", 1),
        ("api:tool", "consent.export", 1),
    ]
    assert json.loads(rows[0].detail)["subject"] == proof(world)["subject"] and "ann" not in rows[0].detail


def test_a_proof_of_another_tenant_s_person_says_nothing(world: World) -> None:
    world.give()
    world.call("tenant.add", name="other", language="en")
    found = world.call("consent.proof", tenant="other", address=ANN)
    assert (found["states"], found["judgements"], found["suppressions"], found["events"], found["head"]) == (
        [],
        [],
        [],
        [],
        None,
    )
    with pytest.raises(OwnerError):
        world.call("consent.proof", tenant="nobody", address=ANN)


# -- the page ---------------------------------------------------------------------------------------------------------

REMOTE = re.compile(r"""(?:src|href|action|srcset|data)\s*=|url\(|@import|<script|<link|<iframe|<img""", re.I)


@pytest.mark.parametrize(("language", "word"), [("nl", "Bewijs van toestemming"), ("en", "Proof of consent")])
def test_the_page_has_everything_and_fetches_nothing(world: World, language: str, word: str) -> None:
    world.call("tenant.set", name="shop", language=language)
    world.give(
        evidence_ip="192.0.2.1", text='<img src="https://evil.example/x"> & ja', source="<script>alert(1)</script>"
    )
    world.now += DAY
    world.call("consent.withdraw", tenant="shop", address=ANN)
    found = proof(world)
    page = proof_page.render(found)
    assert f'<html lang="{language}">' in page and word in page
    assert "@page" in page and "@media print" in page
    assert not REMOTE.search(re.sub(r"&lt;.*?&gt;", "", page)), "what is written in a record is text"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "&lt;img src=" in page
    for value in (
        ANN,
        "Shop BV",
        "192.0.2.1",
        "CONSENT-11",
        "2026-01-03 10:00:00 UTC",
        *(e["hash"] for e in found["events"]),
    ):
        assert value in page, value


def test_the_page_of_somebody_erased_or_unknown(world: World) -> None:
    world.give()
    world.call("consent.erase", tenant="shop", address=ANN)
    found = proof(world)
    page = proof_page.render({**found, "address": "-"})
    assert found["events"][0]["personal"] is None and ANN not in page
    assert "Er is niets vastgelegd." in proof_page.render(proof(world, "nobody@example.net"))


def test_both_languages_of_the_page_have_the_same_texts() -> None:
    texts = tomllib.loads((proof_page.HERE / "proof.toml").read_text("utf-8"))
    assert list(texts["nl"]) == list(texts["en"])
    for key, text in texts["nl"].items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", texts["en"][key])), key
    template = (proof_page.HERE / "templates" / "proof.html").read_text("utf-8")
    assert set(re.findall(r'said\("(\w+)"', template)) <= set(texts["nl"])


def test_a_past_date_is_judged_by_what_was_set_for_the_tenant_then(world: World) -> None:
    """What is set today changes nothing of what counted, and of what counts from today on it does (GDPR-18)."""
    world.give(controller="Shop BV")
    then = proof(world, at=day(0))
    world.now += 10 * DAY
    world.call("tenant.set", name="shop", legal_name="Shop Holding BV")
    world.call("policy.mode", tenant="shop", policy="consent", mode="observe")
    world.now += DAY
    assert judged(proof(world, at=day(0))) == judged(then) == (True, "CONSENT-1", None)
    assert [one["mode"] for one in proof(world, at=day(0))["judgements"]] == ["enforce"]
    assert judged(proof(world))[2] == "consent.other_controller"
    assert [one["mode"] for one in proof(world)["judgements"]] == ["observe"]


def test_settings_of_then_that_no_policy_knows_are_those_of_now(world: World) -> None:
    world.give()
    document = schema.instruction.c.document
    with world.owner._engine.begin() as connection:
        said = json.loads(connection.scalar(sa.select(document).order_by(schema.instruction.c.version.desc()).limit(1)))
        said["policies"] = [{"policy": "consent", "stream": "", "mode": "", "settings": {"of_long_ago": True}}]
        connection.execute(schema.instruction.update().values(document=json.dumps(said)))
    assert judged(proof(world)) == (True, "CONSENT-1", None)
