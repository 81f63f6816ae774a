"""Webhooks over the tenants' API: made, seen, rotated and removed by their own tenant; the other one sees nothing."""

from __future__ import annotations

import httpx
import pytest

from relay.portal.gateway import OpUnavailable
from tests.fakes.gateway import SHOP_KEY, MemoryGateway, portal_settings
from tests.fakes.portal import OwnerGateway, browser

CRM = {"name": "crm", "url": "https://crm.example.org/zegel", "events": ["erased"], "with_address": True}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_webhook_from_its_making_to_its_end(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"])
    made = await owned_web.post("/api/v1/webhooks", json=CRM, headers=shop)
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    assert made.json().items() >= CRM.items() and made.json()["secret"].startswith("whsec_")
    tested = await owned_web.post("/api/v1/webhooks/crm/test", headers=shop)
    assert tested.status_code == 200 and tested.json()["event_id"].startswith("evt_")
    (shown,) = (await owned_web.get("/api/v1/webhooks", headers=shop)).json()
    assert (shown["name"], shown["waiting"], shown["dead"], "secret" in shown) == ("crm", 1, 0, False)
    rotated = await owned_web.post("/api/v1/webhooks/crm/rotate", json={"hours": 2}, headers=shop)
    assert rotated.status_code == 200 and rotated.json()["secret"] != made.json()["secret"]
    assert (await owned_web.get("/api/v1/webhooks/dead", headers=shop)).json() == []
    again = await owned_web.post("/api/v1/webhooks/crm/retry", json={}, headers=shop)
    assert again.json() == {"name": "crm", "again": 0}
    removed = await owned_web.post("/api/v1/webhooks/crm/remove", headers=shop)
    assert removed.json() == {"name": "crm", "removed": True, "events_deleted": 1}
    assert (await owned_web.get("/api/v1/webhooks", headers=shop)).json() == []


async def test_the_other_tenant_has_no_such_webhook(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    await owned_web.post("/api/v1/webhooks", json=CRM, headers=shop)
    for verb, body in (("rotate", {}), ("retry", {}), ("test", None), ("remove", None)):
        answer = await owned_web.post(f"/api/v1/webhooks/crm/{verb}", json=body, headers=other)
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json", verb
    assert (await owned_web.get("/api/v1/webhooks", headers=other)).json() == []
    assert len((await owned_web.get("/api/v1/webhooks", headers=shop)).json()) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"url": "http://crm.example.org/"}, 422),
        ({"url": "https://user:pw@crm.example.org/"}, 422),
        ({"url": "https://" + "a" * 1_000}, 422),
        ({"events": ["left"]}, 422),
        ({"name": "two words"}, 422),
        ({"name": "../crm"}, 422),
        ({"secret": "mine"}, 422),
        ({}, 409),
    ],
)
async def test_what_cannot_be_made_is_explained(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, change: dict[str, object], status: int
) -> None:
    shop = bearer(owned.api_keys["shop"])
    await owned_web.post("/api/v1/webhooks", json=CRM, headers=shop)
    answer = await owned_web.post("/api/v1/webhooks", json={**CRM, **change}, headers=shop)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert "user:pw" not in answer.text


async def test_a_store_that_is_down_is_503(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.failure = OpUnavailable("store")
    answer = await web.post("/api/v1/webhooks", json=CRM, headers=bearer(SHOP_KEY))
    assert answer.status_code == 503


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "127.1", "localhost", "169.254.169.254"]
)
async def test_an_address_inside_is_refused_when_it_is_made(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, host: str
) -> None:
    """It was 201, and nothing was ever delivered there."""
    shop = bearer(owned.api_keys["shop"])
    refused = await owned_web.post("/api/v1/webhooks", json=CRM | {"url": f"https://{host}/in"}, headers=shop)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert "operator" in refused.json()["detail"] and host not in refused.text
    assert (await owned_web.get("/api/v1/webhooks", headers=shop)).json() == []


async def test_an_address_inside_that_the_operator_allows_is_made(owned: OwnerGateway) -> None:
    async with browser(owned, portal_settings(allowed=["10.1.0.0/16"])) as web:
        made = await web.post(
            "/api/v1/webhooks", json=CRM | {"url": "https://10.1.2.3/in"}, headers=bearer(owned.api_keys["shop"])
        )
    assert made.status_code == 201
