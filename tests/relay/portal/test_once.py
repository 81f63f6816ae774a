"""`Idempotency-Key` over the API: the same answer again and nothing done twice; another body, a run at work, a failure."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.portal.gateway import OpUnavailable
from relay.spool.cipher import Cipher
from tests.fakes.gateway import portal_settings
from tests.fakes.portal import OwnerGateway, browser
from tests.harness.openapi import operations

ASKED = {"event": "requested", "email": "ann@example.net", "purpose": "newsletter"}
STOP = {"email": "bob@example.net", "reason": "bounce"}
REPLAYED = "idempotency-replayed"


def headers(owned: OwnerGateway, word: str = "k-1", *, tenant: str = "shop") -> dict[str, str]:
    return {"Authorization": f"Bearer {owned.api_keys[tenant]}", "Idempotency-Key": word}


def events(owned: OwnerGateway, address: str = "ann@example.net", *, tenant: str = "shop") -> list[str]:
    proof: Any = owned.owner.call("consent.proof", {"tenant": tenant, "address": address})
    return [event["event"] for event in proof["events"]]


async def test_the_same_request_is_done_once_and_answered_the_same(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    first = await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned))
    again = await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content and events(owned) == ["requested"]
    assert REPLAYED not in first.headers and again.headers[REPLAYED] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned, "k-2"))
    assert events(owned) == ["requested"] * 2, "another key is another request"
    await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned, tenant="other"))
    assert events(owned, tenant="other") == ["requested"], "the key of one tenant is not the other's"


async def test_a_refusal_is_answered_the_same_too(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    path = "/api/v1/suppressions/remove"
    refused = await owned_web.post(path, json=STOP, headers=headers(owned))
    await owned_web.post("/api/v1/suppressions", json=STOP, headers=headers(owned, "k-2"))
    again = await owned_web.post(path, json=STOP, headers=headers(owned))
    assert (refused.status_code, again.status_code) == (404, 404) and refused.content == again.content
    assert again.headers["content-type"] == "application/problem+json"
    assert (await owned_web.post(path, json=STOP, headers=headers(owned, "k-3"))).status_code == 200


async def test_another_request_with_the_key_is_422(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    await owned_web.post("/api/v1/suppressions", json=STOP, headers=headers(owned))
    for path, body in (
        ("/api/v1/suppressions", STOP | {"scope": "newsletter"}),
        ("/api/v1/suppressions/remove", STOP),
        ("/api/v1/suppressions?x=1", STOP),
    ):
        refused = await owned_web.post(path, json=body, headers=headers(owned))
        assert refused.status_code == 422 and "Idempotency-Key" in refused.json()["detail"], path


async def test_what_was_not_read_frees_the_key(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    refused = await owned_web.post("/api/v1/suppressions", json={"email": "nobody"}, headers=headers(owned))
    assert refused.status_code == 422
    assert (await owned_web.post("/api/v1/suppressions", json=STOP, headers=headers(owned))).status_code == 200


async def test_while_the_first_is_at_work_the_second_is_409(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    run = owned.op

    async def slow(name: str, args: dict[str, Any]) -> dict[str, Any]:
        if name == "consent.request":
            entered.set()
            await leave.wait()
        return await run(name, args)

    monkeypatch.setattr(owned, "op", slow)
    first = asyncio.create_task(owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned)))
    await entered.wait()
    second = await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned))
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    leave.set()
    assert (await first).status_code == 200
    third = await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned))
    assert third.content == (await first).content and events(owned) == ["requested"]


async def test_a_failure_of_ours_is_no_answer_to_keep(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done before it failed is found done: cut off after the commit is the worst case."""
    run, fails = owned.op, [True]

    async def cut_off(name: str, args: dict[str, Any]) -> dict[str, Any]:
        answer = await run(name, args)
        if name == "consent.request" and fails[0]:
            raise OpUnavailable(name)
        return answer

    monkeypatch.setattr(owned, "op", cut_off)
    assert (await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned))).status_code == 503
    fails[0] = False
    for _ in range(2):
        assert (await owned_web.post("/api/v1/consents", json=ASKED, headers=headers(owned))).status_code == 200
        assert events(owned) == ["requested"]


CRM = {"name": "crm", "url": "https://crm.example.org/zegel"}
CUT_OFF = {
    "webhook.add": ("/api/v1/webhooks", CRM, 201),
    "webhook.remove": ("/api/v1/webhooks/old/remove", None, 200),
    "suppression.remove": ("/api/v1/suppressions/remove", STOP, 200),
}


@pytest.mark.parametrize("op", CUT_OFF)
async def test_what_a_run_did_before_it_was_cut_off_is_no_refusal_of_the_next(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, monkeypatch: pytest.MonkeyPatch, op: str
) -> None:
    """The webhook was there, 409, and its secret nobody ever saw."""
    owned.owner.call("webhook.add", {"tenant": "shop", "name": "old", "url": CRM["url"]})
    owned.owner.call("suppression.add", {"tenant": "shop", "address": STOP["email"], "reason": "bounce"})
    path, body, status = CUT_OFF[op]
    run, fails = owned.op, [True]

    async def cut_off(name: str, args: dict[str, Any]) -> dict[str, Any]:
        answer = await run(name, args)
        if name == op and fails[0]:
            raise OpUnavailable(name)
        return answer

    monkeypatch.setattr(owned, "op", cut_off)
    assert (await owned_web.post(path, json=body, headers=headers(owned))).status_code == 503
    fails[0] = False
    done = await owned_web.post(path, json=body, headers=headers(owned))
    assert done.status_code == status, done.text
    assert op != "webhook.add" or done.json()["secret"].startswith("whsec_")
    other = await owned_web.post(path, json=body, headers=headers(owned, "k-2"))
    assert other.status_code in (404, 409), "asked anew it is another request"


async def test_an_answer_is_kept_sealed_and_after_a_restart(tmp_path: Path) -> None:
    first = OwnerGateway(tmp_path)
    async with browser(first, portal_settings()) as web:
        told = await web.post("/api/v1/consents", json=ASKED, headers=headers(first))
    with closing(sqlite3.connect(tmp_path / "zegel.db")) as database:
        rows = database.execute("SELECT * FROM idempotency").fetchall()
    assert len(rows) == 1 and b"recorded" not in repr(rows).encode() and "k-1" not in repr(rows)
    keys = first.api_keys
    first.owner.close()
    second = OwnerGateway.reopened(first)
    async with browser(second, portal_settings()) as web:
        again = await web.post("/api/v1/consents", json=ASKED, headers=headers(second))
    assert keys == second.api_keys and again.content == told.content and events(second) == ["requested"]
    second.close()


async def test_a_kept_answer_takes_less_room_than_its_request(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """300 KB of wrong items were 2 MB on disk, for a day, 600 times a minute."""
    item = {f"field_{number}": 1 for number in range(60)}
    body = json.dumps([item] * 500).encode()
    first, again = [
        await owned_web.post(
            "/api/v1/consents", content=body, headers=headers(owned) | {"Content-Type": "application/json"}
        )
        for _ in range(2)
    ]
    assert first.status_code == 422 and again.content == first.content and again.headers[REPLAYED] == "true"
    with closing(sqlite3.connect(owned.folder / "zegel.db")) as database:
        ((kept,),) = database.execute("SELECT length(answer) FROM idempotency").fetchall()
    assert kept < len(body) / 10 < len(first.content)


@pytest.mark.parametrize("word", ["", "two words", "x" * 201, "é"])
async def test_a_key_that_is_none_is_400(owned_web: httpx.AsyncClient, owned: OwnerGateway, word: str) -> None:
    given = {"Authorization": f"Bearer {owned.api_keys['shop']}"}
    sent = [*given.items(), ("Idempotency-Key", word.encode())]
    refused = await owned_web.post("/api/v1/suppressions", json=STOP, headers=httpx.Headers(sent))
    assert refused.status_code == 400 and "Idempotency-Key" in refused.json()["detail"]
    twice = [*given.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await owned_web.post("/api/v1/suppressions", json=STOP, headers=httpx.Headers(twice))).status_code == 400
    assert owned.ops == []


async def test_the_document_offers_it_where_something_changes(owned_web: httpx.AsyncClient) -> None:
    for one in operations((await owned_web.get("/api/v1/openapi.json")).json()):
        names = {p["name"].lower() for p in one.said.get("parameters", ()) if p["in"] == "header"}
        assert names == ({"idempotency-key"} if one.scope.endswith(":write") else set()), one.name


@pytest.mark.parametrize("step", ["", "extend", "answer", "refuse"])
async def test_no_kept_answer_names_who_was_erased(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, step: str
) -> None:
    """For a day it gave the address of an erased person back, and his letter."""
    letter = {"email": "Wilma.Uniek88@weg.example", "kind": "access", "text": "from Wilma.Uniek88@weg.example"}
    path, body = "/api/v1/requests", letter
    first = await owned_web.post(path, json=body, headers=headers(owned))
    if step:
        path, body = f"{path}/{first.json()['ref']}/{step}", {"text" if step == "answer" else "reason": "Dear Wilma"}
        first = await owned_web.post(path, json=body, headers=headers(owned, "k-2"))
    word = headers(owned, "k-2" if step else "k-1")
    again = await owned_web.post(path, json=body, headers=word)
    assert (again.status_code, again.content, again.headers[REPLAYED]) == (first.status_code, first.content, "true")
    assert first.is_success and "wilma" in first.text.lower()
    owned.owner.call("consent.erase", {"tenant": "shop", "address": letter["email"]})
    after = await owned_web.post(path, json=body, headers=word)
    assert (after.status_code, after.headers[REPLAYED]) == (first.status_code, "true")
    assert after.json()["ref"] == first.json()["ref"] and "wilma" not in after.text.lower()
    assert "wilma" not in kept_answers(owned).lower(), "nor is it on disk"
    opened = await owned_web.get("/api/v1/requests?state=all", headers=word)
    assert len(opened.json()["requests"]) == 1 and REPLAYED not in opened.headers


def kept_answers(owned: OwnerGateway) -> str:
    """All that is kept, opened."""
    with closing(sqlite3.connect(owned.folder / "zegel.db")) as database:
        rows = database.execute("SELECT key, answer FROM idempotency WHERE status > 0").fetchall()
    assert rows
    cipher = Cipher(owned.keyring.queue_keys, owned.keyring.current_queue_key_id)
    return " ".join(
        zlib.decompress(cipher.open(int.from_bytes(key[:8], "big"), answer)).decode() for key, answer in rows
    )


async def test_a_refusal_about_a_person_is_answered_the_same_too(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    path = "/api/v1/requests/20260131-aaaa/refuse"
    told = [await owned_web.post(path, json={"reason": "no"}, headers=headers(owned)) for _ in range(2)]
    assert [one.status_code for one in told] == [404, 404] and told[0].content == told[1].content
    assert told[1].headers[REPLAYED] == "true"
