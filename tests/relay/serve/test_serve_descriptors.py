"""The limit on open files: raised, kept to, and told of where it is too small."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from relay.observe import events
from relay.observe.scarcity import Scarcity
from relay.serve import descriptors
from relay.settings.model import Settings
from tests.harness.client import Client
from tests.harness.gateway import MESSAGE, SENDER, Gateway
from tests.harness.limits import few_descriptors, no_descriptors


def _settings(most: int) -> Settings:
    return Settings.model_validate(
        {"server": {"data_dir": "data", "keys_dir": "keys"}, "limits": {"max_connections": most}}
    )


@pytest.mark.parametrize(
    ("limit", "workers", "possible"),
    [
        (20_000, 2, 10_000),  # all that is wanted
        (1024, 2, 1024 - descriptors.KEPT),
        (200, 1, 100),  # so small that half is for connections
        (1, 1, 1),
    ],
)
def test_a_worker_lets_in_what_the_limit_leaves(limit: int, workers: int, possible: int) -> None:
    room = descriptors.room(_settings(20_000), limit, workers)
    assert room.possible == possible and room.wanted == 20_000 // workers
    assert descriptors.room(_settings(20_000), room.needed, workers).possible == room.wanted
    assert room.possible == room.wanted or descriptors.room(_settings(20_000), room.needed - 1, workers)[1] < room[0]


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = descriptors.MOST if hard == resource.RLIM_INFINITY else min(hard, descriptors.MOST)
    with few_descriptors(512):
        assert descriptors.present() == 512 and descriptors.reachable() == most
        assert descriptors.raise_limit() == most == descriptors.present()


def test_want_of_descriptors_is_told_once_and_for_nothing_else(tmp_path: Path) -> None:
    scarcity = Scarcity()
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            with no_descriptors(), pytest.raises(OSError) as caught:
                os.open(tmp_path, os.O_RDONLY)
            assert scarcity.met(caught.value)
        assert not scarcity.met(FileNotFoundError(2, "gone")) and not scarcity.met(None)
    assert [(line["event"], line["error_count"]) for line in told] == [(events.DESCRIPTORS_EXHAUSTED, 1)]


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, workers=1)
    gateway.descriptors = 300
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def test_more_clients_than_descriptors_cost_those_inside_nothing(narrow: Gateway) -> None:
    """Each over the limit hears 421, on every port; who is in sends, and its mail leaves."""
    held: list[Client] = []
    with narrow.connect() as inside:
        assert inside.login(*narrow.logins["personal"]).startswith("235")
        try:
            for number in range(400):
                door = "plain" if number % 2 else "proxy"
                held.append(narrow.connect(door, address=f"198.51.100.{number // 2}"))
            greetings = [client.reply()[:3] for client in held]
            assert greetings.count("220") == 149 and greetings.count("421") == 251, "150 of 300 are for connections"
            for number in range(3):
                inside.envelope(SENDER, f"r{number}@dest.example")
                inside.send(MESSAGE + b"x" * 70_000 + b"\r\n.\r\n")
                assert inside.reply().startswith("250 2.0.0")
            narrow.sink.wait(3)
        finally:
            for client in held:
                client.close()
    narrow.until(lambda: _greets(narrow), 10.0, "the places did not come back")
    log = (narrow.folder / "gateway.log").read_text()
    assert log.count(events.CONNECTIONS_LIMITED) == 1 and "crashed" not in log and "exhausted" not in log


def _greets(gateway: Gateway) -> bool:
    with gateway.connect() as client:
        return client.reply().startswith("220")
