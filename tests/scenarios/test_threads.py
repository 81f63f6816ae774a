"""CC-11: a mail that reached nobody showed nobody, whomever it names in Reply-To, so a reply to all of it is judged afresh."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from tests.harness.gateway import SENDER, Gateway
from tests.harness.moody import Moody
from tests.harness.post import letter, outsiders, post
from tests.scenarios.conftest import Start
from tests.scenarios.test_copies import ASK, policy_mode, remembered

NAMED = 200


def listed(name: str, people: list[str]) -> str:
    return f"{name}: " + ",\r\n ".join(people)


def exposed(head: str) -> set[str]:
    """Of which parties a reader of this mail sees somebody."""
    return set(re.findall(r"@(party\d+)\.example", head))


def test_who_was_named_by_a_refused_mail_was_shown_to_nobody(start: Start) -> None:
    """Two hundred in Reply-To are refused; otherwise the refusal would pay for the exposure of the next mail."""
    gateway, hop = start()
    people = outsiders(15)
    reply_to = listed("Reply-To", outsiders(NAMED))
    refused = letter(f"To: {SENDER}", reply_to, "Subject: first", "Message-ID: <first@sender.example>")
    assert post(gateway, "personal", people, refused).reply.startswith("550 5.7.1 [CC-1]")
    gateway.until(lambda: remembered(gateway) == 1, 5.0, "the refused mail was not remembered")
    answer = letter(listed("To", people), "Subject: again", "In-Reply-To: <first@sender.example>")
    assert post(gateway, "personal", people, answer).queue_id
    assert hop.until(lambda: sum("Subject: again" in message.head for message in hop.wait(0)) == len(people))
    copies = [message.head for message in hop.wait(0) if "Subject: again" in message.head]
    assert [len(exposed(head)) for head in copies] == [1] * len(people)


def test_who_was_named_by_a_mail_that_is_held_was_shown_to_nobody(start: Start) -> None:
    """Nine outsiders who never saw each other earn the sender a warning; after a mail that showed them they would not."""
    gateway, hop = start(policies=ASK)
    people = outsiders(15)
    fields = (listed("To", people), listed("Reply-To", people[:9]), "Subject: first")
    assert post(gateway, "personal", people, letter(*fields, "Message-ID: <first@sender.example>")).queue_id
    gateway.until(lambda: remembered(gateway) == 1, 5.0, "the held mail was not remembered")
    fields = (listed("To", people[:9]), "Subject: again", "In-Reply-To: <first@sender.example>")
    assert post(gateway, "personal", people[:9], letter(*fields, "Message-ID: <again@sender.example>")).queue_id
    told = [message.head for message in hop.wait(3) if message.mail.startswith("MAIL FROM:<>")]
    answered = {match[1] for head in told if (match := re.search(r"In-Reply-To: <(\w+)@", head))}
    assert answered == {"first", "again"}


def test_who_was_named_and_not_written_to_saw_nobody(start: Start) -> None:
    """A letter to a colleague names fifteen outsiders, who did not get it: they do not know of each other."""
    gateway, hop = start()
    people = outsiders(15)
    policy_mode(gateway, hop, "observe")
    parent = letter(listed("To", people), "Subject: parent", "Message-ID: <parent@sender.example>")
    assert post(gateway, "personal", ["boss@sender.example"], parent).queue_id
    gateway.until(lambda: remembered(gateway) == 1, 5.0, "the letter was not remembered")
    assert replied_to_all(gateway, hop, people) == {1}


def test_a_letter_that_comes_in_parts_showed_its_readers_to_each_other(start: Start) -> None:
    """A server in front sends one message for each domain of its readers: all of them got it, whatever came last."""
    gateway, hop = start()
    people = outsiders(15)
    policy_mode(gateway, hop, "observe")
    parent = letter(listed("To", people), "Subject: parent", "Message-ID: <parent@sender.example>")
    for part in (people[:8], people[8:]):
        assert post(gateway, "personal", part, parent).queue_id
    gateway.until(lambda: shown(gateway) == len(people), 5.0, "the letter was not remembered")
    assert replied_to_all(gateway, hop, people) == {len(people)}


def replied_to_all(gateway: Gateway, hop: Moody, people: list[str]) -> set[int]:
    """How many addresses each copy of a reply to all shows once the policy is in force."""
    policy_mode(gateway, hop, "enforce")
    answer = letter(listed("To", people), "Subject: again", "In-Reply-To: <parent@sender.example>")
    assert post(gateway, "personal", people, answer).queue_id
    assert hop.until(lambda: any("Subject: again" in message.head for message in hop.wait(0)))
    return {len(exposed(message.head)) for message in hop.wait(0) if "Subject: again" in message.head}


def shown(gateway: Gateway) -> int:
    """Addresses in thread memory, each as often as there are messages that showed it."""
    with closing(sqlite3.connect(f"file:{gateway.folder}/data/threads.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT coalesce(sum(length(shown)), 0) / 8 FROM thread").fetchone()[0])


def test_an_answer_field_of_two_hundred_goes_with_the_rest(start: Start) -> None:
    """CC-8: quoted as no plain address is, they are in no copy; a field that names the author alone stays."""
    gateway, hop = start()
    people = outsiders(15)
    named = [f'"p {number}"@party{number}.example' for number in range(NAMED)]
    fields = (listed("To", people), listed("Disposition-Notification-To", named), f"Return-Receipt-To: <{SENDER}>")
    assert post(gateway, "personal", people, letter(*fields, "Subject: many")).queue_id
    assert hop.until(lambda: sum("Subject: many" in message.head for message in hop.wait(0)) == len(people))
    for head in (message.head for message in hop.wait(0) if "Subject: many" in message.head):
        assert len(exposed(head)) == 1
        assert "Disposition-Notification-To" not in head and f"Return-Receipt-To: <{SENDER}>" in head
