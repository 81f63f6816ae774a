"""Mailings over the tenants' API: listed, invoiced once however often it is sent, and unseen by the other tenant (GDPR-12)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from relay.mail.mailing import Mailing
from relay.portal.gateway import OpUnavailable
from relay.spool.cipher import Cipher
from relay.spool.item import IdSource
from relay.store.history import Event, History
from tests.fakes.gateway import SHOP_KEY, MemoryGateway
from tests.fakes.portal import OwnerGateway
from tests.relay.portal.test_api_requests import PROBLEM, bearer

TODAY = datetime.now(UTC).date()
DAY = TODAY.isoformat()
INVOICED = {"mailing": "spring sale", "invoice_date": DAY}
URL = "/api/v1/mailings"


async def mailed(owned: OwnerGateway, *mailings: Mailing) -> None:
    cipher = Cipher(owned.keyring.queue_keys, owned.keyring.current_queue_key_id)
    history = History(owned.folder / "history", "0", cipher.seal)
    history.start()
    at = datetime.now(UTC).timestamp()
    for place, one in enumerate(mailings):
        history.add(Event(IdSource(place).next(at), at, "accepted", {"tenant": one.tenant}, (place,), one))
    await history.stop()


async def test_a_mailing_is_listed_and_invoiced(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"])
    await mailed(owned, Mailing("shop", "spring sale"), Mailing("other", "spring sale"), Mailing("shop", "spring sale"))
    listed = await owned_web.get(URL, headers=shop)
    (row,) = listed.json()["mailings"]
    assert (row["mailing"], row["mails"]) == ("spring sale", 2) and "invoice_date" not in row
    assert listed.headers["cache-control"] == "no-store"
    answer = await owned_web.post(URL, json={**INVOICED, "mailing": " spring  sale "}, headers=shop)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    said = answer.json()
    assert (said["invoice_date"], said["delete_on"]) == (DAY, (TODAY + timedelta(28)).isoformat())
    assert (await owned_web.get(URL, headers=shop)).json() == {"mailings": [said]}
    gone = await owned_web.post(URL, json={**INVOICED, "invoice_date": None}, headers=shop)
    assert gone.status_code == 200 and "invoice_date" not in gone.json()


async def test_before_its_first_mail(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"])
    assert (await owned_web.post(URL, json=INVOICED, headers=shop)).json() == {**INVOICED, "mails": 0}
    taken = await owned_web.post(URL, json={**INVOICED, "invoice_date": None}, headers=shop)
    assert taken.json() == {"mailing": "spring sale", "mails": 0}


async def test_the_other_tenant_has_its_own_of_that_name(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    await mailed(owned, Mailing("shop", "spring sale"))
    assert (await owned_web.post(URL, json=INVOICED, headers=other)).json() == {**INVOICED, "mails": 0}
    (row,) = (await owned_web.get(URL, headers=shop)).json()["mailings"]
    assert row["mails"] == 1 and "invoice_date" not in row


async def test_pages_and_a_cursor_of_another_tenant(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    await mailed(owned, *(Mailing("shop", f"m{number}") for number in range(3)))
    first = (await owned_web.get(URL, params={"limit": 2}, headers=shop)).json()
    on = {"limit": 2, "cursor": first["next"]}
    rest = (await owned_web.get(URL, params=on, headers=shop)).json()
    assert [row["mailing"] for row in (*first["mailings"], *rest["mailings"])] == ["m0", "m1", "m2"]
    assert "next" not in rest
    assert (await owned_web.get(URL, params=on, headers=other)).status_code == 422


async def test_the_same_key_sets_it_once(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"], **{"Idempotency-Key": str(uuid.uuid4())})
    first = await owned_web.post(URL, json=INVOICED, headers=shop)
    second = await owned_web.post(URL, json=INVOICED, headers=shop)
    assert first.json() == second.json() and second.headers["idempotency-replayed"] == "true"
    assert [name for name, _ in owned.ops].count("mailing.invoice") == 1


@pytest.mark.parametrize(
    "body",
    [
        {"mailing": "x"},
        {"invoice_date": DAY},
        {"mailing": "x", "invoice_date": ""},
        {"mailing": "x", "invoice_date": "2026-02-30"},
        {"mailing": "x", "invoice_date": "٢٠٢٦-٠١-٠١"},
        {"mailing": "x", "invoice_date": (TODAY + timedelta(94)).isoformat()},
        {"mailing": "ann@example.net", "invoice_date": DAY},
        {"mailing": "x\r\ny", "invoice_date": DAY},
        {"mailing": "", "invoice_date": DAY},
        {"mailing": "x" * 101, "invoice_date": DAY},
        {"mailing": "x", "invoice_date": DAY, "tenant": "other"},
    ],
)
async def test_what_cannot_be_set_is_explained(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, body: dict[str, str]
) -> None:
    shop = bearer(owned.api_keys["shop"])
    answer = await owned_web.post(URL, json=body, headers=shop)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM) and "ann@" not in answer.text
    assert (await owned_web.get(URL, headers=shop)).json() == {"mailings": []}


async def test_a_store_that_is_down_is_503(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.failure = OpUnavailable("store")
    assert (await web.post(URL, json=INVOICED, headers=bearer(SHOP_KEY))).status_code == 503
    assert (await web.get(URL, headers=bearer(SHOP_KEY))).status_code == 503
