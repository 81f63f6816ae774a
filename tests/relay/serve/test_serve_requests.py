"""Due dates of requests while the gateway runs: metrics, and the alarms that ring from them (GDPR-24)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.keyring import Keyring
from relay.observe import metrics, request_metrics
from relay.observe.alarms import Alarms
from relay.owner import Owner
from relay.serve.requests import Requests
from relay.settings.model import Settings
from tests.harness.gateway import _Places

pytestmark = pytest.mark.anyio
DAY = 86_400.0
START = 1_767_348_000.0  # 2026-01-02T10:00:00Z


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World:
    """An owner, and the task that looks."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        data, keys = folder / "data", folder / "keys"
        settings = Settings.model_validate({"server": {"data_dir": str(data), "keys_dir": str(keys)}})
        self.owner = Owner.open(_Places(settings), Keyring.open(keys, create=True), now=lambda: self.now)
        self.owner.call("tenant.add", {"name": "shop"})
        self.task = Requests(self.op)

    async def op(self, name: str, args: dict[str, Any]) -> Any:
        return self.owner.call(name, args, actor="gateway")

    def figures(self) -> list[float]:
        gauges = (request_metrics.REQUESTS_OPEN, request_metrics.REQUESTS_DUE_SOON, request_metrics.REQUESTS_OVERDUE)
        return [gauge.values[("shop",)] for gauge in gauges]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.owner.close()
    for gauge in (request_metrics.REQUESTS_OPEN, request_metrics.REQUESTS_DUE_SOON, request_metrics.REQUESTS_OVERDUE):
        gauge.set(0, ("shop",))


async def test_what_waits_is_counted_until_it_is_answered(world: World) -> None:
    made: Any = world.owner.call("request.open", {"tenant": "shop", "kind": "access", "address": "ann@example.net"})
    await world.task.look()
    assert world.figures() == [1, 0, 0]
    world.now = made["due_at"] - 7 * DAY
    await world.task.look()
    assert world.figures() == [1, 1, 0]
    world.now = made["due_at"] + 1
    await world.task.look()
    assert world.figures() == [1, 0, 1]
    world.owner.call("request.answer", {"ref": made["ref"]})
    await world.task.look()
    assert world.figures() == [0, 0, 0]


async def test_the_alarms_ring_by_themselves(world: World) -> None:
    alarms, begun = Alarms(14 * DAY), []
    made: Any = world.owner.call("request.open", {"tenant": "shop", "kind": "erase", "address": "ann@example.net"})
    while world.now < made["due_at"] + DAY:
        world.now += 3_600
        await world.task.look()
        for change in alarms.look(world.now, metrics.snapshot()):
            if change.state == "begun" and change.condition.name.startswith("ZegelRequest"):
                begun.append((change.condition.name, change.labels, (world.now - made["due_at"]) / 3_600))
    assert begun == [("ZegelRequestDueSoon", "shop", -7 * 24), ("ZegelRequestOverdue", "shop", 1)]
