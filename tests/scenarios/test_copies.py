"""Mail that leaves as many copies: each with its own recipient, links and signature, and none twice."""

from __future__ import annotations

import base64
import email
import os
import quopri
import re
import signal
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from relay.spool.item import decode_id
from tests.harness.gateway import Gateway, consent_row
from tests.harness.moody import Moody
from tests.harness.oracle import verified
from tests.harness.post import letter, outsiders, post
from tests.harness.processes import children
from tests.harness.sink import Arrived
from tests.scenarios.conftest import Start

INJECT = {"unsubscribe": {"missing": "inject"}}
TOKEN = re.compile(rb"List-Unsubscribe: <http://[^>]+/u/([\w-]+)>")
IN_DOUBT = 20  # ten connections of the worker that has it, two transactions on each


def slowly(line: str, message: Arrived) -> bytes | None:
    if line == ".":
        time.sleep(0.03)
    return None


def arrived(hop: Moody, words: str) -> list[Arrived]:
    """Mail with these words in its head."""
    return [message for message in hop.wait(0) if words in message.head]


def recipients(hop: Moody, subject: str) -> list[str]:
    return [message.rcpt[0] for message in arrived(hop, f"Subject: {subject}")]


def test_500_copies_each_with_its_own_token_and_signature(start: Start) -> None:
    """UNSUB-6, CC-8, DKIM-1."""
    gateway, hop = start(policies=INJECT)
    people = [f"reader{number}@dest.example" for number in range(500)]
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(address) for address in people])
    assert post(gateway, "marketing", people, letter("To: readers@sender.example", "Subject: news")).queue_id
    assert hop.until(lambda: len(recipients(hop, "news")) == 500, 60.0)
    copies = arrived(hop, "Subject: news")
    assert {copy.rcpt[0] for copy in copies} == {f"RCPT TO:<{address}>" for address in people}
    tokens = {match[1] for copy in copies if (match := TOKEN.search(copy.raw))}
    assert len(tokens) == 500
    bodies = {re.search(rb"bh=([^;]+);", copy.raw)[1] for copy in copies}  # type: ignore[index]  # a signature has one
    assert len(bodies) == 1
    assert all(verified(copy.raw, gateway.settings) for copy in copies)


def test_a_split_reaches_an_internationalised_domain_through_a_host_without_smtputf8(start: Start) -> None:
    """CC-8: the address of our own To is in A-labels, as that of the envelope."""
    gateway, hop = start(hop=Moody(offers=("PIPELINING", "8BITMIME")))
    people = [*outsiders(11), "jan@bücher.example"]
    mail = letter("To: " + ",\r\n ".join(people).replace("bücher", "xn--bcher-kva"), "Subject: many")
    assert post(gateway, "personal", people, mail, mail=["SMTPUTF8"]).queue_id
    assert hop.until(lambda: len(recipients(hop, "many")) == 12, 20.0)
    (his,) = [copy for copy in arrived(hop, "Subject: many") if "jan@" in copy.rcpt[0]]
    assert his.rcpt == ["RCPT TO:<jan@xn--bcher-kva.example>"] and "To: jan@xn--bcher-kva.example" in his.head


def test_a_mailbox_that_is_named_again_gets_one_copy(start: Start) -> None:
    """The domain's case and its form make no other mailbox; the local part's case may."""
    gateway, hop = start()
    people = outsiders(12)
    again = [people[0], people[0].upper().replace("P0@", "p0@"), people[1].replace("p1@", "P1@")]
    assert post(gateway, "personal", [*people, *again], letter("To: " + ", ".join(people), "Subject: many")).queue_id
    assert hop.until(lambda: len(recipients(hop, "many")) == 13, 20.0)
    gateway.settle()
    assert sorted(recipients(hop, "many")) == sorted(f"RCPT TO:<{address}>" for address in [*people, again[2]])


def test_a_restart_in_the_middle_repeats_no_copy(start: Start) -> None:
    gateway, hop = start(hop=Moody(answer=slowly))
    people = outsiders(120)
    post(gateway, "personal", people, letter("To: " + ",\r\n ".join(people), "Subject: many"))
    hop.wait(40)
    gateway.signal(signal.SIGTERM)
    gateway.wait()
    assert len(recipients(hop, "many")) < 120, "the restart came too late to prove anything"
    gateway.start()
    assert hop.until(lambda: len(set(recipients(hop, "many"))) == 120, 20.0)
    gateway.settle(20.0)
    assert sorted(recipients(hop, "many")) == sorted(f"RCPT TO:<{address}>" for address in people)


def test_a_killed_worker_repeats_only_what_was_in_doubt(start: Start) -> None:
    """What the next hop has answered for is on the disk soon, and then it is not sent again."""
    goes_on, hop = threading.Event(), Moody()

    def answer(line: str, message: Arrived) -> bytes | None:
        if line == "." and len(hop.arrived) >= 60:
            goes_on.wait(60.0)
        return slowly(line, message)

    hop.answer = answer
    gateway, _ = start(hop=hop)
    people = outsiders(120)
    fields = ("To: " + ",\r\n ".join(people), "Subject: many")
    queue_id = post(gateway, "personal", people, letter(*fields)).queue_id

    def is_written() -> bool:
        shown = gateway.op("queue.show", id=queue_id)["recipients"]
        return sum(one["state"] == "delivered" for one in shown) == len(recipients(hop, "many")) >= 50

    gateway.until(is_written, 30.0, "what was delivered is not written down")
    assert gateway.process is not None
    for child in children(gateway.process.pid):
        os.kill(child, signal.SIGKILL)
    goes_on.set()
    assert hop.until(lambda: len(set(recipients(hop, "many"))) == 120, 30.0)
    gateway.settle(20.0)
    twice = len(recipients(hop, "many")) - 120
    assert twice <= IN_DOUBT, "only what was on its way when the worker died"


def test_placeholders_are_filled_wherever_a_reader_sees_them_and_never_in_signed_parts(start: Start) -> None:
    """UNSUB-16, MSG-6: in base64 and quoted-printable too, cut by a soft line break."""
    gateway, hop = start(policies=INJECT)
    plain = quopri.encodestring(f"{'word ' * 14}{{{{zegel_unsubscribe}}}} é\n".encode()).replace(b"\n", b"\r\n")
    html = base64.encodebytes(b'<p>News. <a href="{{zegel_unsubscribe}}">Leave</a> <a href="{{zegel_my}}">data</a></p>')
    signed = b"Content-Type: text/plain\r\n\r\n{{zegel_my}}\r\n"
    raw = letter("To: ann@dest.example", "Subject: news", 'Content-Type: multipart/mixed; boundary="b"')
    raw += (
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + plain
    )
    raw += b"\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + html.replace(
        b"\n", b"\r\n"
    )
    raw += b'\r\n--b\r\nContent-Type: multipart/signed; boundary="s"\r\n\r\n--s\r\n' + signed + b"--s--\r\n--b--\r\n"
    assert post(gateway, "marketing", ["ann@dest.example"], raw).queue_id
    (copy,) = hop.wait(1)
    texts = [
        bytes(part.get_payload(decode=True))
        for part in email.message_from_bytes(copy.raw).walk()
        if part.get_content_maintype() == "text"
    ]
    assert re.search(rb"/u/[\w-]{90,} \xc3\xa9", texts[0]) and re.search(
        rb'href="http://[^"]+/my/[\w-]{90,}"', texts[1]
    )
    assert b"{{zegel" not in texts[0] + texts[1]
    assert signed in copy.raw
    assert max(map(len, copy.raw.split(b"\r\n"))) <= 998
    assert verified(copy.raw, gateway.settings)


def test_a_reply_to_a_mail_that_was_split_shows_nobody_for_the_first_time(start: Start) -> None:
    """CC-11: its readers never saw each other."""
    gateway, hop = start(workers=2)
    people = outsiders(25)
    to = "To: " + ",\r\n ".join(people)
    post(gateway, "personal", people, letter(to, "Subject: first", "Message-ID: <first@sender.example>"))
    assert hop.until(lambda: len(recipients(hop, "first")) == 25)
    answer = letter(to, "Subject: again", "In-Reply-To: <first@sender.example>")
    post(gateway, "personal", people, answer)
    assert hop.until(lambda: len(recipients(hop, "again")) == 25)


@pytest.mark.parametrize("how", ["split", "hide", "reject", "Bcc"])
def test_a_follow_up_to_a_mail_that_showed_nobody_earns_no_leniency(start: Start, how: str) -> None:
    """CC-11: 15 people are over the limit for letters, under the double of it that an unknown parent earns."""
    gateway, hop = start(policies={"recipients": {"exposed": {"personal": "split" if how == "Bcc" else how}}})
    people = outsiders(15)
    to = "To: " + ",\r\n ".join(people)
    first = "To: info@sender.example" if how == "Bcc" else to
    answer = post(gateway, "personal", people, letter(first, "Subject: first", "Message-ID: <first@sender.example>"))
    assert answer.reply.startswith("550 5.7.1 [CC-1]" if how == "reject" else "250")
    gateway.until(lambda: remembered(gateway) == 1, 5.0, "the parent was not remembered")
    follow_up = letter(to, "Subject: second", "In-Reply-To: <first@sender.example>", "Message-ID: <2@sender.example>")
    answer = post(gateway, "personal", people, follow_up)
    if how == "reject":
        assert answer.reply.startswith("550 5.7.1 [CC-1]")
        return
    assert hop.until(lambda: bool(arrived(hop, "Subject: second")))
    assert not any(f"{people[0]}, {people[1]}" in re.sub(r"\s+", " ", message.head) for message in hop.wait(0))
    gateway.until(lambda: remembered(gateway) == 2, 5.0, "the follow-up was not remembered")
    third = letter(to, "Subject: third", "In-Reply-To: <2@sender.example>", "References: <first@sender.example>")
    post(gateway, "personal", people, third)
    assert hop.until(lambda: bool(arrived(hop, "Subject: third")))
    assert not any(f"{people[0]}, {people[1]}" in re.sub(r"\s+", " ", message.head) for message in hop.wait(0))


def test_one_notice_a_day_for_a_sender_and_it_says_of_which_mail(start: Start) -> None:
    """CC-18: a split and a warning within seconds, from two logins."""
    gateway, hop = start()
    for login, number, name in (("personal", 15, "first"), ("transactional", 6, "second"), ("personal", 6, "third")):
        people = outsiders(number)
        fields = ("To: " + ",\r\n ".join(people), f"Subject: {name}", f"Message-ID: <{name}@sender.example>")
        post(gateway, login, people, letter(*fields))
    assert hop.until(lambda: len(hop.wait(0)) >= 15 + 2 + 1)
    post(gateway, "personal", ["ann@dest.example"], letter("To: ann@dest.example", "Subject: last"))
    assert hop.until(lambda: bool(arrived(hop, "Subject: last")))
    gateway.settle()
    (notice,) = [message.raw.decode() for message in hop.wait(0) if message.mail.startswith("MAIL FROM:<>")]
    assert "In-Reply-To: <first@sender.example>" in notice and "Subject: first" in notice


ASK = {"recipients": {"exposed": {"personal": "ask"}}}


@pytest.mark.parametrize(("way", "mails", "shown"), [("split", 15, 1), ("hidden", 1, 0), ("as_written", 1, 15)])
def test_held_for_a_choice_its_sender_is_told_and_the_choice_is_kept(
    start: Start, way: str, mails: int, shown: int
) -> None:
    """CC-10: the mail waits, its sender knows why, until when and whom to ask; sent open it is an incident (CC-20)."""
    gateway, hop = start(policies=ASK)
    people = outsiders(15)
    to = "To: " + ",\r\n ".join(people)
    letters = []
    for number in range(2):
        fields = (to, "Subject: Uitnodiging =?utf-8?q?caf=C3=A9?=", f"Message-ID: <{number}@sender.example>")
        letters.append(post(gateway, "personal", people, letter(*fields)).queue_id)
    told = [message.raw.decode() for message in hop.wait(2)]  # of each that waits, not one a day
    for number, queue_id in enumerate(letters):
        (text,) = [text for text in told if f"In-Reply-To: <{number}@sender.example>" in text]
        assert "To: <info@sender.example>" in text and "Subject: Choose what should be done with your message" in text
        assert "Subject: Uitnodiging café" in text and "15 people see" in text and "/why/CC-10" in text
        assert queue_id in text and "(info@sender.example)" in text and re.search(r"chosen by 20\d\d-.*\(UTC\)", text)
        assert "party0" not in text
    gateway.op("held.release", id=letters[0], way=way)
    assert hop.until(lambda: len(hop.wait(0)) == 2 + mails)
    for message in hop.wait(0)[2:]:
        assert message.head.count("@party") == shown
    log = (gateway.folder / "gateway.log").read_text()
    assert ('"kind":"incident"' in log.replace(" ", "")) is (way == "as_written")


def remembered(gateway: Gateway) -> int:
    """Messages in thread memory."""
    with closing(sqlite3.connect(f"file:{gateway.folder}/data/threads.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM thread").fetchone()[0])


def policy_mode(gateway: Gateway, hop: Moody, mode: str) -> None:
    """Set it for mail that shows many, and see each worker keep to it: they look for changes on their own."""
    gateway.op("policy.mode", tenant="shop", policy="recipients", mode=mode)
    people = outsiders(25)
    raw = letter("To: " + ",\r\n ".join(people), "Subject: probe")
    follow: set[int] = set()

    def all_do() -> bool:
        queue_id = post(gateway, "personal", people, raw).queue_id
        assert hop.until(lambda: bool(arrived(hop, queue_id)))
        is_whole = len(arrived(hop, queue_id)[0].rcpt) == len(people)
        number = decode_id(queue_id)
        assert number is not None
        if is_whole is (mode == "observe"):
            follow.add(number >> 10 & 0xFFF)  # the worker that took it, see relay.spool.item.IdSource
        return len(follow) == gateway.settings.server.workers

    gateway.until(all_do, 20.0, f"{mode} is in force in {len(follow)} workers only")


def test_a_reply_to_all_of_a_thread_stays_whole_whichever_worker_takes_it(start: Start) -> None:
    """CC-11 over workers: everybody saw everybody in the parent, which left while the tenant only observed."""
    gateway, hop = start(workers=2)
    people = outsiders(25)
    to = "To: " + ",\r\n ".join(people)
    policy_mode(gateway, hop, "observe")
    post(gateway, "personal", people, letter(to, "Subject: parent", "Message-ID: <parent@sender.example>"))
    assert hop.until(lambda: [len(message.rcpt) for message in arrived(hop, "Subject: parent")] == [25])
    policy_mode(gateway, hop, "enforce")
    for number in range(6):  # connections go to the workers as the kernel likes
        post(gateway, "personal", people, letter(to, f"Subject: re {number}", "In-Reply-To: <parent@sender.example>"))
    assert hop.until(lambda: [len(message.rcpt) for message in arrived(hop, "Subject: re ")] == [25] * 6)


def test_two_threads_together_introduce_nobody(start: Start) -> None:
    """CC-11: every address must have been visible in one parent, not in several."""
    gateway, hop = start(policies={"recipients": {"act_from": 10}})
    people = outsiders(24)
    for name, half in (("one", people[:9]), ("two", people[9:18]), ("three", people[18:])):
        raw = letter("To: " + ",\r\n ".join(half), f"Subject: {name}", f"Message-ID: <{name}@sender.example>")
        post(gateway, "personal", half, raw)
    hop.wait(3)
    gateway.settle()
    both = letter(
        "To: " + ",\r\n ".join(people),
        "Subject: all",
        "References: <one@sender.example> <two@sender.example> <three@sender.example>",
    )
    post(gateway, "personal", people, both)
    assert hop.until(lambda: len(recipients(hop, "all")) == 24)


def test_a_long_subscriber_id_is_refused_at_once(start: Start) -> None:
    gateway, _ = start(policies=INJECT)
    raw = letter("To: ann@dest.example", "X-Zegel-Subscriber: " + "s" * 256, "Subject: news")
    assert post(gateway, "marketing", ["ann@dest.example"], raw).reply.startswith("550 5.6.0 [MSG-7]")
