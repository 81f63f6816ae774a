"""The tenants' API: keys, isolation route by route, answers per item, errors that tell no secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from relay.portal.gateway import OpRefused, OpUnavailable, OwnMessage
from tests.fakes.gateway import OTHER_KEY, SHOP_KEY, SUSPENDED_KEY, MemoryGateway
from tests.fakes.portal import FORM, OwnerGateway

GOOD = {
    "event": "given",
    "email": "Ann@example.net",
    "purpose": "newsletter",
    "basis": "consent",
    "method": "web_form",
    "source": "https://shop.example/join",
    "given_at": "2026-01-02T10:00:00Z",
    "text": "Ja, stuur mij de nieuwsbrief",
    "text_language": "nl",
    "policy_url": "https://shop.example/privacy",
    "jurisdiction": "NL",
    "provenance": "own",
    "sensitive_audience": False,
}
ROUTES: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("POST", "/api/v1/consents", GOOD),
    ("POST", "/api/v1/consents/lookup", {"email": "ann@example.net", "purpose": "newsletter"}),
    ("POST", "/api/v1/suppressions", {"email": "ann@example.net"}),
    ("POST", "/api/v1/suppressions/remove", {"email": "ann@example.net", "reason": "bounce"}),
    ("GET", "/api/v1/messages/01J8", None),
    ("GET", "/api/v1/held", None),
    ("GET", "/api/v1/held/0R3M7K2QX9T1A", None),
    ("GET", "/api/v1/held/0R3M7K2QX9T1A/preview", None),
    ("POST", "/api/v1/held/0R3M7K2QX9T1A/release", {"recipients": "split"}),
    ("POST", "/api/v1/held/0R3M7K2QX9T1A/refuse", None),
    ("POST", "/api/v1/outcomes", {"message": "0R3M7K2QX9T1A", "email": "ann@example.net", "outcome": "complained"}),
    ("GET", "/api/v1/reputation", None),
    ("GET", "/api/v1/limits", None),
    ("GET", "/api/v1/webhooks", None),
    ("POST", "/api/v1/webhooks", {"name": "crm", "url": "https://crm.example.org/"}),
    ("GET", "/api/v1/webhooks/dead", None),
    ("POST", "/api/v1/webhooks/crm/rotate", {}),
    ("POST", "/api/v1/webhooks/crm/retry", {}),
    ("POST", "/api/v1/webhooks/crm/test", None),
    ("POST", "/api/v1/webhooks/crm/remove", None),
)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize("headers", [{}, bearer("zk_wrong"), {"Authorization": f"Basic {SHOP_KEY}"}, bearer("")])
async def test_every_route_needs_a_known_key(
    web: httpx.AsyncClient, gateway: MemoryGateway, method: str, path: str, body: object, headers: dict[str, str]
) -> None:
    answer = await web.request(method, path, json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "zk_" not in answer.text
    assert gateway.ops == []


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_a_suspended_tenant_is_403_everywhere(
    web: httpx.AsyncClient, gateway: MemoryGateway, method: str, path: str, body: object
) -> None:
    answer = await web.request(method, path, json=body, headers=bearer(SUSPENDED_KEY))
    assert answer.status_code == 403
    assert gateway.ops == []


async def test_a_consent_given_a_minute_ago_can_be_looked_up_by_its_tenant_only(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    ask = {"email": "ann@example.net", "purpose": "newsletter"}
    answer = await owned_web.post("/api/v1/consents", json=GOOD, headers=shop)
    assert (answer.status_code, answer.json()["recorded"]) == (200, 1)
    mine = await owned_web.post("/api/v1/consents/lookup", json=ask, headers=shop)
    assert mine.json()["status"] == "given"
    assert mine.json()["given_at"] == "2026-01-02T10:00:00Z"
    theirs = await owned_web.post("/api/v1/consents/lookup", json=ask, headers=other)
    assert theirs.json() == {"purpose": "newsletter", "status": "none", "stopped_by": []}


async def test_suppressions_of_one_tenant_do_not_touch_the_other(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    shop, other = bearer(owned.api_keys["shop"]), bearer(owned.api_keys["other"])
    ask = {"email": "bob@example.net", "purpose": "newsletter"}
    bounce = {"email": "bob@example.net", "reason": "bounce"}
    for body in (bounce, {"email": "bob@example.net", "reason": "objection"}):
        assert (await owned_web.post("/api/v1/suppressions", json=body, headers=shop)).status_code == 200
    stopped = (await owned_web.post("/api/v1/consents/lookup", json=ask, headers=shop)).json()["stopped_by"]
    assert {entry["reason"] for entry in stopped} == {"bounce", "objection"}
    assert (await owned_web.post("/api/v1/consents/lookup", json=ask, headers=other)).json()["stopped_by"] == []
    assert (await owned_web.post("/api/v1/suppressions/remove", json=bounce, headers=other)).status_code == 404
    assert (await owned_web.post("/api/v1/suppressions/remove", json=bounce, headers=shop)).status_code == 200
    objection = {"email": "bob@example.net", "reason": "objection"}
    refused = await owned_web.post("/api/v1/suppressions/remove", json=objection, headers=shop)
    assert refused.status_code == 409
    assert "CONSENT-11" in refused.json()["detail"]
    stopped = (await owned_web.post("/api/v1/consents/lookup", json=ask, headers=shop)).json()["stopped_by"]
    assert [entry["reason"] for entry in stopped] == ["objection"]


async def test_an_objection_beats_what_the_api_says_later(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    shop = bearer(owned.api_keys["shop"])
    await owned_web.post("/api/v1/suppressions", json={"email": "ann@example.net"}, headers=shop)
    confirmed = GOOD | {"event": "confirmed", "confirmed_at": "2026-01-02T10:01:00Z"}
    answer = await owned_web.post("/api/v1/consents", json=[GOOD, confirmed], headers=shop)
    assert answer.status_code == 422
    assert [item["ok"] for item in answer.json()["results"]] == [False, False]
    assert "objected" in answer.json()["results"][0]["errors"][0]["reason"]


async def test_each_item_of_a_list_has_its_own_answer_in_order(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    shop = bearer(owned.api_keys["shop"])
    items = [
        GOOD,
        {name: value for name, value in GOOD.items() if name != "text"},
        {"event": "requested", "email": "eve@example.net", "purpose": "newsletter"},
        {"event": "withdrawn", "email": "ann@example.net", "purpose": "newsletter"},
        {"event": "requested", "email": "eve@example.net", "purpose": "nothing"},
        {"event": "withdrawn", "email": "eve@example.net", "text": "no"},
        GOOD | {"email": "joe@example.net", "method": "prechecked", "event": "given"},
        GOOD | {"email": "joe@example.net", "event": "confirmed"},
        GOOD | {"email": "joe@example.net"},
    ]
    answer = await owned_web.post("/api/v1/consents", json=items, headers=shop)
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [item["index"] for item in results] == list(range(9))
    assert [item["ok"] for item in results] == [True, False, True, True, False, False, False, False, True]
    fields = {item["index"]: item["errors"][0]["field"] for item in results if not item["ok"]}
    assert fields == {1: "text", 4: "purpose", 5: "text", 6: "method", 7: "confirmed_at"}
    assert "@" not in answer.text
    ask = {"email": "ann@example.net", "purpose": "newsletter"}
    after = (await owned_web.post("/api/v1/consents/lookup", json=ask, headers=shop)).json()
    assert (after["status"], after["stopped_by"][0]["reason"]) == ("withdrawn", "objection")


async def test_no_answer_of_the_api_holds_a_confirmation_token(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """With the token the tenant himself could lift an objection, which only the person may (CONSENT-11)."""
    item = {"event": "requested", "email": "eve@example.net", "purpose": "newsletter"}
    answer = await owned_web.post("/api/v1/consents", json=item, headers=bearer(owned.api_keys["shop"]))
    assert answer.json() == {"recorded": 1, "refused": 0, "results": [{"index": 0, "ok": True}]}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b"", 422, None),
        (b"[]", 422, None),
        (b'"secret-value"', 422, None),
        (b'{"event":"secret-value","email":"ann@example.net"}', 422, "event"),
        (b'{"event":"given","email":"secret-value"}', 422, "email"),
        (b'{"event":"given","email":"ann@example.net","secret_value":1}', 422, "secret_value"),
        (b'{"event":"given","email":"ann@example.net","text":["secret-value"]}', 422, "text"),
        (b'{"event":"given","email":"eve@example.net","ann@example.net":"secret-value"}', 422, "?"),
    ],
)
async def test_a_bad_body_names_the_field_and_repeats_nothing(
    web: httpx.AsyncClient, gateway: MemoryGateway, body: bytes, status: int, field: str | None
) -> None:
    headers = bearer(SHOP_KEY) | {"Content-Type": "application/json"}
    answer = await web.post("/api/v1/consents", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret-value" not in answer.text
    assert "ann@example.net" not in answer.text
    if field is not None:
        assert field in [error["field"] for error in answer.json()["errors"]]
    assert gateway.ops == []


async def test_one_bad_item_does_not_refuse_the_list(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    items = [{"event": "withdrawn", "email": "ann@example.net"}, GOOD | {"email": "secret-value"}, "secret-value"]
    items.append(GOOD | {"secret_key": 1, "text": ["secret-value"], "secret-value@example.net": "email"})
    answer = await web.post("/api/v1/consents", json=items, headers=bearer(SHOP_KEY))
    assert (answer.status_code, answer.json()["recorded"], answer.json()["refused"]) == (207, 1, 3)
    results = answer.json()["results"]
    assert [(item["index"], item["ok"]) for item in results] == [(0, True), (1, False), (2, False), (3, False)]
    assert [{error["field"] for error in item["errors"]} for item in results[1:]] == [
        {"email"},
        {""},
        {"secret_key", "text", "?"},
    ]
    assert "secret-value" not in answer.text
    assert [name for name, _ in gateway.ops] == ["consent.withdraw"]
    none = await web.post("/api/v1/consents", json=items[1:], headers=bearer(SHOP_KEY))
    assert (none.status_code, none.json()["refused"]) == (422, 3)


JSON = {"Content-Type": "application/json"}
EVENT = b'{"event":"withdrawn","email":"ann@example.net"}'


@pytest.mark.parametrize(
    ("body", "headers", "status", "sentence"),
    [
        (EVENT, {}, 415, "Content-Type: application/json"),
        (EVENT, {"Content-Type": "text/plain"}, 415, "Content-Type: application/json"),
        (EVENT, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Content-Type: application/json"),
        (b"[" * 100_000, JSON, 400, "nested too deeply"),
        (b'{"a":' * 100_000, JSON, 400, "nested too deeply"),
        (EVENT.replace(b"ann", b"\xe9"), JSON, 400, "not UTF-8"),
        (EVENT.replace(b"}", b',"purpose":%s}' % (b"9" * 5_000)), JSON, 400, "digits"),
        (EVENT.replace(b"}", b',"purpose":0.%s}' % (b"9" * 5_000)), JSON, 400, "digits"),
        (EVENT.replace(b"}", b',"purpose":NaN}'), JSON, 400, "not JSON"),
        (EVENT.replace(b"}", b',"email":"bob@example.net"}'), JSON, 400, "same key twice"),
        (b"[" + EVENT.replace(b"}", b',"email":"bob@example.net"}') + b"]", JSON, 400, "same key twice"),
    ],
)
async def test_a_body_that_cannot_be_read_is_told_why(
    web: httpx.AsyncClient, gateway: MemoryGateway, body: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    answer = await web.post("/api/v1/consents", content=body, headers=bearer(SHOP_KEY) | headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert sentence in answer.json()["detail"]
    assert gateway.ops == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/problem+json", "Application/JSON"])
async def test_other_names_of_json_are_json(web: httpx.AsyncClient, kind: str) -> None:
    answer = await web.post("/api/v1/consents", content=EVENT, headers=bearer(SHOP_KEY) | {"Content-Type": kind})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "octets"),
    [
        ("/api/v1/consents", bearer(SHOP_KEY) | JSON, 1_000_001),
        ("/optin/k7f3newsletter", FORM, 20_000),
        ("/u/", FORM, 20_000),
    ],
)
async def test_a_body_that_turns_out_too_large_is_413(
    web: httpx.AsyncClient, gateway: MemoryGateway, path: str, headers: dict[str, str], octets: int
) -> None:
    """Its length is not said beforehand (chunked), so it is found while it is read."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(octets // 1_000 + 1):
            yield b" " * 1_000

    where = path + gateway.token(address="ann@example.net") if path == "/u/" else path
    answer = await web.post(where, content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert gateway.ops == []


async def test_a_list_over_five_hundred_and_a_body_over_a_megabyte_are_refused(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    item = {"event": "withdrawn", "email": "ann@example.net"}
    many = await web.post("/api/v1/consents", json=[item] * 501, headers=bearer(SHOP_KEY))
    assert many.status_code == 422
    large = await web.post("/api/v1/consents", content=b" " * 1_000_001, headers=bearer(SHOP_KEY))
    assert large.status_code == 413
    assert large.headers["content-type"] == "application/problem+json"
    assert gateway.ops == []


@pytest.mark.parametrize(("method", "path", "body"), ROUTES[:1] + ROUTES[2:4])
async def test_an_owner_that_is_down_is_503_with_a_time_to_come_back(
    web: httpx.AsyncClient, gateway: MemoryGateway, method: str, path: str, body: object
) -> None:
    gateway.failure = OpUnavailable()
    answer = await web.request(method, path, json=body, headers=bearer(SHOP_KEY))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_a_crash_is_a_problem_without_its_text(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.failure = RuntimeError("secret-value")
    answer = await web.post("/api/v1/suppressions", json={"email": "ann@example.net"}, headers=bearer(SHOP_KEY))
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret-value" not in answer.text


async def test_a_refusal_of_the_owner_is_told_in_its_words(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.refusals["suppression.add"] = OpRefused("purpose.unknown", "make it first")
    answer = await web.post(
        "/api/v1/suppressions", json={"email": "ann@example.net", "scope": "x"}, headers=bearer(SHOP_KEY)
    )
    assert (answer.status_code, answer.json()["detail"]) == (422, "make it first")


async def test_a_message_is_traced_for_its_own_tenant_only(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.traces["shop", "01J8"] = {"id": "01J8", "verdict": "accept"}
    assert (await web.get("/api/v1/messages/01J8", headers=bearer(SHOP_KEY))).json()["verdict"] == "accept"
    for path, key in (("/api/v1/messages/01J8", OTHER_KEY), ("/api/v1/messages/01J9", SHOP_KEY)):
        assert (await web.get(path, headers=bearer(key))).status_code == 404
    assert (await web.get("/api/v1/messages/a%20b", headers=bearer(SHOP_KEY))).status_code == 422


async def test_openapi_names_every_route_and_an_unknown_one_is_json(web: httpx.AsyncClient) -> None:
    document = (await web.get("/api/v1/openapi.json")).json()
    assert {"/consents", "/consents/lookup", "/suppressions", "/suppressions/remove"} <= set(document["paths"])
    assert document["components"]["securitySchemes"]
    fields = document["components"]["schemas"]["ConsentEvent"]["properties"]
    assert {"given_at", "text", "doi_message_id", "published_hash", "local_rule"} <= set(fields)
    for method, path, status in (("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/suppressions", 405)):
        answer = await web.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_event_has_every_column_of_the_import() -> None:
    from relay.consent.record import COLUMNS
    from relay.portal.api_models import ConsentEvent

    assert set(ConsentEvent.model_fields) - {"event"} == set(COLUMNS)


async def test_a_tenant_sees_the_limits_of_its_own_mail(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    row = {
        "scope": "stream", "subject": "marketing", "name": "messages_per_minute", "streams": ["marketing"],
        "allowed": 60, "used": 60, "left": 0, "frees_at": 1_790_000_000.5, "set_by": "operator", "bites_24h": 3,
    }  # fmt: skip
    gateway.limit_rows["shop"] = [row]
    answer = await web.get("/api/v1/limits", headers=bearer(SHOP_KEY))
    assert answer.status_code == 200
    assert answer.json() == [row | {"frees_at": "2026-09-21T14:13:20.500000Z"}]
    assert (await web.get("/api/v1/limits", headers=bearer(OTHER_KEY))).json() == []
    assert (await web.get("/api/v1/limits")).status_code == 401


ID = "0R3M7K2QX9T1A"
BOUNCE = {"message": ID, "email": "Ann@Example.net", "outcome": "bounced", "status": "5.1.1"}


def own(*, failed: frozenset[str] = frozenset()) -> OwnMessage:
    everyone = frozenset(("ann@example.net", "bob@example.net", "eve@example.net"))
    return OwnMessage(
        ID, "shop-newsletter", "marketing", "shop.example", everyone, failed, everyone - {"eve@example.net"}
    )


async def test_a_bounce_and_a_complaint_are_counted_once(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.messages["shop", ID] = own()
    complaint = {"message": ID.lower(), "email": "ann@example.net", "outcome": "complained"}
    for expected in (True, False):
        answer = await web.post("/api/v1/outcomes", json=[BOUNCE, complaint], headers=bearer(SHOP_KEY))
        assert answer.status_code == 200
        assert [item["counted"] for item in answer.json()["results"]] == [expected] * 2
        assert answer.json()["counted"] == (2 if expected else 0)
    assert "@" not in answer.text


async def test_what_delivery_saw_fail_is_not_counted_again(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.messages["shop", ID] = own(failed=frozenset(("ann@example.net",)))
    answer = await web.post("/api/v1/outcomes", json=BOUNCE, headers=bearer(SHOP_KEY))
    assert (answer.status_code, answer.json()["counted"], gateway.told) == (200, 0, set())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"message": "0R3M7K2QX9T1B"}, "message"),
        ({"message": "short"}, "message"),
        ({"message": "0R3M7K2QX9T1U"}, "message"),
        ({"email": "joe@example.net"}, "email"),
        ({"email": "eve@example.net"}, "message"),
        ({"email": "nobody"}, "email"),
        ({"status": "4.2.2"}, "status"),
        ({"status": "2.0.0"}, "status"),
        ({"status": "five"}, "status"),
        ({"status": None}, "status"),
        ({"outcome": "opened"}, "outcome"),
        ({"tenant": "other"}, "tenant"),
    ],
)
async def test_an_outcome_that_cannot_be_says_which_field(
    web: httpx.AsyncClient, gateway: MemoryGateway, change: dict[str, Any], field: str
) -> None:
    gateway.messages["shop", ID] = own()
    for body in ([BOUNCE | change], BOUNCE | change):
        answer = await web.post("/api/v1/outcomes", json=body, headers=bearer(SHOP_KEY))
        assert answer.status_code == 422
        told = answer.json()
        errors = told["results"][0]["errors"] if "results" in told else told["errors"]
        assert errors[0]["field"] == field and "@" not in answer.text
    assert gateway.told == set()


async def test_of_the_mail_of_another_tenant_nothing_is_told(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.messages["shop", ID] = own()
    answer = await web.post("/api/v1/outcomes", json=BOUNCE, headers=bearer(OTHER_KEY))
    assert answer.status_code == 422 and gateway.told == set()
    assert answer.json()["results"][0]["errors"][0]["reason"].startswith("no message of yours")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"[]", 422), (b"{", 400), (b'"bounced"', 422), (b"[1, null]", 422), (b'{"message": "x", "message": "y"}', 400)],
)
async def test_outcomes_that_are_no_outcomes_are_refused(web: httpx.AsyncClient, body: bytes, status: int) -> None:
    headers = bearer(SHOP_KEY) | {"Content-Type": "application/json"}
    assert (await web.post("/api/v1/outcomes", content=body, headers=headers)).status_code == status


async def test_more_than_500_outcomes_or_a_megabyte_are_refused(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.messages["shop", ID] = own()
    answer = await web.post("/api/v1/outcomes", json=[BOUNCE] * 501, headers=bearer(SHOP_KEY))
    assert answer.status_code == 422 and gateway.told == set()
    headers = bearer(SHOP_KEY) | {"Content-Type": "application/json"}
    assert (await web.post("/api/v1/outcomes", content=b" " * 1_000_001, headers=headers)).status_code == 413


async def test_outcomes_wait_while_the_owner_is_away(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    gateway.failure = OpUnavailable("history")
    answer = await web.post("/api/v1/outcomes", json=BOUNCE, headers=bearer(SHOP_KEY))
    assert answer.status_code == 503 and answer.headers["retry-after"]


async def test_a_tenant_sees_how_it_stands(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    row = {
        "scope": "stream", "subject": "marketing", "level": "paused", "since": 1_790_000_000, "deliveries": 1000,
        "bounces": 100, "complaints": 0, "bounce_ratio": 0.1, "complaint_ratio": 0.0,
    }  # fmt: skip
    gateway.standing_rows["shop"] = [row]
    assert (await web.get("/api/v1/reputation", headers=bearer(SHOP_KEY))).json() == [
        row | {"since": "2026-09-21T14:13:20Z"}
    ]
    assert (await web.get("/api/v1/reputation", headers=bearer(OTHER_KEY))).json() == []
