"""Edits of a header block: what is left when recipients are hidden from each other (CC-8, CC-9)."""

from __future__ import annotations

import pytest

from relay.mail.edits import Edit, apply, show_only
from relay.mail.message import Malformed, Message, index_head
from tests.harness.timing import rounds

OTHERS = "a@x.test, b@y.test"
GOES = (
    *("Cc", "Resent-To", "Resent-Cc", "Resent-From", "Resent-Date", "Resent-Sender", "Resent-Message-ID", "Resent-Reply-To"),
    *("Mail-Followup-To", "Apparently-To", "X-Original-To", "Delivered-To", "Envelope-To", "X-Envelope-To", "X-To"),
    *("Mail-Reply-To", "Disposition-Notification-To", "Return-Receipt-To", "X-Confirm-Reading-To"),
)  # fmt: skip


def fields(*lines: str) -> list[tuple[bytes, bytes]]:
    made = Message.split(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert not isinstance(made, Malformed)
    return made.fields


@pytest.mark.parametrize("name", GOES)
def test_no_field_lists_the_others(name: str) -> None:
    """Mutt, old sendmail, Postfix and others write the recipients a second time."""
    whole = fields("From: Jan <jan@shop.test>", f"To: {OTHERS}", f"{name}: {OTHERS}", f"{name.upper()}: {OTHERS}")
    assert show_only(whole, "a@x.test") == fields("From: Jan <jan@shop.test>", "To: a@x.test")
    hidden = apply(whole, [Edit("undisclosed", "To", "", "CC-9")])
    assert hidden == fields("From: Jan <jan@shop.test>", "To: undisclosed-recipients:;")


@pytest.mark.parametrize("value", ["jan@shop.test", '"Jan" <JAN@shop.test>', "<piet@shop.test>"])
def test_where_answers_go_stays_if_that_is_the_author(value: str) -> None:
    whole = fields("From: Jan <jan@shop.test>, piet@shop.test", "To: a@x.test", f"Disposition-Notification-To: {value}")
    assert show_only(whole, "a@x.test") == whole


@pytest.mark.parametrize(
    "value", ["jan@shop.test, a@x.test", "=?utf-8?q?a=40x.test?= <jan@shop.test>", "xjan@shop.test"]
)
def test_where_answers_go_does_not_stay_with_somebody_else_in_it(value: str) -> None:
    whole = fields("From: Jan <jan@shop.test>", "To: a@x.test", f"Disposition-Notification-To: {value}")
    assert show_only(whole, "a@x.test") == whole[:2]


@pytest.mark.parametrize(
    "value",
    [
        b'"p0"@x0.test, "p1"@x1.test',
        b"ann @x.test, bob @y.test",
        b"ann@(c)x.test",
        b"=?utf-8?q?a@b.test?=",
        b"a@b.test@",
    ],
)
def test_an_answer_field_that_is_no_plain_address_of_the_author_goes(value: bytes) -> None:
    fields = [
        (b"from", b"From: ann@shop.example\r\n"),
        (b"disposition-notification-to", b"Disposition-Notification-To: " + value + b"\r\n"),
    ]
    assert [name for name, _ in show_only(fields, "bob@dest.example")] == [b"from", b"to"]


def test_long_fields_cost_no_more_than_their_length() -> None:
    """A quarter of a megabyte of continuations, and of octets that could begin an address."""
    for timed in rounds(0.1):
        with timed:
            fields = index_head(b"Subject: x\r\n" + b" \r\n" * 85_000)
    assert not isinstance(fields, Malformed) and len(fields) == 1
    for timed in rounds(0.9):
        with timed:
            show_only([(b"return-receipt-to", b"Return-Receipt-To: " + b"x" * 250_000 + b"\r\n")], "bob@dest.example")
