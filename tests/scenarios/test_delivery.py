"""What becomes of accepted mail when the next hop has moods: nothing is lost, nothing is sent against the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relay.cli.demo_setup import config_text
from relay.cli.trace import find
from tests.harness.gateway import AGREED, MESSAGE, SENDER, Gateway
from tests.harness.moody import OFFERS, Moody
from tests.harness.oracle import verified
from tests.harness.post import letter, outsiders, post
from tests.harness.sink import Arrived
from tests.relay.cli.conftest import Zegel
from tests.scenarios.conftest import Start, try_again

ANN = [AGREED[0]]
TRIES = ("attempted", "retried")


def always(command: str, reply: bytes) -> Callable[[str, Arrived], bytes | None]:
    return lambda line, message: reply if line.startswith(command) else None


def first(times: int, command: str, reply: bytes) -> Callable[[str, Arrived], bytes | None]:
    left = [times]

    def answer(line: str, message: Arrived) -> bytes | None:
        if line.startswith(command) and left[0]:
            left[0] -= 1
            return reply
        return None

    return answer


def deferred(gateway: Gateway) -> Callable[[], bool]:
    return lambda: any(row["tries"] for row in gateway.op("queue.list"))


def report(hop: Moody, seconds: float = 10.0) -> str:
    """The report to the sender, as soon as it has come."""

    def found() -> list[str]:
        null = [message.raw.decode() for message in hop.wait(0) if message.mail.startswith("MAIL FROM:<>")]
        return [raw for raw in null if "delivery-status" in raw]  # a notice may come too, before it or after

    assert hop.until(lambda: bool(found()), seconds)
    return found()[0]


def words_of(text: str) -> str:
    """The part of a report for people in one line, whatever way it was folded."""
    return " ".join(text.replace("=\r\n", "").split())


def events(gateway: Gateway, queue_id: str, last: str) -> list[str]:
    """What the delivery log tells of a message, as soon as it tells of `last`: it is written twice a second."""

    def told() -> list[str]:
        return [event["event"] for message in find(gateway.settings, queue_id, 1) for event in message["events"]]

    gateway.until(lambda: last in told(), 10.0, f"the delivery log does not tell that it was {last}")
    return told()


def test_greylisting_costs_a_retry(start: Start) -> None:
    gateway, hop = start(hop=Moody(answer=first(1, "RCPT", b"451 4.7.1 greylisted")))
    post(gateway, "personal", ANN, MESSAGE)
    assert len(hop.wait(1)) == 1
    gateway.settle()
    assert len(hop.wait(0)) == 1


def test_a_refusal_ends_as_a_report_with_the_servers_words(start: Start) -> None:
    gateway, hop = start(
        hop=Moody(answer=lambda line, m: b"552 5.2.2 mailbox full" if line.startswith("RCPT TO:<ann") else None)
    )
    queue_id = post(
        gateway, "personal", list(AGREED), MESSAGE, mail=["RET=FULL", "ENVID=abc+2B"], rcpt=["NOTIFY=FAILURE"]
    ).queue_id
    text = report(hop)
    assert "mailbox full" in text and "Original-Envelope-Id: abc+" in text and "message/rfc822" in text
    assert "It is on its way." in text and "bob@" not in text.partition("message/rfc822")[0]
    gateway.settle()
    assert events(gateway, queue_id, "told") == ["accepted", "finished", "told"]


def test_a_peer_that_takes_some_at_a_time_gets_the_rest_at_once(start: Start) -> None:
    def few(line: str, message: Arrived) -> bytes | None:
        return b"452 4.5.3 enough" if line.startswith("RCPT") and len(message.rcpt) >= 3 else None

    gateway, hop = start(hop=Moody(answer=few))
    people = [f"p{number}@dest.example" for number in range(8)]
    post(gateway, "personal", people, letter("To: all@dest.example", "Subject: some"))
    assert [len(message.rcpt) for message in hop.wait(3)] == [3, 3, 2]


def test_a_peer_that_takes_nobody_is_not_asked_again_at_once(start: Start) -> None:
    gateway, hop = start(hop=Moody(answer=always("RCPT", b"452 4.5.3 enough")))
    post(gateway, "personal", ANN, MESSAGE)

    def tried() -> list[dict[str, float]]:
        return [row for row in gateway.op("queue.list") if row["tries"] >= 3]

    gateway.until(lambda: bool(tried()), 30.0, "not tried three times")
    assert sum(line.startswith("RCPT") for line in hop.commands) <= 3
    (row,) = tried()
    assert row["due"] - row["accepted_at"] >= 1800.0, "nothing comes of it for half an hour"


def test_who_leaves_between_two_attempts_gets_nothing(start: Start) -> None:
    """CONSENT-12."""
    gateway, hop = start(hop=Moody(answer=always(".", b"451 4.3.0 later")))
    pair = ("List-Unsubscribe: <https://sender.example/u/1>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    queue_id = post(
        gateway,
        "marketing",
        ANN,
        letter("To: ann@dest.example", "Subject: news", *pair, body="Unsubscribe: https://sender.example/u/1"),
    ).queue_id
    gateway.until(deferred(gateway), 10.0, "never tried")
    gateway.op("consent.withdraw", tenant="shop", address=ANN[0])
    hop.answer = lambda line, message: None
    text = report(hop)
    assert "5.7.1" in text and "/why/CONSENT-11" in text
    gateway.settle()
    assert [message.mail for message in hop.wait(0)] == ["MAIL FROM:<>"]
    assert events(gateway, queue_id, "told")[-2:] == ["finished", "told"]


def test_service_mail_to_somebody_who_blocked_his_data_waits_for_a_person(start: Start) -> None:
    """GDPR-9, CONSENT-12: also between two attempts; released, it goes."""
    gateway, hop = start(hop=Moody(answer=always(".", b"451 4.3.0 later")))
    queue_id = post(gateway, "transactional", ANN, MESSAGE).queue_id
    gateway.until(deferred(gateway), 10.0, "never tried")
    gateway.op("suppression.add", tenant="shop", address=ANN[0], reason="restriction")
    hop.answer = lambda line, message: None

    def is_held() -> bool:
        try_again(gateway)
        return len(gateway.op("held.list")) == 1

    gateway.until(is_held, 10.0, "not held")
    assert not hop.wait(0)
    assert [word for word in events(gateway, queue_id, "held") if word not in TRIES] == ["accepted", "held"]
    gateway.op("held.release", id=queue_id)
    assert len(hop.wait(1)) == 1


def test_mail_of_a_suspended_tenant_stays(start: Start) -> None:
    """THROTTLE-9."""
    gateway, hop = start(hop=Moody(answer=always(".", b"451 4.3.0 later")))
    queue_id = post(gateway, "personal", ANN, MESSAGE).queue_id
    gateway.until(deferred(gateway), 10.0, "never tried")
    gateway.op("tenant.suspend", name="shop")

    def is_known() -> bool:
        with gateway.connect() as client:
            return client.login(*gateway.logins["personal"]).startswith("525")

    gateway.until(is_known, 10.0, "the worker has not heard")
    hop.answer = lambda line, message: None

    def is_frozen() -> bool:
        if gateway.op("queue.stats")["frozen"] == 1:
            return True
        try_again(gateway)
        return False

    gateway.until(is_frozen, 10.0, "not frozen")
    words = [word for word in events(gateway, queue_id, "postponed") if word not in TRIES]
    assert words[:2] == ["accepted", "postponed"] and set(words[2:]) <= {"postponed"}
    assert not any("ann@" in line for message in hop.wait(0) for line in message.rcpt)


def test_a_next_hop_that_comes_back_gets_everything_once(start: Start) -> None:
    gateway, hop = start(workers=2)
    hop.down()
    for number in range(20):
        post(gateway, "personal", ANN, letter("To: ann@dest.example", f"Subject: {number}"))
    gateway.until(lambda: gateway.metric("zegel_next_hops_failing") > 0, 10.0, "nobody found that it is away")
    hop.up()
    assert hop.until(lambda: len(hop.wait(0)) >= 20, 30.0)
    gateway.settle()
    subjects = [line for message in hop.wait(0) for line in message.head.split("\r\n") if line.startswith("Subject")]
    assert sorted(subjects) == sorted(f"Subject: {number}" for number in range(20))


def test_the_second_host_takes_over(start: Start) -> None:
    second = Moody()
    hop = Moody()
    hosts = [f"smtp://127.0.0.1:{hop.port}", f"smtp://127.0.0.1:{second.port}"]
    gateway, _ = start(hop=hop, delivery={"smarthosts": hosts})
    hop.down()
    post(gateway, "personal", ANN, MESSAGE)
    assert len(second.wait(1)) == 1
    second.close()
    hop.up()


def test_a_cut_after_the_final_dot_is_counted_and_keeps_the_message_id(start: Start) -> None:
    """OUT-10."""
    gateway, hop = start(hop=Moody(answer=first(1, ".", b"")))
    post(gateway, "personal", ANN, MESSAGE)
    one, two = hop.wait(2)
    ids = [[line for line in each.head.split("\r\n") if line.startswith("Message-ID")] for each in (one, two)]
    assert ids[0] == ids[1] and len(ids[0]) == 1
    gateway.until(lambda: gateway.metric("zegel_delivery_doubts_total") == 1, 5.0, "the doubt is not counted")


def test_eight_bit_mail_for_a_peer_without_8bitmime_is_converted_and_then_signed(start: Start) -> None:
    """OUT-9."""
    gateway, hop = start(hop=Moody(offers=("PIPELINING",)))
    raw = letter(
        "To: ann@dest.example", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", body="Dag één.\r\n.dot"
    )
    post(gateway, "personal", ANN, raw, mail=["BODY=8BITMIME"])
    (message,) = hop.wait(1)
    assert message.wire.isascii() and "BODY=" not in message.mail
    assert b"=C3=A9=C3=A9n" in message.raw
    assert verified(message.raw, gateway.settings)


def test_eight_bit_mail_that_is_signed_comes_back(start: Start) -> None:
    """OUT-9: nothing inside a signature is converted."""
    gateway, hop = start(hop=Moody(offers=("PIPELINING",)))
    raw = letter("To: ann@dest.example", 'Content-Type: multipart/signed; boundary="s"', body="--s\r\n\r\néén\r\n--s--")
    post(gateway, "personal", ANN, raw, mail=["BODY=8BITMIME"])
    assert "5.6.3" in report(hop)


def test_a_letter_with_utf_8_in_its_head_needs_a_peer_that_takes_it(start: Start) -> None:
    gateway, hop = start()
    raw = letter("To: ann@dest.example", "Subject: één")
    post(gateway, "personal", ANN, raw, mail=["SMTPUTF8", "BODY=8BITMIME"])
    (message,) = hop.wait(1)
    assert "SMTPUTF8" in message.mail and verified(message.raw, gateway.settings)
    hop.offers = tuple(offer for offer in OFFERS if offer != "SMTPUTF8")
    gateway.settle()  # cut before its answer was read, the first mail would come again
    hop.down()
    hop.up()
    post(gateway, "personal", ANN, raw, mail=["SMTPUTF8", "BODY=8BITMIME"])
    text = report(hop, 20.0)
    assert "Status: 5.6.9" in text and "The subject, a name or an address in your message" in words_of(text)
    assert "An address holds" not in words_of(text)


def test_who_has_an_address_with_accents_hears_of_the_address(start: Start) -> None:
    """Both are so, of his copy; without accents in the subject it could not go either."""
    gateway, hop = start(hop=Moody(offers=tuple(offer for offer in OFFERS if offer != "SMTPUTF8")))
    raw = letter("To: ann@dest.example", "Subject: één")
    post(gateway, "personal", ["ann@bücher.example", "jörg@dest.example"], raw, mail=["SMTPUTF8", "BODY=8BITMIME"])
    text = report(hop)
    fates = text.partition("Reporting-MTA")[2].split("\r\n\r\n")
    assert ["jörg@dest.example" in fate for fate in fates if "Status: 5.6.7" in fate] == [True], text
    assert ["ann@bücher.example" in fate for fate in fates if "Status: 5.6.9" in fate] == [True], text
    assert "Reason: An address holds letters" in words_of(text)


def test_what_the_sender_said_about_reports_is_passed_on_or_honoured(start: Start) -> None:
    """SMTP-14, RFC 3461 section 5.2."""
    gateway, hop = start()
    post(
        gateway,
        "personal",
        ANN,
        MESSAGE,
        mail=["RET=HDRS", "ENVID=q1"],
        rcpt=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;ann@x.test"],
    )
    (message,) = hop.wait(1)
    assert message.mail.endswith("RET=HDRS ENVID=q1")
    assert message.rcpt == ["RCPT TO:<ann@dest.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ann@x.test"]
    hop.offers = ("PIPELINING", "8BITMIME")
    gateway.settle()  # cut before its answer was read, the first mail would come again
    hop.down()
    hop.up()
    post(gateway, "personal", ANN, MESSAGE, rcpt=["NOTIFY=SUCCESS"])
    assert "Action: relayed" in report(hop, 20.0)


def test_never_means_never_and_a_bounce_is_not_bounced(start: Start) -> None:
    """OUT-12."""
    gateway, hop = start(hop=Moody(answer=always("RCPT", b"550 5.1.1 nobody")))
    post(gateway, "personal", ANN, MESSAGE, rcpt=["NOTIFY=NEVER"])
    post(gateway, "personal", ANN, MESSAGE)
    gateway.settle()
    assert [line for line in hop.commands if "<>" in line] == ["MAIL FROM:<>"]


def test_five_rewrites_in_a_day_are_one_notice_in_the_senders_language(start: Start) -> None:
    """CC-18."""
    gateway, hop = start(workers=2)
    for number in range(5):
        people = outsiders(12)
        post(gateway, "personal", people, letter("To: " + ",\r\n ".join(people), f"Subject: {number}"))
    assert hop.until(lambda: len(hop.wait(0)) >= 61, 20.0)
    gateway.settle()
    notices = [message for message in hop.wait(0) if message.mail == "MAIL FROM:<>"]
    assert len(notices) == 1
    assert (
        SENDER in notices[0].rcpt[0]
        and "showed 12 addresses" in notices[0].raw.decode()
        and "p3@" not in notices[0].raw.decode()
    )


def test_partial_mode_refuses_one_with_a_report_in_words(start: Start) -> None:
    """PIPE-1."""
    gateway, hop = start(policies={"consent": {"partial": "partial"}})
    pair = ("List-Unsubscribe: <https://sender.example/u/1>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    raw = letter("To: ann@dest.example", "X-Zegel-Class: commercial", "X-Zegel-Purpose: newsletter", *pair)
    assert post(gateway, "transactional", [*ANN, "nobody@dest.example"], raw).reply.startswith("250")
    text = report(hop)
    assert "nobody@dest.example" in text and "No consent of this recipient is known" in text.replace("\r\n    ", " ")
    assert hop.until(lambda: len(hop.wait(0)) >= 2)
    assert "X-Zegel" not in "".join(message.head for message in hop.wait(0) if message.mail != "MAIL FROM:<>")


def test_the_pace_is_one_for_both_workers(start: Start) -> None:
    """THROTTLE-1, THROTTLE-2: a person's 11th letter of a minute is deferred, a program's 11th waits its turn."""
    gateway, hop = start(
        workers=2, policies={"throttle": {"personal_messages_per_minute": 10, "transactional_messages_per_minute": 10}}
    )
    replies = [post(gateway, "personal", ANN, MESSAGE).reply for _ in range(14)]
    assert sum(reply.startswith("250") for reply in replies) in (10, 11)  # the pace gives one back within these seconds
    assert any(reply.startswith("450 4.7.28 [THROTTLE-1]") for reply in replies)
    gateway.settle()
    hop.clear()
    answers = [post(gateway, "transactional", ANN, letter("To: ann@dest.example", f"Subject: t{n}")) for n in range(12)]
    assert all(answer.reply.startswith("250") for answer in answers)
    assert hop.until(lambda: len(hop.wait(0)) >= 10) and len(hop.wait(0)) <= 11
    assert hop.until(lambda: len(hop.wait(0)) == 12, 40.0)
    assert [line for m in hop.wait(0)[10:] for line in m.head.split("\r\n") if line.startswith("Subject")] == [
        "Subject: t10",
        "Subject: t11",
    ]


def test_the_trace_of_mail_for_a_dead_host_says_why_it_waits(start: Start) -> None:
    """It ended with "accepted", as if somebody had forgotten it."""
    gateway, hop = start(workers=2)
    hop.down()
    number = post(gateway, "transactional", ANN, letter("To: ann@dest.example", "Subject: x")).reply.rpartition(" ")[2]
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    zegel = Zegel(config)

    def hosts() -> list[dict[str, Any]]:
        told = zegel("trace", number, "--json")
        found: list[dict[str, Any]] = told.json[0].get("waits", {}).get("hosts", []) if told.code == 0 else []
        return found

    gateway.until(lambda: bool(hosts()), 20.0, "nobody says why")
    (host,) = hosts()
    assert str(hop.port) in host["host"] and host["stage"] and host["why"] and host["retry_at"]
    told = zegel("trace", number).out
    assert "no next host takes mail" in told and host["why"] in told and "tried again" in told
    hop.up()
    hop.wait(1)
    gateway.until(lambda: "waits" not in zegel("trace", number, "--json").json[0], 10.0, "it does not wait any more")
