"""Which mailing a mail is of: what X-Zegel-Tag says, else its list on its day (GDPR-12)."""

from __future__ import annotations

import pytest

from relay.mail.mailing import clean, name_of, tag_of
from relay.mail.message import Message

MARCH = 1_772_323_199.0  # 2026-02-28T23:59:59Z

TAGS = {
    b"spring-sale": "spring-sale",
    b"  Spring \t sale 2026 ": "Spring sale 2026",
    b"=?utf-8?q?spring_sale_=E2=82=AC?=": "spring sale €",
    "café".encode(): "café",
    "cafe\u0301".encode(): "café",
    b"x" * 100: "x" * 100,
    b"x" * 101: "",
    b"": "",
    b"   ": "",
    b"ann@example.net": "",
    "ann＠example.net".encode(): "",
    b"=?utf-8?q?ann=40example.net?=": "",
    b"=?utf-8?q?a=00b?=": "",
    b"=?utf-8?b?" + b"eHh4" * 600 + b"?=": "",
}


@pytest.mark.parametrize("value", TAGS)
def test_a_tag(value: bytes) -> None:
    message = Message.split(b"From: a@b.example\r\nX-Zegel-Tag: " + value + b"\r\n\r\ntext\r\n")
    assert isinstance(message, Message)
    assert tag_of(message) == TAGS[value]
    assert clean(tag_of(message)) == tag_of(message)


def test_no_tag_and_no_message() -> None:
    message = Message.split(b"From: a@b.example\r\n\r\ntext\r\n")
    assert isinstance(message, Message)
    assert tag_of(message) == tag_of(None) == ""


def test_without_a_tag_it_is_of_its_list_on_its_day_in_utc() -> None:
    assert name_of("spring", "newsletter", MARCH) == "spring"
    assert name_of("", "newsletter", MARCH) == "newsletter-2026-02-28"
    assert name_of("", "newsletter", MARCH + 1.0) == "newsletter-2026-03-01"
