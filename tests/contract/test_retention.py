"""What has had its time goes, by the operator's period or a shorter one that the tenant chose, in batches and by an index."""

from __future__ import annotations

import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import relay.store
from relay import store
from relay.owner import retention
from relay.owner.periods import KINDS, NO_PERIOD
from relay.store import schema
from tests.contract.conftest import World

DAY = 86_400
MAP = tomllib.loads((Path(relay.store.__file__).parent / "datamap.toml").read_text())


def test_every_class_of_the_data_map_has_a_job_or_says_why_not() -> None:
    """GDPR-11."""
    assert set(MAP["retention"]) == (set(KINDS) | set(NO_PERIOD))


def test_a_tenant_chooses_less_and_never_more(world: World) -> None:
    """GDPR-13."""
    world.call("tenant.add", name="kerk")
    for tenant in ("shop", "kerk"):
        world.call("suppression.add", tenant=tenant, address="ann@example.net", reason="bounce")
    for days in (91, 3_650):
        assert world.refused("retention.set", tenant="shop", kind="bounce", days=days) == "retention.too_long"
    assert world.refused("retention.set", tenant="shop", kind="bounce", days=0) == "args.number"
    assert world.refused("retention.set", tenant="shop", kind="audit", days=7) != "", "that is the operator's"
    world.call("retention.set", tenant="shop", kind="bounce", days=7)
    assert world.call("retention.chosen", tenant="shop")[0]["days"] == 7
    assert [row["op"] for row in world.call("audit.list")].count("retention.set") == 1, "and it is in the audit"
    world.now += 6 * DAY
    assert world.call("retention.run")["bounces"] == 0
    world.now += 2 * DAY
    assert world.call("retention.run")["bounces"] == 1
    assert (
        world.call("suppression.list", tenant="shop") == [] and len(world.call("suppression.list", tenant="kerk")) == 1
    )
    world.call("retention.set", tenant="shop", kind="bounce")
    assert world.call("retention.chosen", tenant="shop") == []


def test_the_operator_may_keep_less_than_a_tenant_chose(world: World) -> None:
    world.call("suppression.add", tenant="shop", address="ann@example.net", reason="bounce")
    world.call("retention.set", tenant="shop", kind="bounce", days=60)
    world.now += 31 * DAY
    assert world.call("retention.run", bounce_days=30)["bounces"] == 1


def test_each_run_takes_a_bounded_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 10)
    world.call("tenant.add", name="kerk")
    for tenant in ("shop", "kerk"):
        for number in range(8):
            ask = {"tenant": tenant, "address": f"p{number}@example.net", "reason": "bounce"}
            world.call("suppression.add", **ask)
    world.now += 91 * DAY
    first = world.call("retention.run")
    assert (first["bounces"], first["more"]) == (10, True)
    second = world.call("retention.run")
    assert (second["bounces"], second["more"]) == (6, False)


def test_it_never_reads_a_whole_table(world: World) -> None:
    """At ten million records an hourly look at all of them would be felt by everybody who leaves."""
    asked: list[tuple[str, Any]] = []
    engine = store.open(world.settings.storage.database)

    @sa.event.listens_for(sa.engine.Engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "DELETE", "UPDATE")):
            asked.append((statement, values))

    world.give(evidence_ip="192.0.2.1")
    world.call("suppression.add", tenant="shop", address="ann@example.net", reason="bounce")
    world.now += 800 * DAY
    asked.clear()
    world.call("retention.run")
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
    large = {"consent_event", "suppression", "told_outcome", "audit", "webhook_event", "idempotency", "confirm_request"}
    with closing(engine.raw_connection()) as raw:
        plans = {
            (statement, row[3])
            for statement, values in asked
            for row in raw.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        }
    engine.dispose()
    assert len(asked) > 10
    assert [plan for plan in plans if any(plan[1] == f"SCAN {table}" for table in large)] == []


def test_the_indexes_of_retention_hold_only_what_it_looks_for() -> None:
    where = {index.name: str(index.dialect_options["sqlite"]["where"]) for index in schema.consent_event.indexes}
    assert where["ix_consent_event_evidence"] == "evidence IS NOT NULL"
