"""One gateway for every conversation; tests that need other settings, or that stop it, start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.gateway import Gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        limits={"max_message_bytes": 300_000, "max_in_flight_bytes": 3_000_000, "connections_per_address": 4},
        policies={"pipeline": {"partial": {"transactional": "partial"}}},
    )
    try:
        yield gateway.start()
    finally:
        gateway.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway with the given tables of the config, for this test alone."""
    made: list[Gateway] = []

    def start(*, workers: int = 1, **changes: dict[str, Any]) -> Gateway:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Gateway(folder, workers=workers, **changes))
        return made[-1].start()

    yield start
    for gateway in made:
        gateway.stop()
