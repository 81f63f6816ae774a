"""CC-13: whose addresses the guest lists of a mail show, whatever their shape, in linear time."""

from __future__ import annotations

import base64

import pytest

from relay.mail.calendar import MAX_OCTETS, guests
from relay.mail.message import Message
from tests.harness.timing import rounds

HEAD = "Content-Type: text/calendar; charset=utf-8\r\n"


def found(body: str | bytes, head: str = HEAD) -> set[str]:
    octets = body if isinstance(body, bytes) else body.encode()
    message = Message.split(head.encode() + b"\r\n" + octets)
    assert isinstance(message, Message)
    return set(guests(message))


@pytest.mark.parametrize(
    "line",
    [
        "ATTENDEE:mailto:ann@x.test",
        "attendee;cn=Ann;rsvp=true:MAILTO:Ann@X.test",
        'ATTENDEE;CN="Ann <ann@x.test>":urn:uuid:1',
        "ATTENDEE;EMAIL=ann@x.test:invalid:nomail",
        'ATTENDEE;MEMBER="mailto:ann@x.test":CID:1',
        "ATTENDEE:mailto:ann%40x.test",
        "ATTENDEE;CN=A:mail\r\n to:ann@x.te\r\n\tst",
        "ORGANIZER:mailto:ann@x.test",
        "ATTENDEE:mailto:ann@x.test\nSUMMARY:bob@y.test",
        "ATTENDEE:mailto:a@b@c\r\nATTENDEE:mailto:ann@x.test",
    ],
)
def test_guests_however_they_are_written(line: str) -> None:
    assert "ann@x.test" in found(f"BEGIN:VCALENDAR\r\n{line}\r\nEND:VCALENDAR\r\n")
    assert "bob@y.test" not in found(line)


@pytest.mark.parametrize(
    "text", ["", "ATTENDEE", "ATTENDEE:", "XATTENDEE:mailto:a@x.test", "SUMMARY:a@x.test", "\x00\xff"]
)
def test_what_is_no_guest(text: str) -> None:
    assert found(text.encode("latin-1")) == set()


def test_every_part_counts_and_so_do_encodings() -> None:
    body = base64.encodebytes(b"ATTENDEE:mailto:a@x.test\r\n").replace(b"\n", b"\r\n")
    parts = b"--s\r\nContent-Type: application/ics; name=x.ics\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    parts += b"--s\r\nContent-Type: Text/Calendar\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    parts += b"ATTENDEE:mailto:b=40x.test\r\n"
    assert found(parts + b"--s--\r\n", "Content-Type: multipart/mixed; boundary=s\r\n") == {"a@x.test", "b@x.test"}


@pytest.mark.parametrize(
    "piece",
    [
        "ATTENDEE:",
        "a@",
        "ATTENDEE;CN=a@a@",
        "\r\n ",
        "ATTENDEE:mailto:a@x.test\r\n",
        "a" * 50,
        "%40",
        "ATTENDEE:" + "x" * 900,
    ],
)
def test_hostile_lists_cost_little(piece: str) -> None:
    body = "ATTENDEE:" + piece * (4 * MAX_OCTETS // len(piece))
    for timed in rounds(1.5):
        with timed:
            found(body)
