"""The portal over a gateway in memory, and over the real owner, both spoken to without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.gateway import MemoryGateway, portal_settings
from tests.fakes.portal import OwnerGateway, browser


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[MemoryGateway]:
    made = MemoryGateway(tmp_path)
    yield made
    if made.outbox is not None:
        made.outbox.close()


@pytest.fixture
async def web(gateway: MemoryGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(gateway, portal_settings()) as client:
        yield client


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[OwnerGateway]:
    made = OwnerGateway(tmp_path)
    yield made
    made.close()


@pytest.fixture
async def owned_web(owned: OwnerGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(owned, portal_settings()) as client:
        yield client
