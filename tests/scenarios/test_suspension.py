"""THROTTLE-9: a suspended account as its senders, its contact and the operator meet it, over workers and over gateways."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.client import Client
from tests.harness.gateway import MESSAGE, SENDER, Gateway
from tests.harness.post import letter, post
from tests.harness.redis import LASTING, RedisServer, free_ports
from tests.scenarios.conftest import Start

SOON = 2.0  # seconds, as the rule says
SESSIONS = 8  # over two workers: the chance that one has none of them is under 1 in 100
ANN = ["ann@dest.example"]


@contextlib.contextmanager
def transactions(gateway: Gateway, login: str) -> Iterator[list[Client]]:
    """Open sessions, each with a transaction begun."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.connect()) for _ in range(SESSIONS)]
        for client in clients:
            assert client.login(*gateway.logins[login]).startswith("235")
            assert client.ask(f"MAIL FROM:<{SENDER}>").startswith("250")
        yield clients


def seconds_until_refused(clients: list[Client], since: float) -> list[float]:
    """When each session heard of it at its next command, in seconds after `since`."""
    heard: dict[int, float] = {}
    number = 0
    while len(heard) < len(clients):
        assert time.monotonic() < since + 10.0, "a session goes on"
        number += 1
        for at, client in enumerate(clients):
            if at in heard:
                continue
            reply = client.ask(f"RCPT TO:<p{number}@dest.example>")
            if not reply.startswith("250"):
                assert reply.startswith("421 4.7.0 [THROTTLE-9]"), reply
                assert client.is_closed()
                heard[at] = time.monotonic() - since
        time.sleep(0.02)
    return list(heard.values())


def test_a_suspended_login_stops_in_every_open_session_and_no_other(start: Start) -> None:
    gateway, hop = start(workers=2)
    with transactions(gateway, "personal") as clients, gateway.connect() as writing, gateway.connect() as other:
        assert writing.login(*gateway.logins["personal"]).startswith("235")
        writing.envelope(SENDER, "ann@dest.example")
        writing.send(MESSAGE[:30])
        assert other.login(*gateway.logins["transactional"]).startswith("235")
        gateway.op("credential.suspend", name="personal", reason="stolen")
        delays = seconds_until_refused(clients, time.monotonic())
        sys.stdout.write(f"refused in open sessions after {min(delays):.2f} to {max(delays):.2f} s\n")
        assert max(delays) < SOON
        writing.send(MESSAGE[30:] + b".\r\n")
        assert writing.reply().startswith("421 4.7.0 [THROTTLE-9]")
        other.envelope(SENDER, "ann@dest.example")
        other.send(MESSAGE + b".\r\n")
        assert other.reply().startswith("250 2.0.0")
    with gateway.connect() as client:
        assert client.login(*gateway.logins["personal"]).startswith("525 5.7.13 [THROTTLE-9]")
    gateway.settle()
    assert sum("ann@dest.example" in one.rcpt[0] for one in hop.wait(0)) == 1, "the other login's mail and no more"
    assert gateway.metric('zegel_suspended_accounts{kind="credential"}') == 1.0
    gateway.op("credential.resume", name="personal", reason="new password")
    gateway.within(lambda: _sends(gateway), SOON, "not released")


def test_its_queue_freezes_and_leaves_when_a_person_releases_it(start: Start) -> None:
    """Nothing of it is sent, in any worker and after a restart; released, all of it leaves once, and its contact knew why."""
    gateway, hop = start(workers=2)
    hop.down()
    for number in range(10):
        login = ("personal", "transactional")[number % 2]
        post(gateway, login, ANN, letter("To: ann@dest.example", f"Subject: {number}"))
    gateway.op("tenant.suspend", name="shop", reason="bought list")
    gateway.until(lambda: not any(_sends(gateway) for _ in range(SESSIONS)), 5.0, "a worker has not heard")
    hop.up()
    gateway.until(lambda: gateway.op("queue.stats")["frozen"] == 10, 20.0, "not frozen")
    (told,) = hop.wait(1)
    text = told.raw.decode()
    assert told.rcpt == [f"RCPT TO:<{SENDER}> NOTIFY=NEVER"] and "was suspended" in told.head
    assert "bought list" in text and "72 hours" in text
    gateway.until(lambda: len(gateway.op("queue.list", tenant="shop")) == 10, 5.0, "a person must see what is frozen")

    gateway.signal(signal.SIGTERM)
    gateway.wait()
    gateway.start()
    gateway.until(lambda: gateway.op("queue.stats")["frozen"] == 10, 10.0, "not frozen after a restart")
    assert len(hop.wait(1)) == 1, "nothing of it left, and the contact is told once"

    gateway.op("tenant.resume", name="shop", reason="list thrown away")
    released = time.monotonic()
    arrived = hop.wait(11)
    sys.stdout.write(f"10 frozen messages left {time.monotonic() - released:.2f} s after the release\n")
    assert time.monotonic() - released < SOON
    subjects = sorted(line for one in arrived for line in one.head.split("\r\n") if line.startswith("Subject: "))
    assert subjects[:10] == [f"Subject: {number}" for number in range(10)]
    gateway.settle()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[list[Gateway], RedisServer]]:
    redis = RedisServer(tmp_path / "redis", free_ports(1)[0], *LASTING).start()
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(Gateway(tmp_path / name, storage={"counters": redis.url}))
    try:
        yield [gateway.start() for gateway in made], redis
    finally:
        for gateway in made:
            gateway.stop()
        redis.stop()


def test_it_holds_at_every_gateway_of_the_same_redis(pair: tuple[list[Gateway], RedisServer]) -> None:
    (one, two), redis = pair
    with transactions(two, "personal") as clients:
        one.op("tenant.suspend", name="shop", reason="spam")
        delays = seconds_until_refused(clients, time.monotonic())
        sys.stdout.write(f"refused at the other gateway after {min(delays):.2f} to {max(delays):.2f} s\n")
        assert max(delays) < SOON
    assert not any(b"shop" in value or b"spam" in value for value in _held(redis)), "Redis holds digests and numbers"

    redis.kill()
    assert not _sends(two), "a Redis that is away releases nobody"
    two.op("tenant.resume", name="shop")
    two.until(lambda: _sends(two), 5.0, "not released where it was said")
    assert not _sends(one), "it cannot have heard"
    redis.start()
    one.until(lambda: _sends(one), 10.0, "not released at the other gateway")
    assert _sends(two)

    redis.ask("FLUSHALL")
    one.op("credential.suspend", name="personal")
    two.within(lambda: not _sends(two), SOON, "a Redis that forgot is told again")


def _held(redis: RedisServer) -> list[bytes]:
    found: list[bytes] = []
    for key in redis.ask("KEYS", "*suspended*"):
        answer: Any = redis.ask("HGETALL", key)
        found += [part for pair in answer.items() for part in pair]
    assert found
    return found


def _sends(gateway: Gateway) -> bool:
    with gateway.connect() as client:
        return client.login(*gateway.logins["personal"]).startswith("235")
