"""Signs of abuse as a sender, his tenant's contact and the operator meet them."""

from __future__ import annotations

import time

from relay.counters.contract import DAY, SUDDEN, Limit
from relay.counters.embedded import EmbeddedCounters
from tests.harness.gateway import SENDER, Gateway
from tests.harness.post import letter, post
from tests.scenarios.conftest import Start

HABIT = Limit(SUDDEN, "credential", "h:personal", 5, 3600, 5)
ANN = ["ann@dest.example"]


def send(gateway: Gateway, login: str, number: int) -> str:
    return post(gateway, login, ANN, letter("To: ann@dest.example", f"Subject: {number}")).reply


def test_a_login_that_suddenly_sends_far_more_is_held_and_its_tenant_told_once(start: Start) -> None:
    """THROTTLE-7: in whichever worker; other logins go on; released, it leaves."""
    gateway, hop = start(workers=2, policies={"throttle": {"sudden_recipients_per_hour": 5, "warmup_recipients": 0}})
    counters = EmbeddedCounters(gateway.settings.server.data_dir)
    for day in range(20, 0, -1):
        counters.take([(HABIT, 1)], time.time() - day * DAY, park=False)
    counters.close()
    assert all(send(gateway, "personal", number).startswith("250 2.0.0") for number in range(12))
    assert send(gateway, "transactional", 12).startswith("250 2.0.0")
    gateway.until(lambda: len(gateway.op("held.list")) == 7, 10.0, "five leave, seven wait")
    arrived = hop.wait(7)
    (told,) = (one.raw.decode() for one in arrived if SENDER in one.rcpt[0])
    assert "personal" in told and "stolen" in told
    assert gateway.op("held.list")[0]["held"] == "throttle.sudden"
    gateway.until(lambda: gateway.metric('zegel_signs_total{sign="sudden_change"}') == 7, 5.0, "not counted")
    logged = (gateway.folder / "gateway.log").read_text()
    assert logged.count('"sign.noticed"') == 1
    for row in gateway.op("held.list"):
        gateway.op("held.release", id=row["id"])
    gateway.settle()
    assert len(hop.wait(14)) == 14


def test_a_new_account_begins_with_few_recipients_and_the_rest_waits(start: Start) -> None:
    """THROTTLE-3: programs are parked, people are told; over both workers, and it is in the trace."""
    gateway, hop = start(workers=2, policies={"throttle": {"warmup_recipients": 3}})
    replies = [
        post(gateway, "transactional", ANN, letter("To: ann@dest.example", f"Subject: {number}")) for number in range(5)
    ]
    assert all(one.reply.startswith("250 2.0.0") for one in replies)
    assert len(hop.wait(3)) == 3
    gateway.until(lambda: gateway.op("queue.stats")["waiting"] == 2, 10.0, "two wait for tomorrow")
    gateway.until(lambda: len(gateway.op("queue.list")) == 2, 10.0, "what was sent is still there")
    assert all(0 < row["due"] - time.time() < 2 * DAY for row in gateway.op("queue.list"))
    assert send(gateway, "personal", 5).startswith("450 4.7.28 [THROTTLE-3]"), "the domain is as new as the logins"
