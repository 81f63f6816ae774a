"""One's own export is an import: the same states elsewhere, nobody who left comes back, and what is left out is told."""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from relay.consent import admit
from relay.consent.importer import read
from relay.consent.rows import COLUMNS, harmless
from relay.consent.states import FIELDS
from tests.contract.conftest import START, World

THIRD = {"provenance": "third_party", "supplier": "List BV", "contract_ref": "C-1", "third_party_named": "yes"}
SALE = {
    "basis": "soft_optin", "sale_ref": "order 7", "sale_at": "2026-01-01T09:00:00.25Z", "sale_kind": "paid",
    "product_category": "tuin", "informed_at_collection": "yes", "optout_offered_at_collection": "ja",
}  # fmt: skip
DOUBLE = {
    "method": "double_optin", "confirmed_at": "2025-06-01T10:05:00.123456+02:00", "doi_sent_at": "2025-06-01T10:00:05+02:00",
    "doi_message_id": "<1@shop.example>", "given_at": "2025-06-01T10:00:00+02:00",
}  # fmt: skip
PEOPLE: list[dict[str, str]] = [
    {"email": "ann@example.net"},
    {"email": "Ann+Tag@Example.NET", "purpose": "offers", "text": 'Ja,\n"graag"; \t en é\r\nmeer', "source": "=1+1"},
    {"email": "bob@example.net", **SALE},
    {"email": "cas@example.net", **DOUBLE},
    {"email": "cas@example.net", "given_at": "2026-01-01T09:00:00Z"},  # a later single opt-in takes nothing away
    {"email": "dee@example.net", "evidence_ip": "192.0.2.1", "evidence_user_agent": "'=B", "expires_at": "2030-01-01T00:00:00Z"},
    {"email": "eve@example.net", **THIRD, "controller": "List BV", "sensitive_audience": "yes", "jurisdiction": "BE-VLG"},
    {"email": "old@example.net", "given_at": "2025-02-01T10:00:00Z"},
    {"email": "old@example.net", "given_at": "2025-01-01T10:00:00Z", "text": "an older one, kept as proof"},
]  # fmt: skip


def exported(world: World, limit: int = 1_000) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    rows, left_out, after = [], [], 0
    while after is not None:
        page = world.call("consent.records", tenant="shop", after=after, limit=limit)
        rows += page["rows"]
        left_out += page["left_out"]
        after = page["next"]
    return rows, left_out


def through_a_file(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    found = list(read(io.BytesIO(text.getvalue().encode())))
    assert not any(batch.refused for batch in found)
    return [row for batch in found for row in batch.rows]


def states(world: World) -> list[tuple[object, ...]]:
    """Everything of every state but the key, the sequence and the mark of the row."""
    path = world.settings.storage.database.removeprefix("sqlite:///")
    names = [name for name in FIELDS if name != "event"]
    with sqlite3.connect(path) as connection:
        return sorted(connection.execute(f"SELECT {', '.join(names)} FROM consent_state"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> World:
    folder = tmp_path / "elsewhere"
    (folder / "data").mkdir(parents=True)
    made = World(folder, f"sqlite:///{folder}/data/zegel.db")
    made.shop()
    made.call("tenant.set", name="shop", allow_third_party=True)
    yield made
    made.owner.close()


@pytest.mark.parametrize("limit", [1, 3, 1_000])
def test_an_export_makes_the_same_states_elsewhere(world: World, elsewhere: World, limit: int) -> None:
    world.call("tenant.set", name="shop", allow_third_party=True)
    assert world.load(*(world.row(**changes) for changes in PEOPLE))["refused"] == 0
    rows, left_out = exported(world, limit)
    assert (len(rows), left_out) == (len(PEOPLE), [])
    assert elsewhere.load(*through_a_file(rows))["refused"] == 0
    assert states(elsewhere) == states(world) and len(states(world)) == 7
    again, _ = exported(elsewhere)
    assert again == rows, "and its own export is the same file"
    for world_ in (world, elsewhere):
        assert world_.call("consent.verify", tenant="shop")["ok"] is True


def test_an_export_back_into_itself_changes_nothing(world: World) -> None:
    world.load(world.row(), world.row(email="bob@example.net", **SALE))
    before = states(world)
    answer = world.load(*through_a_file(exported(world)[0]))
    assert (answer["imported"], answer["unchanged"], answer["refused"]) == (2, 2, 0)
    assert states(world) == before and world.call("consent.verify", tenant="shop")["events"] == 2


def test_a_file_of_before_is_known_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were taken in when only the very same words made the same record."""
    monkeypatch.setattr(admit, "_proof_texts", lambda record, as_now=admit._proof_texts: as_now(record)[1:])
    world.load(world.row(given_at="2026-01-01T11:00:00+01:00"))
    monkeypatch.undo()
    assert world.load(world.row(given_at="2026-01-01T11:00:00+01:00"))["unchanged"] == 1
    assert world.load(world.row(given_at="2026-01-01T11:00:01+01:00"))["unchanged"] == 0


def test_nobody_who_left_is_in_it(world: World, elsewhere: World) -> None:
    """CONSENT-11, GDPR-8, GDPR-9: a file has no word for an objection, so it may not hold who made one."""
    for name in ("stays", "left", "objected", "restricted", "erased", "asked"):
        if name != "asked":
            world.give(email=f"{name}@example.net")
    world.now = START + 60
    world.call("consent.withdraw", tenant="shop", address="left@example.net", purpose="newsletter")
    world.call("suppression.add", tenant="shop", address="objected@example.net")
    world.call("suppression.add", tenant="shop", address="restricted@example.net", reason="restriction")
    world.call("consent.erase", tenant="shop", address="erased@example.net")
    world.call("consent.request", tenant="shop", address="asked@example.net", purpose="newsletter")
    rows, left_out = exported(world)
    assert [row["email"] for row in rows] == ["stays@example.net"]
    assert left_out == [{"field": "email", "reason": "is restricted", "records": 1}]


def test_a_record_that_the_import_would_refuse_is_told(world: World) -> None:
    """A confirmation over our own link has no country on record; an export that hid it would lose people."""
    asked = world.call("consent.request", tenant="shop", address="ann@example.net", purpose="newsletter")
    world.call("consent.confirm", token=asked["token"])
    world.give(email="bob@example.net")
    rows, left_out = exported(world)
    assert [row["email"] for row in rows] == ["bob@example.net"]
    assert sum(row["records"] for row in left_out) == 1 and left_out[0]["reason"].startswith("is missing")


def test_a_consent_given_again_after_an_end_is_exported_without_the_one_before(world: World) -> None:
    """Its person confirmed anew: the old yes ended and may not be revived elsewhere."""
    world.give(text="the old yes")
    world.now = START + 60
    world.call("consent.withdraw", tenant="shop", address="ann@example.net", purpose="newsletter")
    world.now = START + 120
    asked = world.call("consent.request", tenant="shop", address="ann@example.net", purpose="newsletter")
    world.call("consent.confirm", token=asked["token"])
    world.now = START + 180
    world.give(text="the new yes", given_at="2026-01-02T10:02:30Z")
    rows, _ = exported(world)
    assert [row["text"] for row in rows] == ["the new yes"]
