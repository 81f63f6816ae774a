"""Every reason has a reply that a mail server may send and a person can act on (rulebook section 2, OPS-5)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import REASONS, reply_line, rule_of, slot_text, to_ascii

URL = "https://relay.shop.example"

# Rulebook section 2: situation, one reason for it, basic and enhanced code.
TABLE = [
    ("consent.missing", "550 5.7.1"),
    ("suppression.objected", "550 5.7.1"),
    ("unsubscribe.missing", "550 5.7.1"),
    ("recipients.exposed", "550 5.7.1"),
    ("identity.sender_not_owned", "553 5.7.1"),
    ("identity.from_not_owned", "550 5.7.1"),
    ("identity.from_freemail", "550 5.7.1"),
    ("identity.no_key", "550 5.7.20"),
    ("session.no_spf", "550 5.7.23"),
    ("session.no_authentication", "550 5.7.26"),
    ("session.sender_null_mx", "550 5.7.27"),
    ("session.recipient_null_mx", "556 5.1.10"),
    ("throttle.over", "450 4.7.28"),
    ("session.too_many_recipients", "452 4.5.3"),
    ("account.suspended", "525 5.7.13"),
    ("account.suspended_open", "421 4.7.0"),
    ("session.bad_login", "535 5.7.8"),
    ("session.login_needs_tls", "538 5.7.11"),
    ("session.login_required", "530 5.7.0"),
    ("session.requiretls", "550 5.7.30"),
    ("identity.from_twice", "550 5.6.0"),
    ("identity.from_missing", "550 5.6.0"),
    ("content.duplicate_field", "550 5.6.0"),
    ("message.control_in_head", "550 5.6.0"),
    ("session.bare_newline", "550 5.5.2"),
    ("content.too_big", "552 5.3.4"),
    ("content.loop", "554 5.4.6"),
    ("consent.unavailable", "451 4.3.0"),
    ("content.eight_bit_header", "550 5.6.9"),
    ("suppression.bounced", "550 5.1.1"),
]


@pytest.mark.parametrize(("code", "codes"), TABLE)
def test_the_codes_are_those_of_the_rulebook(code: str, codes: str) -> None:
    assert reply_line(code, (), "en", URL).startswith(f"{codes} [{rule_of(code)}] ")


def test_a_reply_reads_as_promised() -> None:
    assert reply_line("consent.missing", (), "en", URL + "/") == (
        "550 5.7.1 [CONSENT-1] No consent of this recipient is known for this list. First record that the recipient said"
        " yes; see https://relay.shop.example/why/CONSENT-1"
    )
    assert reply_line("consent.missing", (), "nl", URL).endswith("; zie https://relay.shop.example/why/CONSENT-1")


@pytest.mark.parametrize("code", [code for code in REASONS if not code.startswith("*")])
@pytest.mark.parametrize("language", ["nl", "en"])
def test_every_sentence_fits_one_line_with_its_slots_filled(code: str, language: str) -> None:
    slots = re.findall(r"\{([a-z_]+)\}", REASONS[code].nl + REASONS[code].en)
    line = reply_line(code, [(slot, "x" * 300) for slot in slots], language, "https://relay.a-rather-long-name.example")
    assert len(line) <= 510 and line.isascii() and "{" not in line and "?" not in line
    assert line.endswith(f"/why/{rule_of(code)}")


@pytest.mark.parametrize("code", list(REASONS))
def test_every_reason_is_whole(code: str) -> None:
    reason = REASONS[code]
    assert re.fullmatch(r"[245]\d\d", reason.basic) and reason.enhanced[0] == reason.basic[0]
    assert re.fullmatch(r"[A-Z]+-\d+", reason.rule)
    assert re.fullmatch(r"\d\.\d\.\d{1,2}", reason.enhanced)
    # The same facts in both languages, and no full stop, since the link follows.
    slots = [sorted(re.findall(r"\{[a-z_]+\}", text)) for text in (reason.nl, reason.en)]
    assert slots[0] == slots[1]
    assert reason.nl != reason.en and not reason.nl.endswith(".") and not reason.en.endswith(".")


def test_a_policy_without_a_sentence_of_its_own_borrows_the_general_one() -> None:
    assert REASONS["anything.crashed"].code == "anything.crashed"
    assert REASONS["anything.unavailable"].rule == "PIPE-3"


@pytest.mark.parametrize("code", ["consent.misspelt", "nothing", ".crashed", ""])
def test_a_reason_that_is_not_there_is_a_bug(code: str) -> None:
    with pytest.raises(KeyError):
        REASONS[code]


@given(st.text(max_size=200), st.text(max_size=60))
def test_nothing_in_a_slot_can_break_the_line(value: str, url: str) -> None:
    line = reply_line("identity.from_not_owned", [("address", value)], "nl", url)
    assert line.isascii() and line.isprintable() and len(line) <= 510


def test_accents_are_dropped_and_the_rest_is_a_question_mark() -> None:
    assert to_ascii("Café Zoë 日本\r\n250 ok") == "Cafe Zoe ?250 ok"


def test_no_reason_is_no_rule() -> None:
    assert rule_of("") == ""


@pytest.mark.parametrize(
    ("name", "value", "nl", "en"),
    [
        ("seconds", "1", "1 seconde", "1 second"),
        ("seconds", "45", "45 seconden", "45 seconds"),
        ("seconds", "61", "61 seconden", "61 seconds"),
        ("seconds", "600", "10 minuten", "10 minutes"),
        ("seconds", "3601", "61 minuten", "61 minutes"),
        ("seconds", "84971", "24 uur", "24 hours"),
        ("seconds", "400000", "5 dagen", "5 days"),
        ("minutes", "1", "1 minuut", "1 minute"),
        ("minutes", "15", "15 minuten", "15 minutes"),
        ("minutes", "60", "1 uur", "1 hour"),
        ("field", "to", "To", "To"),
        ("field", "reply-to", "Reply-To", "Reply-To"),
        ("field", "message-id", "Message-ID", "Message-ID"),
        ("field", "X-Zegel-Purpose", "X-Zegel-Purpose", "X-Zegel-Purpose"),
        ("limit", "messages_per_minute", "berichten per minuut", "messages per minute"),
        ("limit", "500", "500", "500"),
        ("scope", "credential", "inlog", "login"),
    ],
)
def test_a_slot_reads_as_a_person_writes(name: str, value: str, nl: str, en: str) -> None:
    assert (slot_text(name, value, "nl"), slot_text(name, value, "en")) == (nl, en)


@pytest.mark.parametrize(
    ("allowed", "nl", "en"),
    [
        ("1", "De grens van 1 bericht per minuut per inlog is", "The limit of 1 message per minute per login is"),
        ("2", "De grens van 2 berichten per minuut per inlog is", "The limit of 2 messages per minute per login is"),
    ],
)
def test_one_is_not_many(allowed: str, nl: str, en: str) -> None:
    detail = [("allowed", allowed), ("limit", "messages_per_minute"), ("scope", "credential"), ("seconds", "60")]
    reason = REASONS["throttle.over"]
    assert reason.sentence("nl", detail).startswith(nl) and reason.sentence("en", detail).startswith(en)


@pytest.mark.parametrize("code", [code for code in REASONS if not code.startswith("*")])
def test_no_sentence_has_a_limit_before_a_word_in_the_plural(code: str) -> None:
    """A limit may be 1. Octets and hops are never so few."""
    told = " ".join(REASONS[code].sentence(language, [("limit", "1")]) for language in ("nl", "en"))
    assert not re.search(r"\b1 (?!bytes|octets|servers)[a-z-]+(?:s|en)\b", told), told


def test_a_sentence_has_its_accents_and_a_reply_line_has_none() -> None:
    assert "één" in REASONS["unsubscribe.list_id_twice"].sentence("nl")
    assert "meer dan een List-Id" in reply_line("unsubscribe.list_id_twice", (), "nl", URL)
