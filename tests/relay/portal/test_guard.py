"""The outermost layer: headers, limits, machine routes, error pages, and a log without tokens and addresses."""

from __future__ import annotations

import httpx
import pytest
import structlog

from relay.portal.gateway import OpUnavailable
from relay.portal.server import server_config
from relay.settings.endpoint import Networks
from tests.fakes.gateway import MemoryGateway, portal_settings
from tests.fakes.portal import FORM, browser

HTML = {"Accept": "text/html"}
PAGES = ("/", "/why", "/why/CONSENT-1", "/outbox", "/nothing", "/u/x", "/api/v1/openapi.json", "/static/zegel.css")


@pytest.mark.parametrize("path", PAGES)
async def test_every_answer_carries_the_security_headers(web: httpx.AsyncClient, path: str) -> None:
    headers = (await web.get(path, headers=HTML)).headers
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["strict-transport-security"]
    assert "server" not in headers
    assert "set-cookie" not in headers


@pytest.mark.parametrize("path", PAGES[:4])
async def test_pages_hold_nothing_that_the_policy_would_block(web: httpx.AsyncClient, path: str) -> None:
    page = (await web.get(path, headers=HTML)).text
    for forbidden in ("<script", "style=", "onclick", "javascript:", "http://", "<iframe"):
        assert forbidden not in page


async def test_the_log_has_templates_and_never_a_token_or_an_address(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    token = gateway.token(address="ann@example.net")
    with structlog.testing.capture_logs() as events:
        await web.get(f"/u/{token}?lang=en", headers=HTML)
        await web.post(f"/u/{token}", content="List-Unsubscribe=One-Click", headers=FORM)
        await web.post("/optin/k7f3newsletter", data={"email": "bob@example.net"})
        await web.get(f"/nothing/{token}")
        await web.post("/api/v1/suppressions", json={"email": "eve@example.net"}, headers={"Authorization": "Bearer k"})
    assert [event["route"] for event in events if event["event"] == "web.answered"] == [
        "/u/{token}",
        "/u/{token}",
        "/optin/{key}",
        "none",
        "/api/v1/suppressions",
    ]
    told = repr(events)
    for secret in (token, token[:20], "@example.net", "Bearer"):
        assert secret not in told


async def test_a_crash_is_a_calm_page_and_one_event_without_its_text(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    gateway.failure = RuntimeError("ann@example.net")
    with structlog.testing.capture_logs() as events:
        answer = await web.post(
            f"/u/{gateway.token()}",
            content="List-Unsubscribe=One-Click",
            headers=FORM | HTML | {"Accept-Language": "en"},
        )
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.text
    assert "RuntimeError" not in answer.text
    assert "ann@example.net" not in answer.text
    (crash,) = (event for event in events if event["event"] == "web.crashed")
    assert crash["error"] == "RuntimeError"
    assert "ann@example.net" not in repr(events)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_form_body_over_its_limit_is_413_whether_announced_or_not(
    web: httpx.AsyncClient, gateway: MemoryGateway, declared: bool
) -> None:
    body = b"List-Unsubscribe=One-Click&x=" + b"y" * 20_000

    async def chunks():  # type: ignore[no-untyped-def]  # sent without Content-Length
        for start in range(0, len(body), 4096):
            yield body[start : start + 4096]

    answer = await web.post(f"/u/{gateway.token()}", content=body if declared else chunks(), headers=FORM | HTML)
    assert answer.status_code == 413
    assert gateway.ops == []


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(("language", "word"), [("nl", "pagina"), ("en", "page")])
async def test_error_pages_are_friendly_in_both_languages(
    web: httpx.AsyncClient, status: int, language: str, word: str
) -> None:
    method, path = ("GET", "/nothing") if status == 404 else ("DELETE", "/why")
    answer = await web.request(method, path, headers=HTML | {"Accept-Language": language})
    assert answer.status_code == status
    assert word in answer.text
    plain = await web.request(method, path)
    assert plain.headers["content-type"].startswith("text/plain")


MACHINE = ("/healthz", "/readyz", "/metrics")


@pytest.mark.parametrize("path", MACHINE)
@pytest.mark.parametrize(
    ("address", "headers", "expose", "status"),
    [
        ("127.0.0.1", {}, False, 200),
        ("::1", {}, False, 200),
        ("::ffff:127.0.0.1", {}, False, 200),
        ("192.0.2.44", {}, False, 404),
        ("192.0.2.44", {"X-Forwarded-For": "127.0.0.1"}, False, 404),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.44"}, False, 404),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.44"}, False, 404),
        ("192.0.2.44", {}, True, 200),
    ],
)
async def test_machine_routes_answer_this_machine_only_unless_exposed(
    gateway: MemoryGateway, path: str, address: str, headers: dict[str, str], expose: bool, status: int
) -> None:
    async with browser(gateway, portal_settings(expose=expose), address=address) as client:
        assert (await client.get(path, headers=headers)).status_code == status


async def test_readiness_names_its_reasons(gateway: MemoryGateway) -> None:
    async with browser(gateway, portal_settings(), address="127.0.0.1") as client:
        gateway.reasons = ["the disk is full"]
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (
            503,
            {"ready": False, "reasons": ["the disk is full"], "notes": []},
        )
        gateway.failure = OpUnavailable()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 503


async def test_a_trusted_proxy_is_believed_about_the_client_and_a_stranger_is_not(gateway: MemoryGateway) -> None:
    settings = portal_settings(networks=["10.0.0.0/8"])
    spoofed = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    for address in ("10.1.2.3", "192.0.2.44"):
        async with browser(gateway, settings, address=address) as client:
            await client.post("/optin/k7f3newsletter", data={"email": "ann@example.net"}, headers=spoofed)
    assert {key for key in gateway.hits if key.startswith("optin:")} == {"optin:203.0.113.9", "optin:192.0.2.44"}


def test_uvicorn_keeps_no_access_log_and_believes_no_header(gateway: MemoryGateway) -> None:
    config = server_config(object(), Networks(()))  # type: ignore[arg-type]  # not run here
    assert not config.access_log
    assert not config.proxy_headers
    assert not config.server_header
