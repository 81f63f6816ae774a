"""Letters to a sender about what became of his mail (CC-10, CC-18): which mail, what, and no recipient of it."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from relay.mail.message import Message
from relay.mail.notice import About, Stamp, build, is_automatic

STAMP = Stamp("gw.example", 1_790_000_000.0, "id1")
RAW = "To: ann@dest.example\r\nSubject: {}\r\nMessage-ID: {}\r\n\r\nDag.\r\n"


def letter(
    reason: str, *, language: str = "nl", subject: str = "Feest", reference: str = "<1@s.example>", until: float = 0.0
) -> EmailMessage:
    message = Message.split(RAW.format(subject, reference).encode())
    assert isinstance(message, Message)
    about = About("0R3M7K2QX9T1A", 1_790_000_000.0, message, 12, until, "beheer@s.example")
    raw = build(reason, "jan@s.example", about, STAMP, language=language, url="https://gw.example/")
    made = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    assert isinstance(made, EmailMessage) and not made.defects
    return made


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("until", [0.0, 1_790_014_400.0])
@pytest.mark.parametrize("reason", ["recipients.split", "recipients.hidden", "recipients.warn", "recipients.ask"])
def test_every_letter_says_which_mail_and_names_no_recipient(reason: str, until: float, language: str) -> None:
    made = letter(reason, language=language, until=until)
    text = made.get_content()
    assert made["In-Reply-To"] == "<1@s.example>" and "Feest" in text and "2026-09-21 14:13 (UTC)" in text
    assert "https://gw.example/why/CC-" in text and "ann@" not in str(made) and "{" not in text and "?." not in text
    assert ("2026-09-21 18:13 (UTC)" in text) is bool(until)
    once = "hooguit één zo'n bericht per dag" if language == "nl" else "at most one like it a day"
    assert (once in text) is not bool(until)


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("reason", ["leaks.bsn_seen", "leaks.address_file_portal_seen", "leaks.unchecked"])
def test_a_letter_about_leaks_says_what_and_where_to_go(reason: str, language: str) -> None:
    """DLP-6; nothing of hidden recipients, which would not mend it."""
    about = About("0R3M7K2QX9T1A", 1.0, None, 3, 1_790_014_400.0, "", (("count", "3"), ("portal", "https://p.example")))
    text = build(reason, "jan@s.example", about, STAMP, language=language, url="https://gw.example/").decode()
    assert ("https://p.example" in text) is ("portal" in reason) and "{" not in text and "?." not in text
    assert "zegel held show 0R3M7K2QX9T1A" in text and "eigen adres" not in text and "their own address" not in text
    assert ": 3." in text or " 3 " in text or reason == "leaks.unchecked"


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("until", [0.0, 1_790_014_400.0])
def test_a_letter_about_leaks_does_not_repeat_the_subject(until: float, language: str) -> None:
    """What was found may stand in it (DLP-10)."""
    made = letter("leaks.bsn_seen", language=language, subject="BSN 123456782", until=until)
    text = made.get_content()
    assert "123456782" not in str(made) and ("niet herhaald" in text or "not repeated" in text)


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("=?utf-8?q?caf=C3=A9?=", "café"),
        ("{link} {0}", "{link} {0}"),
        ("=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
        ("", "(geen onderwerp)"),
    ],
)
def test_a_subject_is_text_whatever_it_holds(subject: str, shown: str) -> None:
    assert f"Onderwerp: {shown}\r\n" in letter("recipients.split", subject=subject).get_content()


def test_a_message_id_that_is_none_is_not_answered() -> None:
    assert letter("recipients.split", reference="<a b>")["In-Reply-To"] is None


@pytest.mark.parametrize(
    ("value", "automatic"),
    [("auto-replied", True), ("Auto-Generated; x=y", True), ("auto-notified", True), ("no", False), ("", False)],
)
def test_automatic_mail_is_known(value: str, automatic: bool) -> None:
    message = Message.split(f"Auto-Submitted: {value}\r\n\r\nDag.\r\n".encode())
    assert isinstance(message, Message) and is_automatic(message) is automatic


def test_who_writes_from_an_internationalised_domain_is_written_to_in_a_labels() -> None:
    """So that a host without SMTPUTF8 takes it; a local part that is not ASCII has no such form."""
    about = About("0R3M7K2QX9T1A", 1.0, None, 3)
    for sender, to in (
        ("jan@bücher.example", b"jan@xn--bcher-kva.example"),
        ("käthe@s.example", "käthe@s.example".encode()),
    ):
        raw = build("recipients.split", sender, about, STAMP, language="en", url="https://gw.example/")
        assert b"\r\nTo: <" + to + b">\r\n" in raw
