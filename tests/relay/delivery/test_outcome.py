"""Replies of the wild (tests/replies.tsv) and what is kept of their text."""

from pathlib import Path

import pytest

from relay.delivery.outcome import (
    MAX_REPLY_CHARACTERS,
    Deferred,
    Delivered,
    Failed,
    Stage,
    clean,
    judge,
    subject_of,
    text_of,
)
from relay.delivery.replies import Reply, ReplyReader

TABLE = Path(__file__).parents[2] / "replies.tsv"
KINDS = {Delivered: "delivered", Deferred: "deferred", Failed: "failed"}


def rows() -> list[tuple[str, ...]]:
    lines = TABLE.read_text("utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("stage", "text", "kind", "status", "scope"), rows())
def test_reply_of_the_wild(stage: str, text: str, kind: str, status: str, scope: str) -> None:
    (reply,) = ReplyReader().feed(text.replace("\\n", "\r\n").encode() + b"\r\n")
    outcome = judge(reply, "mx.example", Stage[stage.upper()])
    assert (KINDS[type(outcome)], outcome.status) == (kind, status)
    assert (outcome.scope if isinstance(outcome, Deferred) else "-") == scope
    assert outcome.host == "mx.example"
    assert outcome.reply.startswith(text[:3])
    assert outcome.code == int(text[:3])


def test_status_has_the_class_of_the_outcome() -> None:
    for code in range(400, 600):
        for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT):
            outcome = judge(Reply(code, b"x"), "h", stage)
            assert outcome.status[0] == ("4" if isinstance(outcome, Deferred) else "5"), (code, stage)
            assert code >= 500 or isinstance(outcome, Deferred), (code, stage)


def test_lines_are_joined_and_repeated_status_goes() -> None:
    text = text_of(Reply(550, b"5.1.1 No such\n5.1.1 user here\nat all"))
    assert text == "550 5.1.1 No such user here at all"


@pytest.mark.parametrize("bad", ["\x00", "\x1b[31m", "\r", "\n", "\x7f", "\x85", "\u2028", "\u202e"])
def test_text_of_a_peer_cannot_drive_a_terminal_or_break_a_line(bad: str) -> None:
    text = clean(f"550 a{bad}b")
    assert text.isprintable()
    assert text.startswith("550 a")


def test_text_is_bounded_and_invalid_utf8_is_replaced() -> None:
    assert len(text_of(Reply(550, b"x" * 60_000))) == MAX_REPLY_CHARACTERS
    assert text_of(Reply(550, b"gr\xfc\xdfe")).startswith("550 gr")
    assert text_of(Reply(550, "grüße".encode())) == "550 grüße"


@pytest.mark.parametrize(
    ("status", "subject"),
    [
        ("5.7.1", "security"), ("5.7.515", "security"), ("4.7.0", "security"), ("5.1.1", "address"), ("4.2.2", "mailbox"),
        ("4.4.2", "network"), ("4.3.2", "system"), ("5.5.0", "protocol"), ("5.6.1", "content"), ("5.0.0", "other"),
        ("5.71.1", "other"), ("", "other"), ("7", "other"),
    ],
)  # fmt: skip
def test_what_a_refusal_is_about(status: str, subject: str) -> None:
    assert subject_of(status) == subject
