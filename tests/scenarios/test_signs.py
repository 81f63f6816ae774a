"""Signs of abuse as a sender, his tenant's contact and the operator meet them."""

from __future__ import annotations

import time

from relay.cli.dryrun import explain_mail
from relay.cli.explain import Asked
from relay.counters.contract import DAY, SUDDEN, Limit
from relay.counters.embedded import EmbeddedCounters
from tests.harness.gateway import AGREED, SENDER, Gateway
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


def test_a_stolen_marketing_login_is_held_at_five_letters_to_everybody_who_agreed(start: Start) -> None:
    """THROTTLE-7: three have agreed and may be written to, seventeen times in an hour they are not; explain says so too."""
    gateway, hop = start(workers=2, policies={"throttle": {"sudden_recipients_per_hour": 5, "warmup_recipients": 0}})
    leave = ("List-Unsubscribe: <https://shop.example/a>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    raw = letter(f"To: {AGREED[0]}", "Subject: News", *leave, body="News. Unsubscribe: https://shop.example/a")
    replies = [post(gateway, "marketing", [AGREED[number % 2]], raw).reply for number in range(50)]
    assert all(reply.startswith("250 2.0.0") for reply in replies), replies
    gateway.until(lambda: len(gateway.op("held.list")) == 35, 10.0, "fifteen leave, thirty-five wait")
    assert {row["held"] for row in gateway.op("held.list")} == {"throttle.sudden_campaign"}
    assert len(hop.wait(16)) == 16, "fifteen and the letter to the contact"
    asked = Asked(gateway.logins["marketing"][0], SENDER, (AGREED[0],), "127.0.0.1")
    said = explain_mail(gateway.settings, asked, raw)
    assert said["action"] == "hold" and "THROTTLE-7" in str(said["policies"])


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
    assert all(send(gateway, "personal", number).startswith("250 2.0.0") for number in range(3)), "by stream"
    assert send(gateway, "personal", 5).startswith("450 4.7.28 [THROTTLE-3]")
    parked = gateway.op("queue.list", tenant="shop", credential=gateway.logins["transactional"][0], parked=True)
    assert gateway.op("queue.retry_many", ids=[row["id"] for row in parked]) == {"retried": 2}
    assert len(hop.wait(8)) == 8, "of both workers"


FIRST_TIME = "first_time_recipients_per_day"


def hello(gateway: Gateway, login: str, *numbers: int) -> str:
    people = [f"p{number}@party{number}.example" for number in numbers]
    return post(gateway, login, people, letter(f"To: {people[0]}", f"Subject: {numbers}")).reply


def test_a_login_may_write_to_so_many_strangers_a_day_and_to_whom_it_knows_as_before(start: Start) -> None:
    """Over both workers and a restart; explain says the same and charges nothing; an operator lifts it."""
    pace = {"warmup_recipients": 0, f"personal_{FIRST_TIME}": 4, "first_time_learning_days": 0}
    gateway, hop = start(workers=2, policies={"throttle": {**pace, f"transactional_{FIRST_TIME}": 2}})
    for number in range(4):
        assert hello(gateway, "personal", number).startswith("250 2.0.0")
    refused = hello(gateway, "personal", 4)
    assert refused.startswith("450 4.7.28 [THROTTLE-1]") and "4 first-time recipients per day" in refused, refused
    assert "hour" in refused, "it says when there is room"
    assert all(hello(gateway, "personal", number).startswith("250 2.0.0") for number in (0, 1, 2, 3, 3))
    gateway.until(lambda: gateway.metric('zegel_throttled_total{scope="credential"}') == 1, 5.0, "not counted")
    for number, action in ((4, "defer"), (4, "defer"), (0, "accept")):
        asked = Asked(gateway.logins["personal"][0], SENDER, (f"p{number}@party{number}.example",), "127.0.0.1")
        assert explain_mail(gateway.settings, asked, letter("To: x@y.example", "Subject: x"))["action"] == action
    gateway.stop()
    gateway.start()
    assert hello(gateway, "personal", 4).startswith("450") and hello(gateway, "personal", 1).startswith("250")
    assert all(hello(gateway, "transactional", number).startswith("250 2.0.0") for number in range(3))
    gateway.until(lambda: gateway.op("queue.stats")["waiting"] == 1, 10.0, "the third is parked")
    gateway.op("limit.set", tenant="shop", name=FIRST_TIME, value=5, credential="personal")
    gateway.until(lambda: hello(gateway, "personal", 4).startswith("250 2.0.0"), 5.0, "the new number does not hold")
    assert "[THROTTLE-1]" in hello(gateway, "personal", 5)
    assert len(hop.wait(13)) == 13, "eleven of the person, two of the program"
