"""Two gateways on one Redis, as senders and operators see them."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.cli.demo_setup import config_text
from tests.harness.gateway import AGREED, Gateway, consent_row
from tests.harness.ports import free_ports
from tests.harness.post import NEWS, letter, outsiders, post
from tests.harness.redis import LASTING, RedisServer
from tests.relay.cli.conftest import Zegel, log_as_it_was

__all__ = ["log_as_it_was"]  # a command sets the log of its process
PASSWORD = "geheim-van-redis"
MINUTE = {"personal_messages_per_minute": 6, "tenant_messages_per_minute": 0}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", free_ports(1)[0], "--requirepass", PASSWORD, *LASTING)
    yield server.start()
    server.stop()


@pytest.fixture
def pair(tmp_path: Path, redis: RedisServer) -> Iterator[list[Gateway]]:
    secret = tmp_path / "redis.secret"
    secret.write_text(PASSWORD + "\n")
    storage = {"counters": redis.url, "counters_password_file": str(secret), "counters_degraded_share": 0.5}
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(
            Gateway(
                tmp_path / name,
                storage=storage,
                policies={"throttle": MINUTE},
                limits={"failed_logins_per_10_minutes": 3},
            )
        )
    try:
        yield [gateway.start() for gateway in made]
    finally:
        for gateway in made:
            gateway.stop()


def send(gateway: Gateway) -> str:
    """The reply to a personal mail."""
    return post(gateway, "personal", outsiders(1), letter("To: p0@party0.example", "Subject: Hallo")).reply


def ready(gateway: Gateway) -> Any:
    with urllib.request.urlopen(f"{gateway.settings.web.public_url}/readyz", timeout=20.0) as answer:
        return json.loads(answer.read())


def logged(gateway: Gateway) -> str:
    return (gateway.folder / "gateway.log").read_text()


def test_a_limit_holds_over_gateways_and_a_share_of_it_without_redis(pair: list[Gateway], redis: RedisServer) -> None:
    one = pair[0]
    replies = [send(pair[number % 2]) for number in range(7)]
    assert [reply[:3] for reply in replies] == ["250"] * 6 + ["450"]
    assert "4.7.28" in replies[6] and "THROTTLE-1" in replies[6]
    assert ready(one) == {"ready": True, "reasons": [], "notes": []}
    one.until(lambda: one.metric("zegel_limits_seconds_count") > 0, 10.0, "no round trip is counted")
    assert one.metric("zegel_limits_degraded") == 0.0

    redis.kill()
    alone = [[send(gateway)[:3] for _ in range(4)] for gateway in pair]
    assert alone == [["250", "250", "250", "450"]] * 2, "half of six for each node, over both its workers"
    for gateway in pair:
        gateway.until(lambda g=gateway: g.metric("zegel_limits_degraded") == 1.0, 10.0, "no metric")  # type: ignore[misc]
        told = ready(gateway)
        assert told["ready"] is True, "mail goes on, so the balancer must not take it out"
        assert any("Redis does not answer" in note and "0.5 of each limit" in note for note in told["notes"])
        assert '"limits.degraded"' in logged(gateway)

    redis.start()
    for gateway in pair:
        gateway.until(lambda g=gateway: not ready(g)["notes"], 20.0, "nobody came back")  # type: ignore[misc]
        gateway.until(lambda g=gateway: g.metric("zegel_limits_degraded") == 0.0, 10.0, "no metric")  # type: ignore[misc]
        assert '"limits.recovered"' in logged(gateway) and '"limits.confined"' in logged(gateway)
        assert PASSWORD not in logged(gateway)


def test_guesses_at_one_gateway_are_refused_at_the_other(pair: list[Gateway]) -> None:
    """THROTTLE-10: the right password too, from that address; not from another."""
    one, two = pair
    name, password = two.logins["personal"]
    wrong = [_login(gateway, name, "wrong", "203.0.113.7") for gateway in (one, two, one)]
    assert [reply[:3] for reply in wrong] == ["535"] * 3
    assert _login(two, name, password, "203.0.113.7").startswith("454 4.7.0")
    assert _login(two, name, password, "203.0.113.8").startswith("235")


def _login(gateway: Gateway, name: str, password: str, address: str) -> str:
    with gateway.connect("proxy", address=address) as client:
        client.reply()
        client.send(b"EHLO client.test\r\n")
        client.reply()
        client.send(b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()) + b"\r\n")
        return str(client.reply())


def test_a_wrong_password_of_redis_degrades_and_stays_unsaid(tmp_path: Path, redis: RedisServer) -> None:
    (tmp_path / "gw").mkdir()
    url = redis.url.replace("://", "://:guessed-wrong@")
    gateway = Gateway(tmp_path / "gw", workers=1, storage={"counters": url})
    try:
        gateway.start()
        assert send(gateway).startswith("250")
        assert any("AuthenticationError" in note for note in ready(gateway)["notes"])
        assert "guessed-wrong" not in logged(gateway) + json.dumps(ready(gateway))
    finally:
        gateway.stop()


def test_an_operator_sees_and_lifts_what_all_gateways_have_charged(pair: list[Gateway], redis: RedisServer) -> None:
    """Item 1: who, what, how much is left; from any of them, and the web process shows a tenant its own."""
    one, two = pair
    assert [send(pair[number % 2])[:3] for number in range(7)] == ["250"] * 6 + ["450"]
    shown = limits(two)
    assert (shown["allowed"], shown["left"], shown["bites_24h"]) == (6, 0, 1)
    assert shown["frees_at"] > 0
    key = two.op("apikey.add", tenant="shop", name="dashboard")["secret"]
    two.until(lambda: asked(two, key) is not None, 5.0, "the key is not known")
    answer = asked(two, key)
    assert answer is not None
    name = ("credential", "personal", "messages_per_minute")
    row = next(each for each in answer if (each["scope"], each["subject"], each["name"]) == name)
    assert (row["allowed"], row["left"], row["bites_24h"], row["set_by"]) == (6, 0, 1, "config")
    assert zegel(two)("limit", "reset", "shop", "--credential", "personal").code == 0
    assert send(one).startswith("250"), "lifted at the other one too"
    redis.kill()
    failed = zegel(two)("limit", "reset", "shop", "--credential", "personal")
    assert failed.code == 3 and "Redis does not answer" in failed.err


def zegel(gateway: Gateway) -> Zegel:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    return Zegel(config)


def limits(gateway: Gateway) -> Any:
    words = ("limit", "show", "shop", "messages_per_minute", "--credential", "personal")
    return zegel(gateway).ask(*words)[0]


def asked(gateway: Gateway, key: str) -> Any:
    """The tenant's own rows over the API; None where the key is not known."""
    request = urllib.request.Request(
        f"{gateway.settings.web.public_url}/api/v1/limits", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        assert error.code == 401
        return None


def test_who_is_paused_at_one_gateway_is_paused_at_the_other_until_a_person_releases(
    pair: list[Gateway], redis: RedisServer
) -> None:
    """THROTTLE-8 over two gateways; neither forgets when Redis is started again."""
    one, two = pair
    for gateway in pair:  # the next hop says that these do not exist; each gateway sees eight of them
        rows = [consent_row(f"refused{number}@dest.example") for number in range(16)]
        assert not gateway.op("consent.import_rows", tenant="shop", rows=rows)["refused"]
    for number in range(16):
        post(pair[number % 2], "marketing", [f"refused{number}@dest.example"], NEWS)
    one.until(lambda: standing(one)["level"] == "paused", 10.0, "nobody was paused")
    assert standing(two)["bounces"] == 16
    for gateway in pair:
        gateway.until(lambda g=gateway: held_by(g) > 0, 5.0, "the other one lets it go on")  # type: ignore[misc]
    redis.kill()
    redis.start()
    for gateway in pair:
        gateway.until(lambda g=gateway: not ready(g)["notes"], 20.0, "nobody came back")  # type: ignore[misc]
    assert standing(two)["level"] == "paused"
    assert zegel(two)("reputation", "release", "shop").code == 0
    for gateway in pair:
        gateway.until(lambda g=gateway: g.queued() == 0, 10.0, "what waited does not leave")  # type: ignore[misc]
    assert standing(one)["level"] == "good"


def held_by(gateway: Gateway) -> int:
    """Mail of a campaign that one gateway holds, after one more is handed in."""
    post(gateway, "marketing", [AGREED[0]], NEWS)
    return int(gateway.op("queue.stats")["held"])


def standing(gateway: Gateway) -> Any:
    return zegel(gateway).ask("reputation", "show", "shop", "--stream", "marketing")[0]
