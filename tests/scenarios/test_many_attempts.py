"""Attempts from many connections against mixed limits: whatever workers, gateways and Redis do, no limit lets more through.

What passed is counted where it arrives. One gateway with four workers and three gateways on one Redis keep to each limit and its
stated burst; three whose Redis is killed, failed over or loses a node, to the excess of docs/decisions/008.

ZEGEL_TEST_ATTEMPTS says how many each test makes; 1,000 by default, 100,000 for the full run. The figures are printed with `-s`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.counters.remote import key_of
from tests.harness.ports import free_ports
from tests.harness.redis import LASTING, RedisServer, cluster, stop_all, until, watched_pair
from tests.harness.senders import Attempt
from tests.scenarios.attempts import (
    CONNECTIONS,
    DAILY,
    PATIENCE_SECONDS,
    Crowd,
    Story,
    Town,
    check_bound,
    check_honest,
    figure,
    limit_of,
    told,
)

ATTEMPTS = int(os.environ.get("ZEGEL_TEST_ATTEMPTS", "1000"))
NODES = 3
SHARE = 0.25
SERVICE = "counters"
PAUSE_SECONDS = 0.25  # of each connection in an outage


class Ground:
    """Gateways, their Redis and who sends to them; ends what it started."""

    def __init__(self, folder: Path, founded: Town) -> None:
        self.folder = folder
        self.founded = founded
        self.crowd = Crowd()
        self.towns: list[Town] = []
        self.servers: list[RedisServer] = []

    def begin(self, nodes: int, workers: int, *, pause_seconds: float = 0.0, **storage: object) -> None:
        """Start so many gateways, and everybody sends, with a pause after each attempt."""
        for number in range(nodes):
            folder = self.folder / f"gateway-{number}"
            town = Town(folder, ATTEMPTS, sink=self.crowd.port, workers=workers, like=self.founded, **storage)
            self.towns.append(town)
            town.start()
        lines = [line for place, town in enumerate(self.towns) for line in town.lines(place, CONNECTIONS // nodes)]
        self.crowd.ask({"begin": lines, "pause_seconds": pause_seconds})

    def each_has(self, name: str, value: Callable[[float], bool], otherwise: str) -> None:
        """Wait until a metric of every gateway is as it should be."""
        until(lambda: all(value(town.metric(name)) for town in self.towns), PATIENCE_SECONDS, otherwise)

    def each_was_alone(self) -> None:
        self.each_has("zegel_limits_degradations_total", lambda times: times > 0, "somebody has not noticed")

    def each_is_back(self) -> None:
        self.each_has("zegel_limits_degraded", lambda degraded: not degraded, "somebody is still alone")

    def degradations(self) -> float:
        return sum(town.metric("zegel_limits_degradations_total") for town in self.towns)

    def end(self) -> None:
        for town in self.towns:
            town.stop()
        self.crowd.end()
        stop_all(self.servers)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town") / "founded", ATTEMPTS)
    yield made
    made.stop()


@pytest.fixture
def ground(tmp_path: Path, founded: Town) -> Iterator[Ground]:
    made = Ground(tmp_path, founded)
    yield made
    made.end()


def alone(limit: int) -> int:
    """What all nodes may let through of a limit while Redis is away."""
    return NODES * max(1, int(limit * SHARE))


def check(ground: Ground, why: str, *, outage: bool = False, unheard: Callable[[Attempt], bool] | None = None) -> Story:
    """The promise for each limit. `unheard`: attempts that a new primary may not know of."""
    story = told(ground.crowd, ground.towns, ground.folder)
    check_honest(story)
    sys.stdout.write(f"\n{why}: {len(story.attempts)} attempts over {len(ground.towns)} gateways\n")
    for bound in ground.towns[0].bounds:
        allowed = bound.amount + (alone(bound.amount) if outage else 0)
        lost = [one for one in story.accepted.values() if unheard and one.login in bound.logins and unheard(one)]
        gap = sum(one.recipients for one in lost) if bound.name == DAILY else len(lost)
        found = figure(story, bound, allowed)
        excess = f"; at most {allowed} and {gap} unheard" if outage else ""
        sys.stdout.write(f"  {found.text}{excess}\n")
        check_bound(found, allowed, gap)
    return story


def test_four_workers_that_count_for_themselves(ground: Ground) -> None:
    ground.begin(1, 4)
    ground.crowd.finish(ATTEMPTS)
    check(ground, "embedded, 4 workers")


def test_three_gateways_on_one_redis(ground: Ground) -> None:
    server = RedisServer(ground.folder / "redis", free_ports(1)[0], *LASTING).start()
    ground.servers.append(server)
    ground.begin(NODES, 2, counters=server.url, counters_timeout_seconds=10.0)
    ground.crowd.finish(ATTEMPTS)
    check(ground, "one Redis")
    assert not ground.degradations(), "Redis counted all of it"


def outage(ground: Ground, url: str) -> None:
    """Three gateways whose limits are not used up yet. They are busy and not choked, or the outage would last."""
    storage = {"counters": url, "counters_degraded_share": SHARE, "counters_timeout_seconds": 1.5}
    ground.begin(NODES, 1, pause_seconds=PAUSE_SECONDS, **storage)
    ground.crowd.wait("attempts", ATTEMPTS // 5)


def test_redis_is_killed_and_started_again(ground: Ground) -> None:
    server = RedisServer(ground.folder / "redis", free_ports(1)[0], *LASTING).start()
    ground.servers.append(server)
    outage(ground, server.url)
    server.kill()
    ground.each_was_alone()
    ground.crowd.more(ATTEMPTS // 3)
    server.start()
    ground.each_is_back()
    ground.crowd.more(ATTEMPTS // 3)
    ground.crowd.finish(ATTEMPTS)
    check(ground, "Redis killed and started again", outage=True)


def test_sentinels_fail_over(ground: Ground) -> None:
    """To a replica that was cut off for a while before."""
    servers, sentinels = watched_pair(ground.folder, SERVICE)
    ground.servers += [*sentinels, *servers]
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    outage(ground, f"redis+sentinel://{hosts}/{SERVICE}")
    first, second = servers
    heard = heard_until(first, second)
    second.pause()
    first.ask("CLIENT", "KILL", "TYPE", "replica")  # it cannot connect again while it stands still
    ground.crowd.more(ATTEMPTS // 20)
    first.kill()
    killed = time.time()
    second.resume()
    ground.each_was_alone()
    ground.each_is_back()
    ground.crowd.more(ATTEMPTS // 3)
    ground.crowd.finish(ATTEMPTS)
    check(
        ground, "failed over by Sentinels", outage=True, unheard=lambda one: one.replied > heard and one.sent < killed
    )


def test_a_primary_of_a_cluster_is_lost(ground: Ground) -> None:
    """The one that holds the limits of a tenant."""
    nodes = cluster(ground.folder)
    ground.servers += nodes
    outage(ground, "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes))
    bound = next(one for one in ground.towns[0].bounds if one.name == DAILY)
    tenant = next(row["id"] for row in ground.towns[0].op("tenant.list") if row["name"] == bound.tenant)
    slot = str(nodes[0].ask("CLUSTER", "KEYSLOT", key_of(limit_of(bound, tenant))))
    holder = next(node for node in nodes if role(node) == "master" and node.ask("CLUSTER", "COUNTKEYSINSLOT", slot))
    replica = next(node for node in nodes if node.ask("INFO", "replication").get("master_port") == holder.port)
    heard = heard_until(holder, replica)
    holder.kill()
    killed = time.time()
    ground.each_was_alone()
    ground.each_is_back()
    ground.crowd.more(ATTEMPTS // 3)
    ground.crowd.finish(ATTEMPTS)
    check(
        ground, "a Cluster's primary lost", outage=True, unheard=lambda one: one.replied > heard and one.sent < killed
    )


def role(server: RedisServer) -> str:
    return str(server.ask("INFO", "replication")["role"])


def heard_until(primary: RedisServer, replica: RedisServer) -> float:
    """A moment of which the replica has heard all that was charged before."""
    now = time.time()
    written = primary.ask("INFO", "replication")["master_repl_offset"]
    until(
        lambda: replica.ask("INFO", "replication")["slave_repl_offset"] >= written, PATIENCE_SECONDS, "it hears nothing"
    )
    return now
