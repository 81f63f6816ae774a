"""A tenant leaves the shared database: every table is decided about, row by row, and what stays is the proof (GDPR-18)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay.backup.forgotten import known, since
from relay.consent.erased import Deleted, Erased, write_down
from relay.mail.envelope import Stream
from relay.owner import departures, takeaway
from relay.owner.departures import KEPT, own_rows
from relay.store import schema
from tests.contract.conftest import World

NOBODYS = {"sub_processor"}
"""Tables that hold nothing of any tenant."""
STAYS = {
    "tenant", "purpose", "policy_mode", "subject", "consent_text", "consent_event", "consent_state", "ledger_head", "suppression",
    "retention_period", "audit",
}  # fmt: skip
"""Tables of which rows of a tenant outlast it, each with its reason in KEPT."""
TABLES = schema.metadata.sorted_tables


def test_every_table_is_a_tenants_or_named() -> None:
    """A new table is emptied by itself; one whose rows nobody can tell apart fails here."""
    assert {table.name for table in TABLES if own_rows(table, 1) is None} == NOBODYS
    assert set(KEPT) == STAYS
    assert all(len(kept.why) > 10 for kept in KEPT.values())


def test_every_table_of_a_tenant_is_taken_along_or_said_why_not() -> None:
    taken = {part.table.name for part in takeaway.PARTS.values()}
    assert taken.isdisjoint(takeaway.LEFT_OUT)
    assert taken | set(takeaway.LEFT_OUT) == {table.name for table in TABLES} - NOBODYS
    for name, part in takeaway.PARTS.items():
        assert set(part.hidden) <= set(part.table.c.keys()), name
        sealed = {
            column.name for column in part.table.c if column.name in ("sealed", "secret", "digest", "secret_before")
        }
        of_documents = part.table in (schema.instruction, schema.held_import)  # by which a version or a file is known
        assert of_documents or sealed <= set(part.hidden), name


def filled(world: World, name: str) -> int:
    """A tenant with something in most tables; its number."""
    number = int(world.call("tenant.add", name=name, legal_name=f"{name} BV", contact=f"office@{name}.example")["id"])
    world.call("purpose.add", tenant=name, name="newsletter")
    world.call("domain.add", tenant=name, domain=f"{name}.example", vouched=True)
    world.call("dkim.add", domain=f"{name}.example", vouched=True)
    for stream in Stream:
        world.call("credential.add", tenant=name, name=f"{name}-{stream}", stream=stream.value)
    world.call("apikey.add", tenant=name, name="crm")
    world.call("webhook.add", tenant=name, name="crm", url="https://crm.example/e", with_address=True)
    world.call("limit.set", tenant=name, name="messages_per_minute", value=9)
    world.call("retention.set", tenant=name, kind="evidence", days=30, most=700)
    world.call("retention.set", tenant=name, kind="bounce", days=30, most=90)
    for policy in ("consent", "leaks"):
        world.call("policy.mode", tenant=name, policy=policy, mode="observe")
    rows = [world.row(email=f"p{index}@{name}.example") for index in range(700)]
    for start in (0, 350):
        world.call("consent.import_rows", tenant=name, rows=rows[start : start + 350])
    for index in range(4):
        world.call("consent.withdraw", tenant=name, address=f"p{index}@{name}.example")
    for address in (f"p5@{name}.example", f"nobody@{name}.example"):
        world.call("suppression.add", tenant=name, address=address, reason="bounce")
    world.call("incident.open", tenant=name, kind="leak", summary="astray", addresses=[f"p1@{name}.example"])
    world.call("request.open", tenant=name, address=f"p1@{name}.example", kind="access")
    counted = [{"tenant_id": number, "rule": f"R-{index}", "kind": "refused", "count": 3} for index in range(600)]
    world.call("refusals.add", rows=counted)
    return number


def rows_of(world: World, number: int) -> dict[str, int]:
    """How many rows of each table are of a tenant, the row itself too."""
    counted: dict[str, int] = {}
    with world.owner._engine.connect() as connection:
        for table in TABLES:
            own = own_rows(table, number)
            if own is not None:
                counted[table.name] = connection.scalar(sa.select(sa.func.count()).select_from(table).where(own)) or 0
    return {name: count for name, count in counted.items() if count}


def leaves(world: World, name: str) -> int:
    """Deleted and emptied; in how many batches."""
    world.call("tenant.delete", name=name)
    batches = 1
    while world.call("tenant.empty", name=name)["more"]:
        batches += 1
    world.call("tenant.emptied", name=name)
    return batches


def test_what_stays_is_the_proof_and_no_address(world: World) -> None:
    number, other = filled(world, "kerst"), filled(world, "pasen")
    before, others = rows_of(world, number), rows_of(world, other)
    assert set(before) > STAYS and len(before) > 18, before
    events = world.call("consent.export", tenant="kerst", limit=1000)["events"]
    assert leaves(world, "kerst") > 2, "one batch to a commit"
    after = rows_of(world, number)
    assert set(after) == STAYS
    assert rows_of(world, other) == others, "nothing of another tenant"
    assert (after["consent_event"], after["suppression"], after["retention_period"]) == (before["consent_event"], 4, 1)
    assert after["subject"] == before["subject"] - 1, "who only bounced is in no proof"
    assert world.call("consent.export", tenant="kerst", limit=1000)["events"] == events
    assert world.call("consent.verify", tenant="kerst")["ok"]
    assert {row["address"] for row in world.call("suppression.list", tenant="kerst")} == {None}
    with world.owner._engine.connect() as connection:
        row = connection.execute(sa.select(schema.tenant).where(schema.tenant.c.id == number)).one()
        told = list(connection.scalars(sa.select(schema.audit.c.op).where(schema.audit.c.tenant_id == number)))
    assert (row.name, row.contact, row.postal_address, row.suspended) == ("kerst", "", "", True)
    assert set(told) == {"tenant.delete", "tenant.emptied", "consent.export", "suppression.list"}, (
        "who looked at the proof since is told as well"
    )
    assert not (world.keyring.keys_dir / "dkim" / "kerst.example").exists()
    assert (world.keyring.keys_dir / "dkim" / "pasen.example").exists()


def test_a_deleted_tenant_is_known_by_its_number_only(world: World) -> None:
    number = filled(world, "kerst")
    assert world.directory().account("kerst-personal") is not None
    world.call("tenant.delete", name="kerst")
    account = world.directory().account("kerst-personal")
    assert account is not None and account.suspended, "who has logged in hears that he is suspended"
    leaves(world, "kerst")
    directory = world.directory()
    assert directory.account("kerst-personal") is None and directory.tenant("kerst") is None
    gone = directory.tenant_by_id(number)
    assert gone is not None and gone.suspended and directory.suspended_since(number, "kerst-personal") is not None
    world.call("refusals.add", rows=[{"tenant_id": number, "rule": "CC-1", "kind": "refused", "count": 3}])
    assert not world.call("refusal.first", tenant_id=number, rule="CC-1")["first"]
    said = {"kind": "tenant", "name": "kerst", "suspended": False, "at": world.now + 60.0}
    assert world.call("suspension.follow", rows=[said])["followed"] == 0, "another gateway cannot bring it back"
    assert set(rows_of(world, number)) == STAYS
    for op in (
        "consent.import_rows",
        "credential.list",
        "webhook.list",
        "tenant.export",
        "consent.withdraw",
        "limit.list",
    ):
        assert world.refused(op, tenant="kerst") == "tenant.deleted", op


@pytest.mark.parametrize("op", ["tenant.empty", "tenant.emptied"])
def test_nothing_of_a_tenant_that_stays_is_taken(world: World, op: str) -> None:
    assert world.refused(op, name="shop") == "tenant.stays"


def test_it_is_not_said_to_be_gone_before_it_is(world: World) -> None:
    filled(world, "kerst")
    first = world.call("tenant.delete", name="kerst")
    world.now += 60.0
    assert world.call("tenant.delete", name="kerst") == first, "again says the same"
    assert world.refused("tenant.emptied", name="kerst") == "tenant.not_empty"
    assert [row["name"] for row in world.call("tenant.leaving")] == ["kerst"]
    leaves(world, "kerst")
    assert world.call("tenant.leaving") == []
    assert world.call("tenant.empty", name="kerst") == {"gone": {}, "more": False, "next": 0.0}


def test_the_period_that_it_chose_for_evidence_outlasts_it(world: World) -> None:
    """GDPR-13: without it IP addresses in its proof would be kept for longer than it had promised."""
    number = filled(world, "kerst")
    leaves(world, "kerst")
    assert departures.KEPT["retention_period"].goes is not None
    with world.owner._engine.connect() as connection:
        table = schema.retention_period.c
        kinds = list(connection.scalars(sa.select(table.kind).where(table.tenant_id == number)))
    assert kinds == ["evidence"]


def test_the_list_for_a_restore_holds_both_kinds(tmp_path: Path) -> None:
    person, tenant = Erased(1, "shop", 50.0, ["ab"], [1], [2]), Deleted(2, "kerst", 60.0)
    write_down(tmp_path, [person, tenant, tenant])
    gone = known(tmp_path / "erased.jsonl")
    assert (gone.people, gone.tenants) == ([person], [tenant])
    assert since(gone, 115.0) == ([], [tenant])


def test_pages_of_an_archive_join_up(world: World) -> None:
    filled(world, "kerst")
    filled(world, "pasen")
    found: list[dict[str, Any]] = []
    args: dict[str, Any] = {"tenant": "kerst", "part": "audit", "limit": 7}
    page = world.call("tenant.export", **args)
    found += page["rows"]
    while page["next"] is not None:
        page = world.call("tenant.export", **args, after=page["next"])
        found += page["rows"]
    numbers = [row["id"] for row in found]
    assert numbers == sorted(set(numbers)) and len(numbers) > 20
    assert "tenant.export" in {row["op"] for row in found}, "and that it was taken along"
    assert "pasen" not in str(found)
    for name in takeaway.PARTS:
        rows = world.call("tenant.export", tenant="kerst", part=name)["rows"]
        assert "pasen" not in str(rows), name
