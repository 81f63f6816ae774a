"""What a tenant may record it may mail, and the other way round: one switch for each ground (CONSENT-5 to -9, decision 021)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from relay.store import migrate, schema
from tests.contract.conftest import World

SALE = {
    "basis": "soft_optin", "sale_ref": "order 7", "sale_at": "2025-12-01T09:00:00Z", "sale_kind": "paid",
    "product_category": "tuin", "informed_at_collection": "yes", "optout_offered_at_collection": "yes",
}  # fmt: skip
GROUNDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], str]] = {
    "a sale": ({"allow_soft_optin": True}, {"allow_soft_optin": False}, SALE, "consent.basis_not_allowed"),
    "a free account": (
        {"free_tier_reason": "who pays carries the cost"}, {"free_tier_reason": ""}, {**SALE, "sale_kind": "free_tier"},
        "consent.free_tier",
    ),
    "a bought address": (
        {"allow_third_party": True}, {"allow_third_party": False},
        {"provenance": "third_party", "supplier": "List BV", "contract_ref": "C-1", "third_party_named": "yes"},
        "consent.third_party",
    ),
    "a published address": (
        {"allow_published": True}, {"allow_published": False},
        {
            "basis": "published_for_marketing", "published_url": "https://firma.example/contact", "published_hash": "ab12",
            "published_at": "2026-01-01T00:00:00Z",
        },
        "consent.basis_not_allowed",
    ),
    "a company outside the EEA": (
        {"allow_non_eea": True}, {"allow_non_eea": False},
        {"basis": "non_eea_b2b", "country": "US", "local_rule": "CAN-SPAM"}, "consent.basis_not_allowed",
    ),
}  # fmt: skip


def judged(world: World) -> tuple[bool, str | None]:
    """What the policy says to a mail to her: whether it counts, else why not."""
    (found,) = world.call("consent.proof", tenant="shop", address="ann@example.net")["judgements"]
    return found["counts"], found["reason"]


@pytest.mark.parametrize("ground", GROUNDS)
def test_the_import_and_the_mail_have_one_switch(world: World, ground: str) -> None:
    on, off, row, reason = GROUNDS[ground]
    world.call("tenant.set", name="shop", **off)
    assert world.load(world.row(**row))["refused"] == 1
    world.call("tenant.set", name="shop", **on)
    assert world.load(world.row(**row))["imported"] == 1
    assert judged(world) == (True, None)
    world.call("tenant.set", name="shop", **off)
    assert judged(world) == (False, reason), "and switched off, what is on record does not count"


def test_a_new_tenant_has_the_exception_for_customers_and_no_other(world: World) -> None:
    assert world.directory().tenant("shop").grounds == {"consent", "soft_optin"}


BEFORE = [  # (settings of the policy for every stream, for marketing; properties before; after)
    ({"third_party": "accept"}, {}, {}, {"allow_third_party": True}),
    ({"third_party": "accept"}, {"third_party": "refuse"}, {"allow_third_party": True}, {"allow_third_party": False}),
    ({"free_tier_reason": "paid by others"}, {}, {}, {"free_tier_reason": "paid by others"}),
    ({}, {"bases": ["consent"]}, {"allow_published": True}, {"allow_soft_optin": False, "allow_published": False}),
    ({"bases": ["consent", "non_eea_b2b"], "confirm_mails": 1}, {}, {}, {"allow_soft_optin": False, "allow_non_eea": True}),
    ({"confirm_mails": 1}, {}, {"allow_third_party": True}, {"allow_third_party": True, "allow_soft_optin": True}),
]  # fmt: skip


@pytest.mark.parametrize(("every", "marketing", "properties", "after"), BEFORE)
def test_what_was_set_for_the_policy_is_taken_over(
    tmp_path: Path, every: dict[str, Any], marketing: dict[str, Any], properties: dict[str, Any], after: dict[str, Any]
) -> None:
    """A setting that the policy does not know any more would put off every mail of the tenant."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/before.db")
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0010")
        connection.execute(sa.insert(schema.tenant).values(id=1, name="shop", **properties))
        for stream, settings in (("", every), ("marketing", marketing)):
            if settings:
                row = {
                    "tenant_id": 1,
                    "policy": "consent",
                    "stream": stream,
                    "mode": "",
                    "settings": json.dumps(settings),
                }
                connection.execute(sa.insert(schema.policy_mode).values(**row))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        tenant = connection.execute(sa.select(schema.tenant)).one()._asdict()
        left = [json.loads(text) for text in connection.scalars(sa.select(schema.policy_mode.c.settings))]
    engine.dispose()
    assert {name: tenant[name] for name in after} == after
    assert left == [{"confirm_mails": 1}] * ("confirm_mails" in every), "and nothing that the policy would not read"


def test_no_row_claims_to_be_let_in_that_was_not(world: World) -> None:
    """CONSENT-7: what waits, was refused or belongs to somebody else opens nothing."""
    world.call("tenant.set", name="shop", allow_third_party=True)
    world.call("tenant.add", name="other", legal_name="Other BV")
    third = GROUNDS["a bought address"][2]
    rows = [world.row(email=f"p{number}@example.net", **third) for number in range(25)]
    digest = "ab" * 32
    asked = {"digest": digest, "rows": 25, "shared": 25, "shared_at": "2026-01-01T10:00:00Z"}
    assert world.call("consent.hold", tenant="shop", **asked) == {"import": digest[:12], "state": "waiting"}
    for released in (digest, "cd" * 32, "x"):
        args = {"tenant": "shop", "rows": rows, "released": released}
        assert world.refused("consent.import_rows", **args) == "import.held"
    world.call("consent.decide", tenant="shop", state="released", reason="seen", **{"import": digest})
    assert world.refused("consent.import_rows", tenant="other", rows=rows, released=digest) == "import.held"
    assert world.call("consent.import_rows", tenant="shop", rows=rows, released=digest)["imported"] == 25
    world.call("consent.decide", tenant="shop", state="refused", reason="seen better", **{"import": digest})
    assert world.refused("consent.import_rows", tenant="shop", rows=rows, released=digest) == "import.held"
    assert world.call("consent.hold", tenant="shop", **asked)["state"] == "refused", "what was said of it stays"
    ops = [row["op"] for row in world.call("audit.list", tenant="shop", limit=20)]
    assert {"consent.hold", "consent.decide"} <= set(ops)
