"""Keys of the API: each operation asks for one scope, expired keys are nobody's, and old keys keep every right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from alembic import command

from relay.mail.apikey import ALL, ApiKey, Scope
from relay.portal.app import create_app
from relay.store import migrate, schema
from tests.fakes.gateway import SHOP, SHOP_KEY, MemoryGateway, portal_settings
from tests.fakes.portal import OwnerGateway
from tests.harness.openapi import Operation, operations

PLACES = {"queue_id": "0R3M7K2QX9T1A", "message_id": "0R3M7K2QX9T1A", "name": "crm", "ref": "20260131-k7f3"}
AUTH = {"Authorization": f"Bearer {SHOP_KEY}"}
EVERY = frozenset(scope.value for scope in Scope)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    gateway = MemoryGateway(tmp_path_factory.mktemp("api"), capture=False)
    app = create_app(gateway, portal_settings(mode="smarthost"))
    (mounted,) = (route.app for route in app.routes if getattr(route, "path", "") == "/api/v1")  # type: ignore[attr-defined]  # a Mount
    yield mounted.openapi()


@pytest.fixture(scope="module")
def every(document: dict[str, object]) -> list[Operation]:
    return list(operations(document))


async def send(web: httpx.AsyncClient, one: Operation) -> httpx.Response:
    return await web.request(one.method, one.at(PLACES), params=one.query, json=one.body, headers=AUTH)


async def test_a_key_without_the_scope_of_an_operation_is_refused_by_name(
    web: httpx.AsyncClient, gateway: MemoryGateway, every: list[Operation]
) -> None:
    assert len(every) >= 18 and {one.scope for one in every} == EVERY
    rights = gateway.directory().rights
    for one in every:
        rights[SHOP_KEY] = (EVERY - {one.scope}, 0.0)
        answer = await send(web, one)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), one.name
        assert one.scope in answer.json()["detail"], one.name
        assert f'scope="{one.scope}"' in answer.headers["www-authenticate"], one.name
    assert gateway.ops == []


async def test_without_a_known_key_nothing_is_told_or_done(
    web: httpx.AsyncClient, gateway: MemoryGateway, every: list[Operation]
) -> None:
    for one in every:
        for given in ({}, {"Authorization": "Bearer zk_no"}):
            answer = await web.request(one.method, one.at(PLACES), params=one.query, json=one.body, headers=given)
            assert answer.status_code == 401, one.name
    assert gateway.ops == []


@pytest.mark.parametrize("only", [True, False])
async def test_a_key_with_that_scope_alone_or_with_all_is_let_in(
    web: httpx.AsyncClient, gateway: MemoryGateway, every: list[Operation], only: bool
) -> None:
    for one in every:
        gateway.directory().rights[SHOP_KEY] = (frozenset((one.scope if only else ALL,)), 0.0)
        assert (await send(web, one)).status_code not in (401, 403), one.name


async def test_an_expired_key_is_nobodys(
    web: httpx.AsyncClient, gateway: MemoryGateway, every: list[Operation]
) -> None:
    for one in every:
        gateway.directory().rights[SHOP_KEY] = (EVERY, time.time() - 1)
        answer = await send(web, one)
        assert answer.status_code == 401 and "expired" in answer.json()["detail"], one.name
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert gateway.ops == [] and gateway.used == [], "an expired key is not in use"
    gateway.directory().rights[SHOP_KEY] = (EVERY, time.time() + 3600)
    assert (await web.get("/api/v1/limits", headers=AUTH)).status_code == 200
    assert gateway.used == [("shop", "key")]


@pytest.mark.parametrize(("expires_at", "now", "expired"), [(0, 5e9, False), (10, 9.9, False), (10, 10, True)])
def test_a_key_ends_at_its_time(expires_at: float, now: float, expired: bool) -> None:
    assert ApiKey(SHOP, "x", expires_at=expires_at).has_expired(now) is expired


async def test_what_the_owner_made_is_what_counts(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    made = owned.owner.call(
        "apikey.add", {"tenant": "shop", "name": "narrow", "scopes": ["limits:read"], "expires": "2999-12-31"}
    )
    assert isinstance(made, dict) and made["scopes"] == ["limits:read"]
    auth = {"Authorization": f"Bearer {made['secret']}"}
    assert (await owned_web.get("/api/v1/limits", headers=auth)).status_code == 200
    assert (await owned_web.get("/api/v1/reputation", headers=auth)).status_code == 403


def test_keys_of_the_schema_before_keep_every_right(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'zegel.db'}")
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0005")
        connection.execute(sa.text("INSERT INTO tenant (id, name) VALUES (1, 'shop')"))
        row = "INSERT INTO api_key (tenant_id, name, key_id, digest) VALUES (1, 'old', 1, x'00')"
        connection.execute(sa.text(row))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        table = schema.api_key.c
        found = connection.execute(sa.select(table.scopes, table.expires_at, table.used_at)).one()
    assert tuple(found) == (ALL, 0, 0)
    engine.dispose()
