"""Invoice dates of mailings: set, seen with what the delivery log knows, and forgotten (GDPR-12, SEED-9)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from relay.mail.mailing import Mailing
from relay.owner.mailings import namer
from relay.spool.cipher import Cipher
from relay.spool.item import IdSource
from relay.store import migrate, schema
from relay.store.history import Event, History
from relay.store.mailings import Periods, forget
from tests.contract.conftest import START, World

DAY = 86_400.0


async def mailed(world: World, *mailings: Mailing, days: Sequence[float] = (0.0,)) -> None:
    cipher = Cipher(world.keyring.queue_keys, world.keyring.current_queue_key_id)
    for day in days:
        history = History(world.settings.server.data_dir / "history", "0", cipher.seal)
        history.start()
        for place, one in enumerate(mailings):
            at = START + day * DAY
            history.add(Event(IdSource(place).next(at), at, "accepted", {"tenant": one.tenant}, (place,), one))
        await history.stop()


def rows(world: World, tenant: str = "shop", **args: Any) -> dict[str, tuple[Any, ...]]:
    """Mails, invoice date and day of deletion, by name."""
    found = world.call("mailing.page", tenant=tenant, **args)["items"]
    return {row["mailing"]: (row["mails"], row["invoice_date"], row["delete_on"]) for row in found}


def invoiced(world: World, name: str, day: str, tenant: str = "shop") -> Any:
    return world.call("mailing.invoice", tenant=tenant, mailing=name, invoice_date=day)


async def test_a_date_moves_the_day_of_deletion_and_is_in_the_audit(world: World) -> None:
    await mailed(world, Mailing("shop", "spring sale"), days=(0.0, 1.0))
    assert rows(world) == {"spring sale": (2, None, "2026-01-31")}, "28 days after the last of it"
    assert invoiced(world, " spring   sale ", "2026-01-20") == {"mailing": "spring sale", "invoice_date": "2026-01-20"}
    invoiced(world, "spring sale", "2026-01-20")
    assert rows(world) == {"spring sale": (2, "2026-01-20", "2026-02-17")}
    assert rows(world, days=7) == {"spring sale": (2, "2026-01-20", "2026-01-27")}
    world.call("retention.set", tenant="shop", kind="campaign_addresses", days=3)
    assert rows(world) == {"spring sale": (2, "2026-01-20", "2026-01-23")}
    world.call("mailing.invoice", tenant="shop", mailing="spring sale")
    assert rows(world) == {"spring sale": (2, None, "2026-01-06")}
    said = [json.loads(row["detail"]) if isinstance(row["detail"], str) else row["detail"]
            for row in world.call("audit.list") if row["op"] == "mailing.invoice"]  # fmt: skip
    assert {"mailing": "spring sale", "invoice_date": "2026-01-20"} in said and len(said) == 3


def test_a_mailing_may_be_invoiced_before_it_goes(world: World) -> None:
    invoiced(world, "summer", "2026-02-01")
    assert rows(world) == {"summer": (0, "2026-02-01", None)}


async def test_two_tenants_use_one_name_and_know_nothing_of_each_other(world: World) -> None:
    world.call("tenant.add", name="kerk")
    await mailed(world, Mailing("shop", "news"), Mailing("kerk", "psalms"))
    invoiced(world, "news", "2026-01-05", tenant="kerk")
    assert rows(world) == {"news": (1, None, "2026-01-30")}
    assert rows(world, "kerk") == {"news": (0, "2026-01-05", None), "psalms": (1, None, "2026-01-30")}
    assert world.call("mailing.dates") == [{"tenant": "kerk", "mailing": "news", "invoice_date": "2026-01-05"}]


async def test_pages_by_name(world: World) -> None:
    await mailed(world, *(Mailing("shop", f"m{number}") for number in range(5)))
    first = world.call("mailing.page", tenant="shop", limit=3)
    rest = world.call("mailing.page", tenant="shop", limit=3, after=first["next"])
    assert [row["mailing"] for row in (*first["items"], *rest["items"])] == ["m0", "m1", "m2", "m3", "m4"]
    assert rest["next"] is None
    assert [row["mailing"] for row in world.call("mailing.page", tenant="shop", mailing="m3")["items"]] == ["m3"]


async def test_a_name_that_no_key_opens_keeps_nobody_from_being_forgotten(world: World, tmp_path: Path) -> None:
    """Nor the job from going on with the rest."""
    await mailed(world, Mailing("shop", "news"))
    (path,) = (world.settings.server.data_dir / "history").iterdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE mailing SET name=x'00'")
    assert rows(world) == {}
    periods = Periods(28, 92, {}, {})
    assert forget(path.parent, namer(world.keyring), periods, START + 27 * DAY) == 0
    assert forget(path.parent, namer(world.keyring), periods, START + 28 * DAY) == 1


def test_what_is_no_day_or_no_name_is_refused(world: World) -> None:
    for day in ("2026-02-30", "yesterday", "1999-12-31", "2026-2-1", "٢٠٢٦-٠١-٠١", "2026-01-01T00:00:00Z", "20260101"):
        assert world.refused("mailing.invoice", tenant="shop", mailing="x", invoice_date=day) == "mailing.date", day
    for name in ("ann@example.net", "ann＠example.net", "x" * 101, "a\u200bb"):
        assert (
            world.refused("mailing.invoice", tenant="shop", mailing=name, invoice_date="2026-01-01") == "mailing.name"
        )
    assert world.refused("mailing.invoice", tenant="shop", mailing="", invoice_date="2026-01-01") == "args.missing"
    assert world.call("mailing.dates") == []


def test_a_date_far_ahead_would_keep_people_for_long_and_is_refused(world: World) -> None:
    """GDPR-13: within the operator's limits."""
    invoiced(world, "x", "2026-04-04")
    assert world.refused("mailing.invoice", tenant="shop", mailing="x", invoice_date="2026-04-05") == "mailing.too_late"
    given = {"tenant": "shop", "mailing": "x", "invoice_days": 10}
    assert world.refused("mailing.invoice", **given, invoice_date="2026-01-13") == "mailing.too_late"
    world.call("mailing.invoice", **given, invoice_date="2026-01-12")


def test_a_date_goes_when_no_address_of_its_mailing_can_be_left(world: World) -> None:
    invoiced(world, "old", "2025-12-01")
    invoiced(world, "new", "2026-02-01")
    world.now = START + 119 * DAY
    assert world.call("retention.run")["mailings"] == 0
    world.now = START + 121 * DAY
    assert world.call("retention.run")["mailings"] == 1
    assert [row["mailing"] for row in world.call("mailing.dates")] == ["new"]
    assert world.call("retention.run", mailing_days=20)["mailings"] == 1


def test_who_kept_the_delivery_log_for_less_long_keeps_mailings_so_too(tmp_path: Path) -> None:
    """An upgrade keeps nobody's data for longer than before."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/before.db")
    kinds = schema.retention_period
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0015")
        connection.execute(sa.text("INSERT INTO tenant (id, name, created_at) VALUES (1, 'shop', 0), (2, 'kerk', 0)"))
        for tenant, kind, days in ((1, "delivery_log", 7), (1, "bounce", 30), (2, "bounce", 20)):
            connection.execute(sa.insert(kinds).values(tenant_id=tenant, kind=kind, days=days, changed_at=START))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        query = sa.select(kinds.c.tenant_id, kinds.c.kind, kinds.c.days)
        chosen = {(row.tenant_id, row.kind): row.days for row in connection.execute(query)}
    engine.dispose()
    assert chosen == {(1, "delivery_log"): 7, (1, "campaign_addresses"): 7, (1, "bounce"): 30, (2, "bounce"): 20}
