"""Lists and proofs of the API: pages that go on, cursors that nobody reads or lends, and a look that is written down."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.fakes.portal import OwnerGateway
from tests.relay.portal.test_api import GOOD, bearer

CONSENTS, STOPS = "/api/v1/consents?purpose=newsletter", "/api/v1/suppressions?"


@pytest.fixture
async def filled(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> dict[str, str]:
    """Five consents and three suppressions of the shop; its key."""
    shop = bearer(owned.api_keys["shop"])
    people = [GOOD | {"email": f"p{number}@example.net", "source": f"form {number}"} for number in range(5)]
    assert (await owned_web.post("/api/v1/consents", json=people, headers=shop)).status_code == 200
    for number in range(3):
        body = {"email": f"s{number}@example.net"}
        assert (await owned_web.post("/api/v1/suppressions", json=body, headers=shop)).status_code == 200
    return shop


async def walk(web: httpx.AsyncClient, path: str, noun: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    rows, cursor = [], ""
    for _ in range(9):
        answer = await web.get(f"{path}&limit=2&cursor={cursor}", headers=headers)
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store", answer.text
        rows += answer.json()[noun]
        cursor = answer.json().get("next", "")
        assert "example" not in cursor
        if not cursor:
            return rows
    raise AssertionError("it has no end")


async def test_pages_have_everybody(owned_web: httpx.AsyncClient, filled: dict[str, str]) -> None:
    people = await walk(owned_web, CONSENTS, "consents", filled)
    assert [row["email"] for row in people] == [f"p{number}@example.net" for number in range(5)]
    assert people[0]["given_at"] == "2026-01-02T10:00:00Z" and people[0]["status"] == "given"
    stops = await walk(owned_web, STOPS, "suppressions", filled)
    assert [row["email"] for row in stops] == [f"s{number}@example.net" for number in range(3)]
    assert stops[0]["reason"] == "objection" and stops[0]["scope"] == "all"


async def test_a_cursor_is_of_its_own_list_and_tenant(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, filled: dict[str, str]
) -> None:
    cursor = (await owned_web.get(f"{CONSENTS}&limit=2", headers=filled)).json()["next"]
    other = bearer(owned.api_keys["other"])
    flipped = ("A" if cursor[-2] != "A" else "B").join((cursor[:-2], cursor[-1]))
    for path, headers, given in (
        (CONSENTS, other, cursor),
        (STOPS, filled, cursor),
        ("/api/v1/consents?purpose=offers", filled, cursor),
        (CONSENTS, filled, flipped),
        (CONSENTS, filled, "x"),
        (CONSENTS, filled, "é"),
        (STOPS, filled, "AAAA" * 200),
    ):
        answer = await owned_web.get(f"{path}&limit=2&cursor={given}", headers=headers)
        assert answer.status_code == 422 and given not in answer.text, path
    assert (await owned_web.get(f"{CONSENTS}&limit=2&cursor={cursor}", headers=filled)).status_code == 200


async def test_a_list_of_what_is_not_there(owned_web: httpx.AsyncClient, filled: dict[str, str]) -> None:
    assert (await owned_web.get("/api/v1/consents?purpose=none", headers=filled)).status_code == 404
    assert (await owned_web.get("/api/v1/consents", headers=filled)).json()["errors"][0]["field"] == "purpose"
    assert (await owned_web.get(f"{STOPS}limit=201", headers=filled)).status_code == 422


async def test_purposes_and_domains_are_the_tenants_own(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, filled: dict[str, str]
) -> None:
    owned.owner.call("domain.add", {"tenant": "shop", "domain": "shop.example"})
    purposes = (await owned_web.get("/api/v1/purposes", headers=filled)).json()
    assert [row["name"] for row in purposes] == ["newsletter", "offers"] and purposes[0]["title_nl"] == "Tuinbrief"
    (domain,) = (await owned_web.get("/api/v1/domains", headers=filled)).json()
    assert (domain["domain"], domain["verified"]) == ("shop.example", False)
    assert domain["records"][0]["name"] == "_zegel.shop.example" and "tenant" not in domain
    other = bearer(owned.api_keys["other"])
    assert (await owned_web.get("/api/v1/domains", headers=other)).json() == []


async def test_a_proof_is_what_the_command_prints_and_is_written_down(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, filled: dict[str, str]
) -> None:
    ask = {"email": "p1@example.net", "purpose": "newsletter"}
    answer = await owned_web.post("/api/v1/proofs", json=ask, headers=filled)
    said: Any = owned.owner.call(
        "consent.proof", {"tenant": "shop", "address": "p1@example.net", "purpose": "newsletter"}
    )
    assert answer.status_code == 200 and answer.json()["events"] == said["events"]
    differs = {
        "address",
        "tenant",
        "tenant_id",
        "language",
        "at",
        "made_at",
        "made_by",
    }  # what was asked, by whom and when
    assert {name: answer.json()[name] for name in said.keys() - differs} == {
        name: said[name] for name in said.keys() - differs
    }
    assert [(one["purpose"], one["counts"], one["rule"]) for one in answer.json()["judgements"]] == [
        ("newsletter", True, "CONSENT-1")
    ]
    assert answer.json()["events"][0]["text"] == GOOD["text"] and answer.json()["states"] == said["states"]
    before = await owned_web.post("/api/v1/proofs", json=ask | {"at": "2026-01-01T00:00:00Z"}, headers=filled)
    assert before.json()["events"] == []
    with closing(sqlite3.connect(owned.folder / "zegel.db")) as database:
        rows = database.execute("SELECT detail FROM audit WHERE op = 'consent.proof'").fetchall()
    assert len(rows) == 3 and "subject" in rows[0][0] and "@" not in repr(rows)
    theirs = await owned_web.post(
        "/api/v1/proofs", json={"email": ask["email"]}, headers=bearer(owned.api_keys["other"])
    )
    assert theirs.json()["events"] == []
    wrong = await owned_web.post("/api/v1/proofs", json=ask | {"at": "yesterday"}, headers=filled)
    assert wrong.status_code == 422 and "RFC 3339" in wrong.json()["detail"]


async def test_no_reason_begins_with_a_word_of_the_library(
    owned_web: httpx.AsyncClient, filled: dict[str, str]
) -> None:
    bad = {"email": "nobody"}
    for path, body in (("/api/v1/suppressions", bad), ("/api/v1/consents", [GOOD | bad]), ("/api/v1/proofs", bad)):
        answer = await owned_web.post(path, json=body, headers=filled)
        assert answer.status_code == 422 and "not a valid e-mail address" in answer.text, path
        assert "Value error" not in answer.text, path
