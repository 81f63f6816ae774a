"""OPS-6: letters to a tenant's contact: counts and rules in two languages, readable, and never an address of a recipient."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from relay.mail.digest import Count, Reader, Rule, Stamp, Waiting, digest, first_refusal
from relay.portal.explained import rules

STAMP = Stamp("gw.example", 1_790_000_000.0, "id1", "https://gw.example")


def rule(name: str, language: str) -> Rule:
    words = rules()[name].words(language)
    return Rule(name, words.title, words.what, words.why, words.do)


def opened(raw: bytes) -> EmailMessage:
    made = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    assert isinstance(made, EmailMessage) and not made.defects
    assert made["From"] == "Zegel <postmaster@gw.example>" and made["To"] == "beheer@s.example"
    assert made["Auto-Submitted"] == "auto-generated" and max(map(len, made.get_content().splitlines())) <= 140
    return made


@pytest.mark.parametrize("language", ["nl", "en", "de"])
@pytest.mark.parametrize("waiting", [0, 1, 7])
def test_a_digest_counts_by_rule_and_says_what_to_do(language: str, waiting: int) -> None:
    reader = Reader("shop", "Tuinhuis BV", "beheer@s.example", language)
    counts = [Count(rule("CC-10", reader.tongue), 0, 3), Count(rule("CONSENT-1", reader.tongue), 1200, 0)]
    counts.append(Count(rule("DLP-1", reader.tongue), 2, 1))
    made = opened(digest(reader, counts, Waiting(waiting, 1_790_014_400.0), STAMP, since=1_789_910_000.0))
    text = made.get_content()
    dutch = language == "nl"
    refused, held, of = ("geweigerd", "vastgehouden", "van") if dutch else ("refused", "held", "of")
    assert made["Subject"] == f"Mail {of} Tuinhuis BV: 1202 {refused}, 4 {held}"
    assert text.index("CONSENT-1") < text.index("CC-10"), "most first"
    assert ("2 × geweigerd, 1 × vastgehouden" if dutch else "2 × refused, 1 × held") in text
    for name in ("CC-10", "CONSENT-1", "DLP-1"):
        assert f"https://gw.example/why/{name}" in text
    assert ("2026-09-21 18:13 (UTC)" in text) is bool(waiting) and ("/api/v1/held" in text) is bool(waiting)
    assert "zegel tenant set shop --no-refusal-letters" in text and "{" not in text and "@" not in text


@pytest.mark.parametrize(("language", "words"), [("nl", "meer dan 200 berichten"), ("en", "More than 200 messages")])
def test_a_digest_does_not_take_what_it_looked_at_for_all(language: str, words: str) -> None:
    reader = Reader("shop", "Tuinhuis BV", "beheer@s.example", language)
    text = opened(digest(reader, [], Waiting(200, STAMP.now, more=True), STAMP, since=STAMP.now)).get_content()
    assert words in text.replace("\n", " ") and "\n\n\n" not in text[text.index(words[:4]) :]


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("name", rules())
def test_every_rule_can_be_explained_to_a_contact(language: str, name: str) -> None:
    reader = Reader("shop", "Tuinhuis BV", "beheer@s.example", language)
    one = rule(name, language)
    made = opened(first_refusal(reader, one, 1_790_000_000.0, STAMP))
    text = " ".join(made.get_content().split())
    assert one.title in made["Subject"] and one.do in text and one.why in text and f"/why/{name}" in text
    assert "2026-09-21 14:13 (UTC)" in text and "{tenant}" not in text
