"""Three gateways on one Redis that is killed, restarted, failed over, or loses a node: limits hold but for the stated excess.

Stated in docs/decisions/008: while Redis is away each node lets through at most its share of a limit, and a primary that takes
over may not know the last charges. So never more passes than limit x (1 + share x nodes) + what was not yet replicated.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.counters.remote import RedisCounters, key_of
from relay.counters.slots import SlottedCounters
from tests.faults.limits_node import DAILY, SESSIONS, SHARE, TIMEOUT_SECONDS
from tests.harness.counters import Driven
from tests.harness.ports import free_ports
from tests.harness.redis import LASTING, RedisServer, cluster, stop_all, until, watched_pair

ROOT = Path(__file__).parents[2]
NODES = 3
SHARES = NODES * int(DAILY.amount * SHARE)
IN_FLIGHT = NODES * SESSIONS
ENOUGH = DAILY.amount // 4


class Gateways:
    """Three processes that charge the same limit all the time, each with counters of its own to fall back on."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        command = [sys.executable, "-m", "tests.faults.limits_node", url]
        self._processes = [
            subprocess.Popen(
                [*command, str(folder / f"node-{number}")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for number in range(NODES)
        ]

    def told(self) -> list[dict[str, Any]]:
        found = []
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline()))
        assert not any(node["broken"] for node in found), found
        return found

    def total(self, what: str) -> int:
        return sum(node[what] for node in self.told())

    def charged(self) -> int:
        """By Redis: each node's two numbers are of one moment, while it goes on with its own share."""
        return sum(node["granted"] - node["local"] for node in self.told())

    def until(self, condition: Callable[[list[dict[str, Any]]], bool], otherwise: str, seconds: float = 30.0) -> None:
        until(lambda: condition(self.told()), seconds, f"{otherwise}: {self.told()}")

    def all_degraded(self) -> None:
        self.until(lambda nodes: all(node["degraded"] for node in nodes), "somebody has not noticed")

    def all_recovered(self) -> None:
        self.until(lambda nodes: not any(node["degraded"] for node in nodes), "somebody is still alone")

    def use_up(self) -> None:
        """Until every node has been refused again and again."""
        seen = [node["refused"] for node in self.told()]
        self.until(
            lambda nodes: all(node["refused"] > was + 100 for node, was in zip(nodes, seen, strict=True)),
            "no end to it",
        )

    def end(self) -> None:
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.read()
            process.wait(20)
            process.stdout.close()


class Ground:
    """Starts gateways, and ends what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[RedisServer] = []
        self.gateways: Gateways | None = None

    def begin(self, url: str) -> Gateways:
        self.gateways = Gateways(url, self.folder)
        self.gateways.until(
            lambda nodes: sum(node["granted"] for node in nodes) > ENOUGH and not any(n["degraded"] for n in nodes),
            "they do not begin",
        )
        assert self.gateways.total("local") == 0, "Redis alone counts"
        return self.gateways

    def end(self) -> None:
        if self.gateways is not None:
            self.gateways.end()
        stop_all(self.servers)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.end()


def known(url: str, kind: type[RedisCounters] = RedisCounters) -> int:
    """What Redis says is charged."""
    driven = Driven(url, kind)
    try:
        return driven.used(DAILY, time.time())
    finally:
        driven.close()


def check(gateways: Gateways, lost: int, why: str) -> None:
    """The promise, and that it is not kept by letting nothing through."""
    nodes = gateways.told()
    granted, local = sum(node["granted"] for node in nodes), sum(node["local"] for node in nodes)
    told = f"{why}: limit {DAILY.amount}, passed {granted} (alone {local} of at most {SHARES}, not replicated {lost})"
    sys.stdout.write(told + "\n")
    assert granted <= DAILY.amount + SHARES + lost
    assert local <= SHARES
    assert granted >= DAILY.amount * 0.98 + local - 100, "charged but not let through: answers that were lost"
    # Connecting, asking and asking again once each have their time; nobody waits longer. Who stopped the loop for Redis would
    # stop it for the whole of that time; a busy machine does for less.
    assert max(node["longest"] for node in nodes) < 4 * TIMEOUT_SECONDS
    assert max(node["lag"] for node in nodes) < TIMEOUT_SECONDS * 2 / 3


def test_redis_is_killed_and_started_again(ground: Ground) -> None:
    server = RedisServer(ground.folder / "redis", free_ports(1)[0], *LASTING).start()
    ground.servers.append(server)
    gateways = ground.begin(server.url)
    server.kill()
    gateways.all_degraded()
    gateways.use_up()
    assert gateways.total("local") == SHARES, "each node has used its share, and no more"
    server.start()
    gateways.all_recovered()
    gateways.use_up()
    check(gateways, 0, "killed and started again")
    assert known(server.url) == DAILY.amount


def test_a_redis_that_comes_and_goes_gives_the_share_once(ground: Ground) -> None:
    server = RedisServer(ground.folder / "redis", free_ports(1)[0], *LASTING).start()
    ground.servers.append(server)
    gateways = ground.begin(server.url)
    for _ in range(3):
        server.kill()
        gateways.all_degraded()
        server.start()
        gateways.all_recovered()
    server.kill()
    gateways.all_degraded()
    gateways.use_up()
    server.start()
    gateways.all_recovered()
    gateways.use_up()
    check(gateways, 0, "four outages in a row")


def test_redis_hangs(ground: Ground) -> None:
    server = RedisServer(ground.folder / "redis", free_ports(1)[0]).start()
    ground.servers.append(server)
    gateways = ground.begin(server.url)
    server.pause()
    gateways.all_degraded()
    assert all("Timeout" in node["why"] for node in gateways.told())
    gateways.use_up()
    server.resume()
    gateways.all_recovered()
    gateways.use_up()
    check(gateways, 0, "hung for a while")


def test_redis_becomes_a_replica(ground: Ground) -> None:
    """A primary that was demoted answers READONLY."""
    server, other = (RedisServer(ground.folder / str(port), port).start() for port in free_ports(2))
    ground.servers += [server, other]
    gateways = ground.begin(server.url)
    server.ask("CONFIG", "SET", "replica-priority", "100")
    server.ask("REPLICAOF", "127.0.0.1", "1")  # nobody is there, so it keeps what it has
    gateways.all_degraded()
    gateways.use_up()
    server.ask("REPLICAOF", "NO", "ONE")
    gateways.all_recovered()
    gateways.use_up()
    check(gateways, 0, "demoted for a while")


def test_sentinels_fail_over(ground: Ground) -> None:
    """To a replica that had not heard for a while: what it does not know passes once more, and nothing else does."""
    servers, sentinels = watched_pair(ground.folder, "counters")
    ground.servers += [*sentinels, *servers]
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    gateways = ground.begin(f"redis+sentinel://{hosts}/counters")
    begun = gateways.total("granted")  # before: what is charged from now on, the replica may not hear of
    servers[1].pause()
    servers[0].ask("CLIENT", "KILL", "TYPE", "replica")  # it cannot connect again while it stands still
    unheard = gateways.total("granted")  # what is charged after this the replica has surely not heard of
    gateways.until(lambda nodes: sum(node["granted"] for node in nodes) > unheard + 200, "nothing passes")
    servers[0].kill()
    gateways.all_degraded()
    charged = gateways.charged()
    servers[1].resume()
    gateways.all_recovered()
    gateways.use_up()
    lost = gateways.charged() - DAILY.amount
    assert 150 < lost <= charged, "the test wants a gap"
    check(gateways, charged - begun + IN_FLIGHT, f"failed over by Sentinels, {lost} of the gap passed again")


def test_a_primary_of_a_cluster_is_lost(ground: Ground) -> None:
    nodes = cluster(ground.folder)
    ground.servers += nodes
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    url = f"redis+cluster://{hosts}"
    gateways = ground.begin(url)
    slot = str(nodes[0].ask("CLUSTER", "KEYSLOT", key_of(DAILY)))
    holder = next(node for node in nodes if node.ask("CLUSTER", "COUNTKEYSINSLOT", slot) and is_primary(node))
    holder.kill()
    gateways.all_degraded()
    gateways.all_recovered()
    gateways.use_up()
    # Its replica heard all but what was on its way.
    check(gateways, IN_FLIGHT, "a primary of a cluster was lost")
    assert known(url, SlottedCounters) == DAILY.amount


def is_primary(server: RedisServer) -> bool:
    return bool(server.ask("INFO", "replication")["role"] == "master")
