"""Drafts of notices and the letter to wrong recipients: both languages, filled from what is known, gaps told (GDPR-20 to -23)."""

from __future__ import annotations

import email
import email.policy
import string
import tomllib
from pathlib import Path
from typing import Any

import pytest

import relay.mail
from relay.mail.breach import READERS, deletion_letter, draft
from relay.owner.incident_record import KINDS, RISKS

TEXTS = tomllib.loads((Path(relay.mail.__file__).parent / "breach.toml").read_text("utf-8"))
START = 1_767_348_000.0
HOUR = 3_600.0


def slots(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def incident(**changes: Any) -> dict[str, Any]:
    return {
        "ref": "20260102-abcd",
        "kind": "loss",
        "detected_at": START,
        "last_at": START,
        "times": 1,
        "risk": None,
        "unintelligible": False,
        "late": [],
        "authority_due_at": START + 72 * HOUR,
        "authority_told_at": None,
        "addresses": 0,
        "facts": {"summary": "A list went to the wrong people"},
        "controller": {"name": "Shop BV", "contact": "", "postal_address": "", "language": "nl"},
        "deletion": [],
        "steps": [],
        **changes,
    }


WHOLE: dict[str, Any] = {
    "risk": "high",
    "facts": {
        "summary": "A list went to the wrong people",
        "categories": "members; addresses",
        "people": 40,
        "records": 80,
        "consequences": "unwanted mail",
        "measures": "all was deleted",
        "why": "A church",
    },
    "controller": {
        "name": "Shop BV",
        "contact": "privacy@shop.example",
        "postal_address": "Postbus 1, Utrecht",
        "language": "nl",
    },
}


def test_both_languages_say_the_same() -> None:
    assert list(TEXTS["words"]["nl"]) == list(TEXTS["words"]["en"])
    for key, text in TEXTS["words"]["nl"].items():
        assert slots(text) == slots(TEXTS["words"]["en"][key]), key
    for name in (*READERS, "deletion"):
        for part in ("subject", "body"):
            assert slots(TEXTS[name][f"{part}_nl"]) == slots(TEXTS[name][f"{part}_en"]), (name, part)


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_every_draft_can_be_written_of_every_kind(reader: str, kind: str, language: str) -> None:
    """What is not known is a gap, and every gap is listed; a whole one has none."""
    empty = draft(reader, incident(kind=kind, facts={}), language=language)
    assert empty.missing and all(f"[{gap}]" in empty.text for gap in empty.missing)
    assert "{" not in empty.text + empty.subject and "None" not in empty.text
    assert "\n\n\n" not in empty.text and " \n" not in empty.text
    whole = draft(reader, incident(kind=kind, **WHOLE), language=language, contact="Carla, 030 1234567")
    assert whole.missing == () and "[" not in whole.text and "{" not in whole.text
    assert "Shop BV" in whole.text and "unwanted mail" in whole.text


@pytest.mark.parametrize("risk", RISKS)
def test_the_authority_reads_the_items_of_article_33(risk: str) -> None:
    made = draft("authority", incident(**{**WHOLE, "risk": risk}), language="en", contact="Carla")
    for item in (
        "a. Nature",
        "members; addresses",
        "40",
        "80",
        "b. Where",
        "privacy@shop.example",
        "c. What may",
        "d. Measures",
    ):
        assert item in made.text
    assert "autoriteitpersoonsgegevens.nl" in made.text and "spamklacht.nl" in made.text, "LAW-5"
    assert "later than the law allows" not in made.text


def test_a_late_report_gives_its_reason_or_asks_for_it() -> None:
    late = incident(**WHOLE, late=["authority"])
    assert "fill in: why the report is later than 72 hours" in draft("authority", late, language="en").missing
    told = {"step": "notified", "to": "authority", "late": "nobody was in"}
    assert "The reason: nobody was in." in draft("authority", {**late, "steps": [told]}, language="en").text


def test_what_the_gateway_saw_is_told_in_words() -> None:
    facts = {"credential": "office", "shown": 40, "reason": "recipients.exposed"}
    made = draft("tenant", incident(kind="exposure", times=7, facts=facts, addresses=38), language="en")
    assert (
        "The login office sent mail" in made.text
        and "7 times" in made.text
        and "Number of people, about: 38" in made.text
    )


def test_unintelligible_data_and_confirmed_deletions_are_told() -> None:
    asked = [{"confirmed_at": START}, {"confirmed_at": None}]
    made = draft("tenant", incident(**WHOLE, unintelligible=True, deletion=asked), language="en")
    assert "cannot read them" in made.text
    assert "asked to delete: 2. Confirmed in writing: 1." in made.text


def test_braces_and_brackets_in_what_people_wrote_are_only_text() -> None:
    facts = {**WHOLE["facts"], "summary": "a {file} [x]", "measures": "{people}"}
    made = draft("tenant", incident(**{**WHOLE, "facts": facts}), language="nl", contact="Carla")
    assert "a {file} [x]" in made.text and "{people}" in made.text and made.missing == ()


@pytest.mark.parametrize(
    ("sent", "language", "word"), [(0, "nl", "verwijderen"), (1, "en", "reminder"), (2, "nl", "herinnering")]
)
def test_the_letter_is_whole_and_a_reminder_says_so(sent: int, language: str, word: str) -> None:
    about = {
        "recipient": "eve@bücher.example", "language": language, "mails_sent": sent, "what": "een lijst é", "sender": "Shop BV",
    }  # fmt: skip
    made = deletion_letter(about, "https://gw.example/deleted/abc", "gw.example", START)
    read = email.message_from_bytes(made.raw.encode(), policy=email.policy.default)
    assert read["To"] == "eve@xn--bcher-kva.example" and read["Auto-Submitted"] == "auto-generated"
    text = read.get_content()
    assert word in text and "een lijst é" in text and "https://gw.example/deleted/abc" in text and "Shop BV" in text
    assert ("herinnering" in text or "reminder" in text) is (sent > 0)
