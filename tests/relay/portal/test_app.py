"""Applications of one process share their routes; what each allows, counts and keeps is its own."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from relay.portal.app import create_app
from tests.fakes.gateway import SHOP_KEY, MemoryGateway, portal_settings
from tests.fakes.portal import browser

AUTH = {"Authorization": f"Bearer {SHOP_KEY}"}


@pytest.fixture
def smarthost(tmp_path: Path) -> MemoryGateway:
    return MemoryGateway(tmp_path / "smarthost", capture=False)


async def statuses(web: httpx.AsyncClient, *paths: str) -> list[int]:
    return [(await web.get(path)).status_code for path in paths]


def test_routes_are_made_once_in_a_process(gateway: MemoryGateway, smarthost: MemoryGateway) -> None:
    """To make them takes the framework 70 ms and more."""
    one, other = create_app(gateway, portal_settings()), create_app(smarthost, portal_settings(mode="smarthost"))
    ids = [{id(route) for route in app.routes if getattr(route, "endpoint", None)} for app in (one, other)]
    assert ids[1] < ids[0] and len(ids[1]) > 20


async def test_each_application_has_its_own_switches(gateway: MemoryGateway, smarthost: MemoryGateway) -> None:
    async with (
        browser(gateway, portal_settings()) as shut,
        browser(gateway, portal_settings(expose=True, outbox=True)) as wide,
        browser(smarthost, portal_settings(mode="smarthost", outbox=True)) as bare,
    ):
        for _ in range(2):
            assert await statuses(shut, "/healthz", "/metrics", "/outbox") == [404, 404, 404]
            assert await statuses(wide, "/healthz", "/metrics", "/outbox") == [200, 200, 200]
            assert await statuses(bare, "/healthz", "/outbox", "/") == [404, 404, 200]


async def test_each_application_counts_for_itself(gateway: MemoryGateway) -> None:
    async with (
        browser(gateway, portal_settings(rates=(1, 1))) as one,
        browser(gateway, portal_settings(rates=(1, 1))) as other,
    ):
        for web in (one, other):
            answers = [(await web.get("/api/v1/limits", headers=AUTH)).status_code for _ in range(2)]
            assert answers == [200, 429]
