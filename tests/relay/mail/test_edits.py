"""Edits of a header block: what is left when recipients are hidden from each other (CC-8, CC-9)."""

from __future__ import annotations

import pytest

from relay.mail.edits import Edit, apply, show_only
from relay.mail.message import Malformed, Message

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
