"""What the shared database knows for the register: versions of instructions, sub-processors, controllers (GDPR-16 to GDPR-18)."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from relay import store
from relay.owner.instructions import INSTRUCTING
from relay.owner.registry import OPERATIONS
from relay.store import schema
from tests.contract.conftest import START, World

DAY = 86_400.0
HELP = {"name": "Backup BV", "service": "stores backups", "country": "DE"}


def versions(world: World, tenant: str = "shop") -> list[tuple[int, str]]:
    return [(row["version"], row["op"]) for row in world.call("instruction.list", tenant=tenant)]


def test_each_change_of_the_settings_is_a_version(world: World) -> None:
    assert versions(world) == [(3, "purpose.add"), (2, "purpose.add"), (1, "tenant.add")]
    world.now += DAY
    world.call("policy.mode", tenant="shop", policy="recipients", mode="observe")
    world.call("limit.set", tenant="shop", name="recipients_per_message", value=50)
    world.call("domain.add", tenant="shop", domain="shop.example", vouched=True)
    world.call("credential.add", tenant="shop", name="news", stream="marketing", purpose="newsletter")
    world.call("webhook.add", tenant="shop", name="crm", url="https://crm.example.org/hook/s3cret")
    world.call("tenant.set", name="shop", sensitive_audience=True)
    assert [op for _, op in versions(world)][:6] == [
        "tenant.set", "webhook.add", "credential.add", "domain.add", "limit.set", "policy.mode",
    ]  # fmt: skip
    (last, *_) = world.call("instruction.list", tenant="shop")
    assert (last["version"], last["at"], last["by"]) == (9, START + DAY, "operator")
    said = world.call("instruction.show", tenant="shop")["document"]
    assert said["webhooks"] == [{"name": "crm", "host": "crm.example.org", "events": [], "with_address": False}]
    assert said["policies"][0]["policy"] == "recipients" and said["controller"]["sensitive_audience"] is True
    assert said["controller"]["allow_soft_optin"] is True and said["periods"] == []
    world.call("retention.set", tenant="shop", kind="bounce", days=30)
    after = world.call("instruction.show", tenant="shop")
    assert (after["version"], after["document"]["periods"]) == (10, [{"kind": "bounce", "days": 30}])
    assert b"s3cret" not in orjson.dumps(said)
    before = world.call("instruction.show", tenant="shop", version=3)["document"]
    assert before["policies"] == [] and before["controller"]["sensitive_audience"] is False
    assert world.refused("instruction.show", tenant="shop", version=11) == "instruction.unknown"


def test_the_hash_is_that_of_what_it_says(world: World) -> None:
    found = world.call("instruction.show", tenant="shop")
    document = orjson.dumps(found["document"], option=orjson.OPT_SORT_KEYS)
    assert found["sha256"] == hashlib.sha256(document).hexdigest()


def test_what_changes_nothing_is_no_version(world: World) -> None:
    count = len(versions(world))
    world.call("tenant.set", name="shop", legal_name="Shop BV")
    world.call("policy.mode", tenant="shop", policy="recipients", mode="observe")
    world.call("policy.mode", tenant="shop", policy="recipients", mode="observe")
    world.call("tenant.set", name="shop", contact="privacy@shop.example")
    world.call("credential.add", tenant="shop", name="one", stream="personal")
    world.call("credential.add", tenant="shop", name="two", stream="personal")
    assert len(versions(world)) == count + 2, "a mode, and a kind of login"
    world.call("tenant.suspend", name="shop", reason="abuse")
    assert len(versions(world)) == count + 2
    assert world.refused("policy.mode", tenant="shop", policy="recipients", mode="always") == "args.choice"


def test_a_change_that_is_refused_leaves_no_version(world: World) -> None:
    count = len(versions(world))
    assert world.refused("tenant.set", name="shop", kind="club") == "args.choice"
    assert world.refused("tenant.set", name="shop", kind="charity", what="x") == "args.unknown"
    assert len(versions(world)) == count


def test_the_operations_that_instruct_are_there() -> None:
    assert set(OPERATIONS) >= INSTRUCTING
    assert all(OPERATIONS[op].slots or OPERATIONS[op].writes for op in INSTRUCTING)


def test_a_tenant_from_before_there_were_versions_gets_its_first(world: World) -> None:
    world.owner.close()
    engine = store.open(world.settings.storage.database)
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.instruction))
    engine.dispose()
    world.owner = type(world.owner).open(world.settings, world.keyring, now=lambda: world.now)
    (one,) = world.call("register.show")["controllers"]
    assert one["instruction"]["version"] == 1 and versions(world) == [(1, "privacy.register")]
    world.call("register.show", tenant="shop")
    assert len(versions(world)) == 1


def test_a_sub_processor_begins_when_tenants_had_time_to_object(world: World) -> None:
    made = world.call("processor.add", **HELP)
    assert (made["state"], made["from_at"], made["in_eea"]) == ("announced", START + 30 * DAY, True)
    assert world.refused("processor.add", **HELP) == "processor.exists"
    early = {**HELP, "name": "Fast BV", "from_at": START + DAY}
    assert world.refused("processor.add", **early) == "processor.notice"
    assert world.call("processor.add", **early, without_notice="the disk failed")["without_notice"] == "the disk failed"
    assert world.call("processor.add", **{**HELP, "name": "Slow BV"}, notice_days=0)["state"] == "at work"
    world.now += 30 * DAY
    assert [row["state"] for row in world.call("processor.list")] == ["at work"] * 3
    ended = world.call("processor.end", name="Backup BV")
    assert ended["state"] == "ended" and len(world.call("processor.list")) == 2
    assert world.refused("processor.end", name="Backup BV") == "processor.unknown"
    assert [row["name"] for row in world.call("processor.list", state="all")] == ["Backup BV", "Fast BV", "Slow BV"]
    assert world.call("processor.add", **HELP)["state"] == "announced", "again, from the beginning"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"country": "US"}, "processor.ground"),
        ({"country": "us", "ground": "cheap: yes"}, "processor.ground"),
        ({"country": "US", "ground": "adequacy:"}, "processor.ground"),
        ({"country": "DE", "ground": "adequacy: x"}, "processor.ground"),
        ({"country": "USA"}, "processor.country"),
        ({"name": ""}, "args.missing"),
        ({"service": "a\nb"}, "args.control"),
    ],
)
def test_where_it_is_must_be_lawful(world: World, changes: dict[str, Any], code: str) -> None:
    assert world.refused("processor.add", **{**HELP, **changes}) == code
    assert world.call("processor.list", state="all") == []


def test_outside_of_the_eea_with_its_ground(world: World) -> None:
    made = world.call("processor.add", **{**HELP, "country": "us", "ground": "clauses: Decision (EU) 2021/914"})
    assert (made["country"], made["in_eea"], made["ground"]) == ("US", False, "clauses: Decision (EU) 2021/914")


def test_the_register_tells_of_one_controller_or_of_all(world: World) -> None:
    world.call("tenant.add", name="kerk", sensitive_audience=True)
    world.call("processor.add", **HELP)
    found = world.call("register.show")
    assert [one["name"] for one in found["controllers"]] == ["kerk", "shop"] and found["sub_processors"][0][
        "name"
    ] == "Backup BV"
    assert [one["has_legal_name"] for one in found["controllers"]] == [False, True]
    (one,) = world.call("register.show", tenant="kerk")["controllers"]
    assert one["name"] == "kerk" and world.refused("register.show", tenant="none") == "tenant.unknown"
    assert [row["tenant"] for row in world.call("audit.list") if row["op"] == "register.show"].count("kerk") == 1
