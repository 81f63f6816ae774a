"""A gateway with a moody next hop, started by the test that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.gateway import PACE, Gateway
from tests.harness.moody import Moody

Start = Callable[..., tuple[Gateway, Moody]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(workers=, **tables)`: a running gateway and its next hop; short first retries, so that a test can wait for them."""
    running: list[tuple[Gateway, Moody]] = []

    def begin(*, workers: int = 1, hop: Moody | None = None, **tables: Any) -> tuple[Gateway, Moody]:
        hop = hop or Moody()
        delivery = {"smarthosts": [f"smtp://127.0.0.1:{hop.port}"], "retry_after_seconds": [1.0, 1.0, 1800.0]}
        policies = {"throttle": PACE, **tables.pop("policies", {})}
        tables["delivery"] = {**delivery, **tables.get("delivery", {})}
        gateway = Gateway(tmp_path, workers=workers, policies=policies, **tables)
        running.append((gateway, hop))
        return gateway.start(), hop

    yield begin
    for gateway, hop in running:
        gateway.stop()
        hop.close()


def try_again(gateway: Gateway) -> None:
    """What waits is tried now: two of its retries come a second apart, the third in half an hour, and a slow test is late."""
    for row in gateway.op("queue.list"):
        if not row["held"]:
            gateway.attempt("queue.retry", id=row["id"])
