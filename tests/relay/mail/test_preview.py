"""What a person may see of a held mail: bounded, whatever it holds, and without marks that make a line read otherwise."""

from __future__ import annotations

import pytest

from relay.mail.message import Message
from relay.mail.preview import MAX_FILES, MAX_HTML_OCTETS, MAX_NAME, Content, content
from tests.harness.timing import rounds


def shown(raw: str | bytes) -> Content:
    message = Message.split(raw if isinstance(raw, bytes) else raw.replace("\n", "\r\n").encode())
    assert isinstance(message, Message)
    return content(message)


def mixed(*parts: str) -> str:
    return "Content-Type: multipart/mixed; boundary=s\n\n" + "".join(f"--s\n{part}\n" for part in parts) + "--s--\n"


def test_texts_fields_and_files() -> None:
    text = "From: Ann <ann@x.test>\nTo: b@y.test\nSubject: =?utf-8?q?caf=C3=A9?=\n" + mixed(
        "Content-Type: multipart/alternative; boundary=t\n\n--t\n\nplain\n--t\nContent-Type: text/html\n\n<b>html</b>\n--t--",
        "Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n" + "QUJD" * 10,
        "Content-Type: text/plain\nContent-Disposition: attachment; filename=notes.txt\n\nsecret",
        "Content-Type: text/calendar\n\nBEGIN:VCALENDAR",
        "Content-Type: message/rfc822\nContent-Disposition: attachment\n\nSubject: inner\n\ninside",
    )
    made = shown(text)
    assert made.subject == "café" and made.fields["from"] == "Ann <ann@x.test>" and made.fields["cc"] == ""
    assert made.html == "<b>html</b>" and made.plain.startswith("plain") and "secret" not in made.plain
    assert [(one.name, one.content_type) for one in made.files][:3] == [
        ("a.pdf", "application/pdf"), ("notes.txt", "text/plain"), ("", "text/calendar"),
    ]  # fmt: skip
    assert made.files[0].size == 30 and not made.is_cut and not made.is_sealed


INVITATION = """BEGIN:VCALENDAR
BEGIN:VTIMEZONE
DTSTART:19700329T020000
END:VTIMEZONE
BEGIN:VEVENT
ATTENDEE:mailto:ann@x.test
dtstart;TZID="Europe/Amsterdam":20261201T100000
DTEND:20261201T110000Z
SUMMARY:Overleg\\, kwartaal
  vier
DESCRIPTION:Neem mee:\\nde cijfers
LOCATION:Zaal 3
BEGIN:VALARM
DESCRIPTION:alarm
END:VALARM
END:VEVENT
END:VCALENDAR"""
SAYS = (
    "Overleg, kwartaal vier\n2026-12-01 10:00 (Europe/Amsterdam) – 2026-12-01 11:00 UTC\nZaal 3\nNeem mee:\nde cijfers"
)


def test_an_invitation_without_a_text_says_what_when_and_where() -> None:
    """Who is asked to let it go (CC-13) would see neither."""
    assert shown(f"Content-Type: text/calendar; method=REQUEST\n\n{INVITATION}\n").plain == SAYS
    both = ["Content-Type: text/plain\n\nsee you", f"Content-Type: text/calendar\n\n{INVITATION}"]
    assert shown(mixed(*both)).plain == "see you"
    whole_day = "BEGIN:VEVENT\nDTSTART;VALUE=DATE:20261224\nSUMMARY:Vrij\n"
    assert shown(f"Content-Type: text/calendar\n\n{whole_day}").plain == "Vrij\n2026-12-24"
    assert shown("Content-Type: text/calendar\n\nnothing of the kind").plain == ""
    for timed in rounds(1.0):
        with timed:
            long = shown("Content-Type: text/calendar\n\nBEGIN:VEVENT\n" + "SUMMARY:" + "\\n" * 5_000_000)
    assert len(long.plain) <= 2_000


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("filename*=utf-8''fact%E2%80%AEfdp.exe", "fact fdp.exe"),
        ("filename*=utf-8''a%0D%0Ab.exe", "a  b.exe"),
        ("filename*=utf-8''a%1B%5B2Jb", "a [2Jb"),
        ("filename=" + "x" * 500, "x" * MAX_NAME),
    ],
)
def test_a_name_reads_as_it_is(name: str, told: str) -> None:
    (one,) = shown(mixed(f"Content-Type: application/x-x\nContent-Disposition: attachment; {name}\n\nx")).files
    assert one.name == told


def test_what_is_too_much_is_cut_and_that_is_said() -> None:
    assert shown("Content-Type: text/html\n\n" + "x" * (MAX_HTML_OCTETS + 1)).is_cut
    made = shown(mixed(*["Content-Type: application/x-x\n\nx"] * (MAX_FILES + 5)))
    assert len(made.files) == MAX_FILES and made.is_cut
    many = shown(mixed(*["Content-Type: text/html\n\n" + "x" * 3_000] * 1_000))
    assert many.is_cut and len(many.html) <= MAX_HTML_OCTETS


@pytest.mark.parametrize("kind", ["multipart/encrypted", "application/pkcs7-mime; smime-type=enveloped-data"])
def test_what_is_sealed_is_said_to_be(kind: str) -> None:
    assert shown(
        f"Content-Type: {kind}; boundary=s\n\n--s\nContent-Type: application/octet-stream\n\nx\n--s--\n"
    ).is_sealed


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed; boundary=s\r\n\r\n" + b"--s\r\n\r\n" * 100_000,
        b"Content-Type: message/rfc822\r\n\r\n" * 5_000,
        b"Subject: " + b"=?utf-8?q?x?= " * 5_000 + b"\r\n\r\nx",
        b"Content-Type: text/html; charset=\xff\xfe\r\n\r\n\xff\xfe\x00",
        b"Content-Type: text/html; charset=utf-7\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"====\r\n" * 50_000,
    ],
)
def test_hostile_shapes_cost_little(raw: bytes) -> None:
    for timed in rounds(1.5):
        with timed:
            shown(raw)
