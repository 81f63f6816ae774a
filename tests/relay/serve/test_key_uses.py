"""The last use of a key is told once a day, and again where that failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.mail.apikey import ApiKey
from relay.mail.envelope import Tenant
from relay.serve.channel import OpUnavailable
from relay.serve.key_uses import DAY_SECONDS, KeyUses

SHOP = Tenant(id=7, name="shop")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_each_key_is_told_once_a_day() -> None:
    told: list[tuple[str, Any]] = []
    now, is_down = [DAY_SECONDS * 20_000.0], [True]

    async def call(op: str, args: dict[str, Any]) -> Any:
        told.append((op, args["name"]))
        if is_down[0]:
            raise OpUnavailable("store")

    uses = KeyUses(call, now=lambda: now[0])

    async def use(name: str) -> list[str]:
        told.clear()
        uses.note(ApiKey(SHOP, name))
        await asyncio.gather(*uses._tasks)
        return [name for _, name in told]

    assert await use("a") == ["a"]
    is_down[0] = False
    assert await use("a") == ["a"], "it could not be told before"
    assert await use("a") == [] and await use("b") == ["b"]
    now[0] += DAY_SECONDS
    assert await use("a") == ["a"]
