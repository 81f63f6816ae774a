"""Kill -9 at random moments under load: no acknowledged message is lost, and none comes twice without a reason (OUT-1, OUT-10).

ZEGEL_TEST_KILLS says how many kills; 10 by default, 200 for the full run. The figures are printed with `-s`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.world import Clients, Sink, World, gone, is_alive, kill

pytestmark = pytest.mark.anyio

KILLS = int(os.environ.get("ZEGEL_TEST_KILLS", "10"))


@pytest.fixture
async def world(tmp_path: Path, sink: Sink) -> AsyncIterator[World]:
    made = World(tmp_path, sink.port)
    yield made
    if made.process is not None:
        made.crash()


async def test_kills_at_random_moments(world: World, sink: Sink, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    clients = Clients(world)
    kills: list[float] = []
    strays: list[int] = []
    await world.start(2)
    clients.start()
    for number in range(KILLS):
        await clients.acknowledge(dice.randint(1, 60))
        await asyncio.sleep(dice.random() * 0.2)
        children = world.every_child()
        kills.append(time.monotonic())
        if number % 4 == 3 or not children:
            strays += children
            everything = dice.random() < 0.5
            if everything:
                world.crash()
            else:
                world.kill_supervisor()
            await world.start(dice.choice([1, 2, 3, 4]))
        else:
            kill(dice.choice(children))
    await clients.stop()
    lost = await sink.wait_for(clients.acknowledged, 20.0)
    await gone(strays)
    await world.stop()
    with capsys.disabled():
        sys.stderr.write(
            f"\n{KILLS} kills (seed {seed}): {len(clients.acknowledged)} acknowledged, {len(lost)} lost, "
            f"{len(sink.twice())} arrived twice, {len(clients.in_doubt)} without an answer, {len(clients.refusals)} refused\n"
        )
    assert not lost, f"seed {seed}: {sorted(lost)[:20]}"
    assert not sink.unexplained(kills, slack=0.5), f"seed {seed}"
    assert sink.arrived.keys() <= clients.acknowledged | clients.in_doubt, "a refused message was sent"


async def test_without_a_supervisor_its_children_drain_and_leave(world: World, sink: Sink) -> None:
    """And a new one starts, with the ports, the lock and the control socket."""
    await world.start(1)
    clients = Clients(world, sessions=4)
    clients.start()
    await clients.acknowledge(50)
    children = world.children()
    assert len(children) == 2 and all(map(is_alive, children))
    world.kill_supervisor()
    await world.start(1)
    await gone(children)
    await clients.acknowledge(50)
    await clients.stop()
    assert not await sink.wait_for(clients.acknowledged, 20.0)
    assert not sink.twice(), "a drain is no crash: nothing was in doubt"
    await world.stop()


async def test_what_waits_is_adopted_by_fewer_workers(world: World, sink: Sink) -> None:
    sink.answers = False
    await world.start(4)
    clients = Clients(world)
    clients.start()
    await clients.acknowledge(400)
    world.crash()
    await world.start(1)
    sink.answers = True
    await clients.stop()
    assert not await sink.wait_for(clients.acknowledged, 60.0)
    await world.stop()
    assert not sink.twice()
    left = list((world.data / "queue").glob("*.queue"))
    assert left == [], "what is delivered leaves nothing behind"
