"""Each tenant's chain verifies, and whatever is changed in it, or taken out of it without a word, is named (CONSENT-14)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from relay.consent.ledger import GENESIS, chain_hash
from relay.consent.record import parse_time
from relay.owner import Owner
from relay.portal import proof_page
from relay.store import migrate, schema
from tests.contract.conftest import World

ANN, BOB, CAS = "ann@example.net", "bob@example.net", "cas@example.net"
DAY = 86_400
NOT_EVIDENCE = {
    ("consent_text", "first_seen_at"): "when a text came in; what is proven is in the event that names it",
    ("subject", "erased_at"): "the event of the erasure has the time",
}


def date(text: str) -> float:
    return parse_time(f"{text}T00:00:00Z") or 0.0


def change(world: World, statement: str, *values: object) -> None:
    with sqlite3.connect(world.settings.storage.database.removeprefix("sqlite:///")) as connection:
        connection.execute("PRAGMA foreign_keys = off")
        connection.execute(statement, values)
    connection.close()


def read(world: World, statement: str, *values: object) -> Any:
    with sqlite3.connect(world.settings.storage.database.removeprefix("sqlite:///")) as connection:
        found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


def verify(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.call("consent.verify", tenant="shop")
    return found


@pytest.fixture
def ledger(world: World) -> World:
    """Everything that may be gone is gone from some event: evidence, content, one spelling, a person."""
    world.now = date("2020-01-02")
    world.give(email="old@example.net", given_at="2019-06-01T10:00:00Z")
    world.now = date("2025-03-01")
    world.call("consent.withdraw", tenant="shop", address="old@example.net", purpose="newsletter")
    world.give(email=ANN, given_at="2025-02-01T00:00:00Z", evidence_ip="192.0.2.1")
    world.give(email=CAS, given_at="2025-02-01T00:00:00Z")
    world.call("consent.erase", tenant="shop", address=CAS)
    while world.call("retention.run")["more"]:
        pass
    world.now = date("2026-01-02")
    world.give(email=BOB, given_at="2026-01-01T00:00:00Z", evidence_ip="192.0.2.1", text="Ja, graag")
    return world


def _changed(old: Any) -> Any:
    if isinstance(old, bytes):
        return bytes([old[0] ^ 1]) + old[1:] if old else b"x"
    return old + "x" if isinstance(old, str) else old + 1


HOW: dict[str, Callable[[Any], Any]] = {
    "changed": _changed,
    "emptied": lambda old: None,
    "of another kind": lambda old: "x" if not isinstance(old, str) else 7,
}
NULLABLE = {("consent_event", "sealed"), ("consent_event", "evidence"), ("subject", "wrapped")}


def _cases() -> list[tuple[str, str]]:
    tables = (schema.consent_event, schema.consent_text, schema.subject, schema.ledger_head)
    return [(table.name, column.name) for table in tables for column in table.columns]


def _where(table: str) -> str:
    """The row that is changed: of Bob, whose record is whole."""
    last = "(SELECT max(seq) FROM consent_event WHERE tenant_id = 1)"
    return {
        "consent_event": f"seq = {last}",
        "consent_text": "text = 'Ja, graag'",
        "subject": f"id = (SELECT subject_id FROM consent_event WHERE seq = {last})",
        "ledger_head": "tenant_id = 1",
    }[table]


@pytest.mark.parametrize(("table", "column"), _cases())
@pytest.mark.parametrize("how", HOW)
def test_a_changed_byte_is_named_or_the_column_is_no_evidence(ledger: World, table: str, column: str, how: str) -> None:
    assert verify(ledger)["ok"]
    key = [own.name for own in schema.metadata.tables[table].primary_key]
    ((old, *place),) = read(ledger, f"SELECT {column}, {', '.join(key)} FROM {table} WHERE {_where(table)}")
    new = HOW[how](old)
    if new == old or (how == "emptied" and (table, column) not in NULLABLE):
        return
    where = " AND ".join(f"{name} = ?" for name in key)
    try:
        change(ledger, f"UPDATE {table} SET {column} = ? WHERE {where}", new, *place)
    except sqlite3.IntegrityError:  # a number of a row is a number
        return
    found = verify(ledger)
    if (table, column) in NOT_EVIDENCE:
        assert found["ok"], "say in NOT_EVIDENCE only what is true"
        return
    assert not found["ok"] and found["event"] >= 1 and found["reason"], (table, column)


def test_whatever_went_was_told_in_the_chain(ledger: World) -> None:
    ledger.now = date("2030-01-01")
    while ledger.call("retention.run")["more"]:
        pass
    found = verify(ledger)
    assert found["ok"], found
    told = [event for event in ledger.call("consent.export", tenant="shop")["events"] if event["event"] == "expired"]
    assert {event["what"] for event in told} >= {"content", "evidence"}
    assert all((event["recorded_by"], event["personal"]) == ("gateway", None) for event in told)
    at = told[0]["event_id"]
    change(ledger, "UPDATE consent_event SET expired_at = 1, clear = '' WHERE seq = ?", at)
    assert not verify(ledger)["ok"], "nor does that event go"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("expired_at = 1", "still has content"),
        ("expired_at = 1, clear = '', sealed = NULL, evidence = NULL", "its content is gone"),
        ("expired_at = 1, event = 'given', recorded_by = 'forger'", "still has content"),
        ("evidence = NULL", "its evidence is gone"),
        ("sealed = NULL", "its sealed part is gone"),
    ],
)
def test_an_event_that_went_without_a_word_is_named(ledger: World, how: str, reason: str) -> None:
    ledger.call("consent.withdraw", tenant="shop", address=BOB, purpose="newsletter")
    ((number,),) = read(ledger, "SELECT max(seq) FROM consent_event WHERE evidence IS NOT NULL")
    change(ledger, f"UPDATE consent_event SET {how} WHERE seq = ?", number)
    found = verify(ledger)
    assert (found["ok"], found["event"], reason in found["reason"]) == (False, number, True), found
    if "expired_at" in how:
        assert ledger.refused("consent.proof", tenant="shop", address=BOB) == "ledger.broken"


def test_of_an_event_that_expired_only_its_place_is_shown(ledger: World) -> None:
    """Whatever its columns say now, nobody vouches for it."""
    number = read(ledger, "SELECT min(seq) FROM consent_event WHERE expired_at > 0")[0][0]
    change(ledger, "UPDATE consent_event SET event = 'forged', recorded_by = 'forger' WHERE seq = ?", number)
    found = ledger.call("consent.proof", tenant="shop", address="old@example.net")
    (gone,) = [event for event in found["events"] if event.get("expired_at")]
    assert {name for name, value in gone.items() if value is not None} == {
        "event_id", "expired_at", "prev_hash", "content_hash", "hash",
    }  # fmt: skip
    page = proof_page.render(found)
    assert "forg" not in str(found) and "forg" not in page and "None" not in page
    assert "forg" not in str(ledger.call("consent.export", tenant="shop"))


def test_false_words_are_not_shown(ledger: World) -> None:
    change(ledger, "UPDATE consent_text SET text = 'Ja, mail mij alles' WHERE text = 'Ja, graag'")
    (event,) = ledger.call("consent.proof", tenant="shop", address=BOB)["events"]
    assert event["text"] is None and "its text was changed" in verify(ledger)["reason"]


def test_the_key_of_another_who_has_the_same_hash_is_missed(world: World) -> None:
    """Erased and come back: one erasure answers for one key."""
    world.give()
    world.call("consent.erase", tenant="shop", address=ANN)
    asked = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")
    world.now += DAY
    world.call("consent.confirm", token=asked["token"])
    assert verify(world)["ok"]
    change(world, "UPDATE subject SET wrapped = NULL")
    assert "the key of its person is gone" in verify(world)["reason"]


def _proven(world: World, address: str) -> str:
    started = world.call("mydata.start", tenant="shop", address=address)
    return str(world.call("mydata.prove", asked=started["asked"], code=started["code"])["proof"])


def test_the_erasure_of_one_spelling_answers_for_no_key(world: World) -> None:
    world.give(email="jan@example.net")
    world.give(email="jan+x@example.net")
    world.call("mydata.erase", proof=_proven(world, "jan+x@example.net"))
    assert verify(world)["ok"], verify(world)
    change(world, "UPDATE subject SET wrapped = NULL")
    assert "the key of its person is gone" in verify(world)["reason"]


def test_a_person_under_two_keys_is_erased_under_both(world: World) -> None:
    """The second subject comes of a link that knows one hash only."""
    world.give()
    world.call("keys.rotate", kind="hash")
    world.now += 5
    digest = world.keyring.subject_hashes("s\x001\x00" + ANN)[0]
    change(
        world,
        "INSERT INTO subject (id, tenant_id, hash, key_id, wrapped) SELECT 99, 1, ?, key_id, wrapped FROM subject",
        digest,
    )
    world.call("consent.erase", tenant="shop", address=ANN)
    found = verify(world)
    assert found["ok"], found
    assert read(world, "SELECT count(*) FROM subject WHERE wrapped IS NOT NULL")[0][0] == 0


def test_a_ledger_of_before_verifies_after_the_upgrade(ledger: World) -> None:
    """What had gone by then is told once, by the upgrade; what goes without a word after it is named."""
    for address in ("jan@example.net", "jan+x@example.net"):
        ledger.give(email=address)
    ledger.call("mydata.erase", proof=_proven(ledger, "jan+x@example.net"))
    ledger.now = date("2030-05-01")
    while ledger.call("retention.run")["more"]:
        pass
    ledger.give(email="new@example.net")
    told = [event for event in ledger.call("consent.export", tenant="shop")["events"] if event["event"] == "expired"]
    assert {event["what"] for event in told} == {"content", "evidence", "personal", "keys"}
    assert verify(ledger)["ok"]
    ledger.owner.close()
    _as_before(ledger)
    ledger.owner = Owner.open(ledger.settings, ledger.keyring, now=lambda: ledger.now)
    found = verify(ledger)
    assert found["ok"] and found["expired"] >= 1, found
    events = ledger.call("consent.export", tenant="shop")["events"]
    assert [(event["event"], event["recorded_by"]) for event in events[-1:]] == [("expired", "gateway")]
    change(ledger, "UPDATE consent_event SET sealed = NULL WHERE sealed IS NOT NULL")
    assert not verify(ledger)["ok"]


def _as_before(world: World) -> None:
    """Take the events of the gateway out, and write the chain anew without them, as the version before had it."""
    engine = sa.create_engine(world.settings.storage.database)
    with engine.begin() as connection:
        command.downgrade(migrate.config(connection), "0018")
    engine.dispose()
    with sqlite3.connect(world.settings.storage.database.removeprefix("sqlite:///")) as connection:
        connection.execute("PRAGMA foreign_keys = off")
        connection.execute("DELETE FROM consent_event WHERE event = 'expired'")
        connection.execute("DELETE FROM subject WHERE key_id = 0")
        rows = connection.execute("SELECT seq, content_hash FROM consent_event ORDER BY seq").fetchall()
        previous = GENESIS
        for number, (seq, content) in enumerate(rows, 1):
            digest = chain_hash(previous, 1, number, content=content)
            connection.execute(
                "UPDATE consent_event SET seq = ?, prev_hash = ?, hash = ? WHERE seq = ?",
                (number, previous, digest, seq),
            )
            previous = digest
        connection.execute("UPDATE ledger_head SET seq = ?, hash = ?", (len(rows), previous))
    connection.close()
