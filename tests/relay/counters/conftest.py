"""A Redis for the tests of this folder, empty for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer


@pytest.fixture(scope="package")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_ports(1)[0], "--save", "").start()
    yield server
    server.stop()


@pytest.fixture
def server(running_redis: RedisServer) -> RedisServer:
    running_redis.ask("FLUSHALL")
    return running_redis
