"""OPS-6: the contact hears once of each kind of refusal, and once a day of all, over restarts and however many workers."""

from __future__ import annotations

import re
import signal
import time

from tests.harness.gateway import SENDER, Gateway
from tests.harness.moody import Moody
from tests.harness.post import letter, outsiders, post
from tests.harness.sink import Arrived
from tests.scenarios.conftest import Start

DAY = 86_400.0
ASK = {"recipients": {"exposed": {"personal": "ask"}}}


def letters(hop: Moody, words: str) -> list[str]:
    """Mail of our own whose subject has these words."""
    return [text(m) for m in hop.wait(0) if m.mail.startswith("MAIL FROM:<>") and f"Subject: {words}" in text(m)]


def text(message: Arrived) -> str:
    return message.raw.decode()


def refuse(gateway: Gateway, login: str = "offers", sender: str = SENDER) -> str:
    """The reply to a recipient who never agreed."""
    with gateway.connect() as client:
        assert client.login(*gateway.logins[login]).startswith("235")
        assert client.ask(f"MAIL FROM:<{sender}>").startswith("250")
        return str(client.ask("RCPT TO:<nobody@dest.example>"))


def switch(gateway: Gateway, *, on: bool) -> None:
    gateway.op("tenant.set", name="shop", refusal_letters=on)
    assert gateway.op("tenant.show", name="shop")["refusal_letters"] is on


def test_the_first_refusal_of_a_rule_is_explained_once(start: Start) -> None:
    gateway, hop = start(workers=2)
    switch(gateway, on=True)

    def explained() -> bool:  # by whichever worker knows it first
        assert refuse(gateway).startswith("550 5.7.1 [CONSENT-1]")
        return bool(letters(hop, "Refused for the first time"))

    assert hop.until(explained)
    for _ in range(6):
        refuse(gateway)
    exposed = letter("To: ann@dest.example", "Subject: x", "From: other@sender.example")
    for _ in range(3):
        assert "550" in post(gateway, "personal", ["ann@dest.example"], exposed).reply  # two From fields
    assert hop.until(lambda: len(letters(hop, "Refused for the first time")) == 2)
    post(gateway, "personal", ["ann@dest.example"], letter("To: ann@dest.example", "Subject: last"))
    assert hop.until(lambda: any("Subject: last" in m.head for m in hop.wait(0)))
    gateway.settle()
    told = letters(hop, "Refused for the first time")
    assert (
        len(told) == 2
        and sum("/why/CONSENT-1" in one for one in told) == 1
        and sum("/why/ID-2" in one for one in told) == 1
    )
    for one in told:
        assert f"To: <{SENDER}>" in one and "nobody@" not in one and "ann@" not in one
    log = (gateway.folder / "gateway.log").read_text()
    assert log.count('"refusal.explained"') == 2


def test_a_refusal_without_a_sender_or_that_may_pass_later_is_not_explained(start: Start) -> None:
    """No loop of letters about bounces, and none about what is our own fault."""
    gateway, hop = start()
    switch(gateway, on=True)
    assert hop.until(lambda: refuse(gateway) != "" and bool(letters(hop, "Refused for the first time")))
    with gateway.connect() as client:
        assert client.login(*gateway.logins["mailserver"]).startswith("235")
        client.ask("MAIL FROM:<>")
        client.ask("RCPT TO:<ann@dest.example>")
        client.ask("DATA")
        client.send(b"From: x@elsewhere.example\r\nTo: ann@dest.example\r\nSubject: bounce\r\n\r\nHi\r\n.\r\n")
        assert client.reply().startswith("550")
    post(gateway, "personal", ["ann@dest.example"], letter("To: ann@dest.example", "Subject: last"))
    assert hop.until(lambda: any("Subject: last" in m.head for m in hop.wait(0)))
    gateway.settle()
    (only,) = letters(hop, "Refused for the first time")
    assert "/why/CONSENT-1" in only


def test_a_digest_comes_once_a_day_and_tells_what_was_counted(start: Start) -> None:
    gateway, hop = start(workers=2, policies=ASK, server={"workers": 2, "digest_hour": 0})
    switch(gateway, on=True)
    people = outsiders(15)
    held = post(gateway, "personal", people, letter("To: " + ",\r\n ".join(people), "Subject: wait")).queue_id
    yesterday = time.time() - DAY
    rows = [
        {"tenant_id": 1, "rule": "CONSENT-1", "kind": "refused", "count": 41, "at": yesterday},
        {"tenant_id": 1, "rule": "CC-10", "kind": "held", "count": 2, "at": yesterday},
        {"tenant_id": 99, "rule": "CC-10", "kind": "held", "count": 2, "at": yesterday},
    ]
    gateway.op("refusals.add", rows=rows)
    refuse(gateway)  # counted today: told tomorrow, or with what is told today
    assert hop.until(lambda: bool(letters(hop, "Mail of Shop BV")), 40.0)
    (one,) = letters(hop, "Mail of Shop BV")
    assert re.search(r"4[12] × refused", one) and re.search(r"[23] × held", one) and "/why/CC-10" in one
    assert "1 message waits for a decision" in one and "party" not in one and held not in one
    gateway.op("refusals.add", rows=rows)
    gateway.signal(signal.SIGTERM)
    gateway.wait()
    gateway.start()
    gateway.op("refusals.add", rows=rows)
    assert gateway.op("digest.due", day=time.strftime("%Y-%m-%d", time.gmtime()), before=time.time()) == []
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + DAY))
    (due,) = gateway.op("digest.due", day=tomorrow, before=time.time() + DAY)
    assert due["name"] == "shop"
    claimed = gateway.op("digest.claim", tenant_id=1, day=tomorrow)
    assert claimed["claimed"] and {row["rule"]: row["count"] for row in claimed["rows"]}["CC-10"] >= 4
    assert not gateway.op("digest.claim", tenant_id=1, day=tomorrow)["claimed"]
    assert len(letters(hop, "Mail of Shop BV")) == 1


def test_a_tenant_may_switch_the_digest_off(start: Start) -> None:
    gateway, hop = start(server={"workers": 1, "digest_hour": 0})
    switch(gateway, on=False)
    row = {"tenant_id": 1, "rule": "CC-10", "kind": "held", "count": 2, "at": time.time() - DAY}
    gateway.op("refusals.add", rows=[row])
    assert gateway.op("digest.due", day="2030-01-01", before=time.time()) == []
    assert refuse(gateway).startswith("550") and letters(hop, "Refused") == []
    switch(gateway, on=True)
    assert hop.until(lambda: bool(letters(hop, "Mail of Shop BV")), 40.0)


def test_a_letter_with_a_name_is_queued_once_whoever_asks(start: Start) -> None:
    """As gateways do that share counters and no database."""
    gateway, hop = start(workers=2)
    raw = "From: <z@gw.test>\r\nTo: <ann@dest.example>\r\nSubject: once\r\n\r\nHi\r\n"
    args = {"tenant": {"id": 1, "name": "shop"}, "recipient": "ann@dest.example", "domain": "gw.test", "raw": raw}
    ids = [gateway.op("worker.submit", once="digest:shop:2026-01-01", **args)["id"] for _ in range(4)]
    assert ids[0] and ids[1:] == ["", "", ""]
    assert gateway.op("worker.submit", once="digest:shop:2026-01-02", **args)["id"]
    assert hop.until(lambda: len(hop.wait(0)) == 2)
