"""A Redis for the tests of this folder, empty for each of them."""

from __future__ import annotations

import pytest

from tests.harness.redis import RedisServer


@pytest.fixture
def server(empty_redis: RedisServer) -> RedisServer:
    return empty_redis
