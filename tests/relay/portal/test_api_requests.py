"""Requests of people over the tenants' API: entered, listed, answered by their own tenant, unseen by the other (GDPR-24)."""

from __future__ import annotations

import uuid

import httpx
import pytest

from relay.portal.gateway import OpUnavailable
from tests.fakes.gateway import SHOP_KEY, MemoryGateway
from tests.fakes.portal import OwnerGateway

ANN = "ann@example.net"
ASKED = {"email": ANN, "kind": "access", "asked_at": "2026-01-31T10:00:00Z", "text": "all about me"}
PROBLEM = "application/problem+json"


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **more}


async def test_a_request_from_its_entry_to_its_answer(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"])
    made = await owned_web.post("/api/v1/requests", json=ASKED, headers=shop)
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    said = made.json()
    assert (said["asked_at"], said["due_at"]) == ("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z")
    assert (said["email"], said["text"]) == (ANN, "all about me") and "tenant" not in said
    ref = said["ref"]
    listed = await owned_web.get("/api/v1/requests", headers=shop)
    assert [row["ref"] for row in listed.json()["requests"]] == [ref] and ANN not in listed.text
    answered = await owned_web.post(f"/api/v1/requests/{ref}/answer", json={"text": "sent"}, headers=shop)
    assert (answered.status_code, answered.json()["state"]) == (200, "answered")
    assert [step["step"] for step in answered.json()["steps"]] == ["opened", "answered"]
    again = await owned_web.post(f"/api/v1/requests/{ref}/refuse", json={"reason": "no"}, headers=shop)
    assert (again.status_code, again.headers["content-type"]) == (409, PROBLEM)
    assert (await owned_web.get("/api/v1/requests", headers=shop)).json() == {"requests": []}
    shown = await owned_web.get(f"/api/v1/requests/{ref}", headers=shop)
    assert shown.json()["steps"] == answered.json()["steps"]


async def test_it_is_extended_once_and_refused_with_a_reason(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"])
    ref = (await owned_web.post("/api/v1/requests", json={"email": ANN, "kind": "erase"}, headers=shop)).json()["ref"]
    longer = await owned_web.post(f"/api/v1/requests/{ref}/extend", json={"reason": "three systems"}, headers=shop)
    assert longer.status_code == 200 and longer.json()["extended_at"]
    second = await owned_web.post(f"/api/v1/requests/{ref}/extend", json={"reason": "more"}, headers=shop)
    assert second.status_code == 409
    assert (await owned_web.post(f"/api/v1/requests/{ref}/refuse", json={}, headers=shop)).status_code == 422
    refused = await owned_web.post(f"/api/v1/requests/{ref}/refuse", json={"reason": "unknown"}, headers=shop)
    assert refused.json()["state"] == "refused"
    listed = await owned_web.get("/api/v1/requests", params={"state": "refused"}, headers=shop)
    assert [row["ref"] for row in listed.json()["requests"]] == [ref]


async def test_the_other_tenant_has_no_such_request(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    ref = (await owned_web.post("/api/v1/requests", json=ASKED, headers=shop)).json()["ref"]
    unknown = await owned_web.get("/api/v1/requests/20260131-zzzz", headers=other)
    theirs = await owned_web.get(f"/api/v1/requests/{ref}", headers=other)
    assert theirs.status_code == unknown.status_code == 404 and theirs.json() == unknown.json()
    for verb, body in (("extend", {"reason": "no"}), ("answer", {}), ("refuse", {"reason": "no"})):
        answer = await owned_web.post(f"/api/v1/requests/{ref}/{verb}", json=body, headers=other)
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM), verb
    assert (await owned_web.get("/api/v1/requests", params={"state": "all"}, headers=other)).json() == {"requests": []}
    assert (await owned_web.get(f"/api/v1/requests/{ref}", headers=shop)).json()["state"] == "overdue"


async def test_pages_and_a_cursor_of_another_list(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    for number in range(3):
        await owned_web.post(
            "/api/v1/requests", json={"email": f"p{number}@example.net", "kind": "object"}, headers=shop
        )
    first = (await owned_web.get("/api/v1/requests", params={"limit": 2}, headers=shop)).json()
    assert len(first["requests"]) == 2
    on = {"limit": 2, "cursor": first["next"]}
    rest = (await owned_web.get("/api/v1/requests", params=on, headers=shop)).json()
    assert len(rest["requests"]) == 1 and "next" not in rest
    assert (await owned_web.get("/api/v1/requests", params={**on, "state": "all"}, headers=shop)).status_code == 422
    assert (await owned_web.get("/api/v1/requests", params=on, headers=other)).status_code == 422


async def test_the_same_key_enters_it_once(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"], **{"Idempotency-Key": str(uuid.uuid4())})
    first = await owned_web.post("/api/v1/requests", json=ASKED, headers=shop)
    second = await owned_web.post("/api/v1/requests", json=ASKED, headers=shop)
    assert first.json() == second.json() and second.headers["idempotency-replayed"] == "true"
    listed = await owned_web.get("/api/v1/requests", headers=bearer(owned.api_keys["shop"]))
    assert len(listed.json()["requests"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "look"}, {"email": "nobody"}, {"asked_at": "yesterday"}, {"asked_at": "2999-01-01T00:00:00Z"},
        {"text": "x" * 4_001}, {"text": "a\r\nBcc: b@c.example"}, {"tenant": "other"},
    ],
)  # fmt: skip
async def test_what_cannot_be_entered_is_explained(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, change: dict[str, str]
) -> None:
    shop = bearer(owned.api_keys["shop"])
    answer = await owned_web.post("/api/v1/requests", json={**ASKED, **change}, headers=shop)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM) and ANN not in answer.text
    assert (await owned_web.get("/api/v1/requests", headers=shop)).json() == {"requests": []}


@pytest.mark.parametrize("ref", ["x", "20260131-k7f3x", "20260131-K7F3", "..%2Fwebhooks"])
async def test_a_number_that_is_none(owned_web: httpx.AsyncClient, owned: OwnerGateway, ref: str) -> None:
    answer = await owned_web.get(f"/api/v1/requests/{ref}", headers=bearer(owned.api_keys["shop"]))
    assert answer.status_code in (404, 422)


async def test_a_store_that_is_down_is_503(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.failure = OpUnavailable("store")
    assert (await web.post("/api/v1/requests", json=ASKED, headers=bearer(SHOP_KEY))).status_code == 503
