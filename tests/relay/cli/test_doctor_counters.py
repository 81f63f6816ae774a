"""`zegel doctor` on a Redis that is there, forgets, is a replica, wants a password, or is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli.findings import Finding
from relay.cli.shared_counters import counters
from relay.settings.model import Settings
from relay.settings.storage import Storage
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[RedisServer]]:
    servers: list[RedisServer] = []
    yield servers
    for server in servers:
        server.kill()


def look(url: str) -> list[Finding]:
    return counters(Settings(storage=Storage(counters=url)))


def test_the_node_own_counters_are_not_looked_at() -> None:
    assert look("embedded") == []


@pytest.mark.parametrize(
    ("options", "states", "word"),
    [
        (["--appendonly", "yes"], ["ok"], "takes charges"),
        (["--appendonly", "no"], ["ok", "warn"], "a restart forgets"),
        (
            ["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            ["ok", "warn"],
            "is full",
        ),
        (["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"], ["ok"], "takes charges"),
        (["--replicaof", "127.0.0.1", "1"], ["wrong"], "ReadOnlyError"),
        (["--requirepass", "geheim"], ["wrong"], "AuthenticationError"),
        (None, ["wrong"], "ConnectionError"),
    ],
)
def test_what_is_wrong_with_redis_is_told_with_its_remedy(
    options: list[str] | None, states: list[str], word: str, tmp_path: Path, port: int, started: list[RedisServer]
) -> None:
    server = RedisServer(tmp_path / "redis", port, *(options or ()))
    if options is not None:
        started.append(server.start())
    found = look(server.url.replace("://", "://:wrong@") if options and "--requirepass" in options else server.url)
    assert [finding.state for finding in found] == states
    assert word in found[-1].text and (states[-1] == "ok" or found[-1].remedy)
    assert "wrong@" not in str(found)
