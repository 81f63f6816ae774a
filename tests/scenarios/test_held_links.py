"""CC-10: the sender of a held mail chooses by the links in our letter, once, and nobody else can; CC-13: invitations."""

from __future__ import annotations

import json
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlencode

import pytest

from relay.consent.token import TokenKind, make
from relay.keyring import Keyring
from tests.harness.gateway import SENDER, Gateway
from tests.harness.moody import Moody
from tests.harness.post import letter, outsiders, post
from tests.harness.sink import Arrived
from tests.harness.web import ask, fetch
from tests.scenarios.conftest import Start

PEOPLE = outsiders(15)
ASK = {"recipients": {"exposed": {"personal": "ask"}, "ask_as_written": "always"}}
LINK = re.compile(r"(http://\S+/held/[\w-]+)\?choice=(\w+)&lang=(\w\w)")


def hold(gateway: Gateway, name: str, *fields: str) -> str:
    """A letter to PEOPLE that waits for its sender; its queue id."""
    shown = fields or ("To: " + ",\r\n ".join(PEOPLE),)
    return post(
        gateway, "personal", PEOPLE, letter(*shown, f"Subject: {name}", f"Message-ID: <{name}@s.example>")
    ).queue_id


def told(hop: Moody, name: str) -> str:
    """Our letter about that mail."""
    found: list[str] = []

    def arrived() -> bool:
        texts = [m.raw.decode() for m in hop.wait(0) if m.mail.startswith("MAIL FROM:<>")]
        found[:] = [text for text in texts if f"In-Reply-To: <{name}@s.example>" in text and "/held/" in text]
        return bool(found)

    assert hop.until(arrived)
    return found[0]


def link_in(text: str) -> str:
    return LINK.findall(text)[0][0]


def choose(link: str, choice: str) -> tuple[int, str]:
    return fetch(f"{link}?lang=en", urlencode({"choice": choice}).encode())


def of(hop: Moody, name: str) -> list[Arrived]:
    """What left of that mail itself."""
    return [m for m in hop.wait(0) if f"Subject: {name}" in m.head and not m.mail.startswith("MAIL FROM:<>")]


def events(gateway: Gateway, queue_id: str, key: str) -> list[dict[str, object]]:
    """What the tenant reads of the message's history, as soon as his key is known."""
    status, text = ask(gateway, f"/api/v1/messages/{queue_id}", key=key)
    return list(json.loads(text)["events"]) if status == 200 else []


def decisions(gateway: Gateway) -> list[dict[str, object]]:
    """What the audit says of held mail."""
    with closing(sqlite3.connect(f"file:{gateway.settings.database_path}?mode=ro", uri=True)) as db:
        return [
            json.loads(row[0]) for row in db.execute("SELECT detail FROM audit WHERE op='hold.decided' ORDER BY id")
        ]


def test_the_sender_chooses_once_and_only_for_the_message_of_the_link(start: Start) -> None:
    gateway, hop = start(workers=2, policies=ASK)
    ids = {name: hold(gateway, name) for name in ("first", "second", "third")}
    text = told(hop, "first")
    assert [choice for _, choice, _ in LINK.findall(text)] == ["split", "hidden", "as_written", "refuse"]
    assert len({link for link, _, _ in LINK.findall(text)}) == 1 and "party0" not in text
    link = link_in(text)
    for address, choice, language in LINK.findall(text):  # as a mail scanner does, and then some
        for _ in range(2):
            status, page = fetch(f"{address}?choice={choice}&lang={language}")
            assert status == 200 and 'method="post"' in page and "party" not in page
    assert fetch(f"{link}/mail?lang=en")[0] == 200
    assert gateway.queued() == 3 and not of(hop, "first")
    for body in (b"", b"choice=open", b"choice=split&choice=refuse", b"\xff"):
        assert fetch(f"{link}?lang=en", body)[0] == 400
    assert gateway.queued() == 3
    status, page = choose(link, "split")
    assert status == 200 and "a copy for each" in page
    assert hop.until(lambda: len(of(hop, "first")) == 15)
    assert all(message.head.count("@party") == 1 for message in of(hop, "first"))
    key = gateway.op("apikey.add", tenant="shop", name="trace")["secret"]
    released: list[dict[str, object]] = []

    def traced() -> bool:
        released[:] = [event for event in events(gateway, ids["first"], key) if event["event"] == "released"]
        return bool(released)

    gateway.until(traced, 5.0, "the trace does not tell of it")
    (decided,) = released
    assert (decided["by"], decided["way"], decided["name"]) == ("sender", "split", SENDER)
    for again in ("split", "as_written", "refuse"):  # replayed, by whoever
        status, page = choose(link, again)
        assert status == 410 and "You have chosen already" in page
    for path in ("", "/mail"):
        assert fetch(f"{link}{path}?lang=en")[0] == 410
    assert {name for name in ids if of(hop, name)} == {"first"} and gateway.queued() == 2
    assert choose(link_in(told(hop, "second")), "hidden")[0] == 200
    assert hop.until(lambda: bool(of(hop, "second")))
    assert "To: undisclosed-recipients:;" in of(hop, "second")[0].head
    assert choose(link_in(told(hop, "third")), "refuse")[0] == 200
    assert hop.until(lambda: any("You chose yourself not to send" in unfolded(m) for m in hop.wait(0)))
    gateway.settle()
    assert not of(hop, "third")
    assert [(row["by"], row["choice"], row["id"]) for row in decisions(gateway)] == [
        ("sender", "split", ids["first"]), ("sender", "hidden", ids["second"]), ("sender", "refuse", ids["third"]),
    ]  # fmt: skip
    assert SENDER not in json.dumps(decisions(gateway)) and all(row["subject"] for row in decisions(gateway))
    log = (gateway.folder / "gateway.log").read_text()
    assert link.rpartition("/")[2] not in log and SENDER not in log
    counted = 'zegel_hold_decisions_total{by="sender",choice="split"}'
    gateway.until(lambda: gateway.metric(counted) == 1.0, 5.0, "the decision is not counted")


def unfolded(message: Arrived) -> str:
    return re.sub(r"=?\r\n\s*", " ", message.raw.decode()).replace("  ", " ")


def test_of_two_who_choose_at_once_one_comes_too_late(start: Start) -> None:
    gateway, hop = start(policies=ASK)
    for number in range(5):
        name = f"race{number}"
        hold(gateway, name)
        link = link_in(told(hop, name))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda choice: choose(link, choice)[0], ["split", "refuse"] * 4))  # noqa: B023 done here
        assert sorted(answers)[0] == 200 and set(sorted(answers)[1:]) <= {410, 503}
        gateway.settle()
        assert len(of(hop, name)) in (0, 15)


def test_a_link_that_is_forged_or_of_another_time_chooses_nothing(start: Start) -> None:
    gateway, hop = start(policies=ASK)
    queue_id = hold(gateway, "first")
    link = link_in(told(hop, "first"))
    base, _, token = link.rpartition("/")
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    other = make(keyring, TokenKind.UNSUBSCRIBE, 1, purpose=queue_id, subject_hash=bytes(16), subscriber="1.0")
    stale = make(keyring, TokenKind.HELD, 1, purpose=queue_id, subject_hash=bytes(16), subscriber="1.0")
    stranger = make(keyring, TokenKind.HELD, 2, purpose=queue_id, subject_hash=bytes(16), subscriber="1.0")
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for forged, status in ((changed, 404), (token[:40], 404), ("x", 404), (other, 404), (stale, 410), (stranger, 410)):
        assert fetch(f"{base}/{forged}")[0] == status
        assert choose(f"{base}/{forged}", "as_written")[0] == status
        assert fetch(f"{base}/{forged}/mail")[0] == status
    assert fetch(link)[0] == 200
    gateway.op("queue.hold", id=queue_id)  # the operator keeps it for another reason: that is no question to its sender
    assert fetch(link)[0] == 410 and choose(link, "split")[0] == 410 and not of(hop, "first")


def test_a_link_that_has_expired_chooses_nothing(start: Start) -> None:
    gateway, hop = start(policies=ASK, limits={"hold_ask_hours": 0.0015})
    hold(gateway, "late")
    link = link_in(told(hop, "late"))
    gateway.until(lambda: fetch(f"{link}?lang=en")[0] == 410, 60.0, "the link does not expire")
    assert "The time to choose is over" in fetch(f"{link}?lang=en")[1]
    assert choose(link, "split")[0] == 410 and not of(hop, "late")


def test_while_the_account_is_suspended_nothing_is_sent_by_a_link(start: Start) -> None:
    gateway, hop = start(policies=ASK)
    queue_id = hold(gateway, "late")
    link = link_in(told(hop, "late"))
    for kind, name in (("tenant", "shop"), ("credential", "personal")):
        gateway.op(f"{kind}.suspend", name=name, reason="stolen")
        gateway.until(lambda: choose(link, "none of them")[0] == 403, 5.0, "the page does not know of it")
        for way in ("split", "as_written"):
            status, page = choose(link, way)
            assert status == 403 and "suspended" in page and not decisions(gateway)
        gateway.op(f"{kind}.resume", name=name)
        gateway.until(lambda: choose(link, "none of them")[0] == 400, 5.0, "it stays suspended")
    assert choose(link, "as_written")[0] == 200
    assert hop.until(lambda: bool(of(hop, "late")))
    assert [row["id"] for row in decisions(gateway)] == [queue_id]


def invitation(guests: int) -> str:
    lines = "".join(f"ATTENDEE;RSVP=TRUE:mailto:{address}\r\n" for address in PEOPLE[:guests])
    head = f"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nORGANIZER:mailto:{SENDER}\r\n"
    return f"{head}{lines}END:VEVENT\r\nEND:VCALENDAR\r\n"


@pytest.mark.parametrize("login", ["personal", "transactional"])
def test_an_invitation_waits_and_leaves_as_it_is(start: Start, login: str) -> None:
    """CC-13: by default its sender may let it go, and its head is untouched."""
    gateway, hop = start()
    kind = "Content-Type: text/calendar; method=REQUEST; charset=utf-8"
    raw = letter(f"To: {SENDER}", "Subject: meet", "Message-ID: <meet@s.example>", kind, body=invitation(15))
    assert post(gateway, login, PEOPLE, raw).queue_id
    text = told(hop, "meet")
    assert [choice for _, choice, _ in LINK.findall(text)] == ["as_written", "refuse"] and "/why/CC-13" in text
    link = link_in(text)
    assert choose(link, "split")[0] == 400
    assert choose(link, "as_written")[0] == 200
    assert hop.until(lambda: bool(of(hop, "meet")))
    (message,) = of(hop, "meet")
    assert f"To: {SENDER}" in message.head and message.raw.count(b"ATTENDEE") == 15 and len(message.rcpt) == 15


def test_an_invitation_in_a_campaign_is_refused(start: Start) -> None:
    gateway, _ = start(policies={"unsubscribe": {"missing": "inject"}})
    kind = "Content-Type: text/calendar; method=REQUEST; charset=utf-8"
    raw = letter("To: ann@dest.example", "Subject: sale", kind, body=invitation(3))
    assert "550 5.7.1 [CC-13]" in post(gateway, "marketing", ["ann@dest.example"], raw).reply
