"""Signatures: what they cover and look like, and that dkimpy verifies them, however odd the mail (DKIM-1 to DKIM-11)."""

from __future__ import annotations

import re
import time
from pathlib import Path

import dkim
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dkim.canonical import body_hash
from relay.dkim.keys import ED25519, RSA
from relay.dkim.sign import OVERSIGNED, SIGNED, sign
from relay.mail.message import MAX_LINE_OCTETS, Malformed, Message
from tests.harness.many import examples
from tests.mailfiles import crlf, parameters

NOW = int(time.time())  # dkimpy compares t= and x= with the clock
HEAD = (
    b"Received: by mx.shop.example; Mon, 1 Jun 2026 10:00:00 +0200\r\nFrom: News <nieuws@shop.example>\r\n"
    b"To: ann@x.test\r\nSubject: Hello\r\n  there\r\nDate: Mon, 1 Jun 2026 10:00:00 +0200\r\n"
    b"Message-ID: <1@shop.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <https://shop.example/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
)
MAIL = HEAD + b"\r\nBeste Ann,  \r\n\r\n\ttot ziens\r\n\r\n"


def tags(raw: bytes) -> dict[str, str]:
    """Tags of the topmost signature, blanks removed."""
    value = re.sub(rb"\s", b"", raw[: re.search(rb"\r\n(?![ \t])", raw).start()].partition(b":")[2])  # type: ignore[union-attr]
    return dict(piece.split("=", 1) for piece in value.decode().split(";"))


def test_dkimpy_verifies_both_signatures_and_rsa_stands_first() -> None:
    rsa, ed = oracle.both()
    raw = oracle.signed(oracle.split(MAIL), (ed, rsa), now=NOW)
    assert oracle.verdicts(raw, (rsa, ed)) == [True, True]
    assert re.findall(rb"a=([a-z0-9-]+);", raw) == [b"rsa-sha256", b"ed25519-sha256"]


def test_the_tags_say_what_the_rules_want() -> None:
    found = tags(oracle.signed(oracle.split(MAIL), (oracle.key(),), now=NOW))
    assert list(found) == ["v", "a", "c", "d", "s", "t", "x", "bh", "h", "b"]  # no l= (DKIM-4)
    assert found["c"] == "relaxed/relaxed"
    assert (found["d"], found["s"]) == ("shop.example", "g1")
    assert int(found["t"]) == NOW and int(found["x"]) - int(found["t"]) == 1_209_600  # DKIM-7


def test_h_names_each_field_and_oversigned_ones_once_more() -> None:
    listed = tags(oracle.signed(oracle.split(MAIL), (oracle.key(),), now=NOW))["h"].split(":")
    expected = {name.decode(): 1 for name in OVERSIGNED}
    for name in ("from", "to", "subject", "date", "message-id", "mime-version", "content-type"):
        expected[name] += 1
    for name in ("list-unsubscribe", "list-unsubscribe-post"):
        expected[name] += 1
    assert {name: listed.count(name) for name in listed} == expected


RULE = """From, Sender, Reply-To, To, Cc, Subject, Date, Message-ID, In-Reply-To, References, MIME-Version, Content-Type,
Content-Transfer-Encoding, Content-ID, Content-Description, Resent-Date, Resent-From, Resent-Sender, Resent-To, Resent-Cc,
Resent-Message-ID, List-Id, List-Help, List-Unsubscribe, List-Unsubscribe-Post, List-Subscribe, List-Post, List-Owner,
List-Archive, Feedback-ID, CFBL-Address, CFBL-Feedback-ID, Auto-Submitted"""


def test_the_signed_fields_are_those_of_the_rule() -> None:
    assert [name.decode() for name in SIGNED] == [name.strip().lower() for name in RULE.split(",")]
    assert set(SIGNED) >= OVERSIGNED
    for name in (b"received", b"return-path", b"bcc", b"resent-bcc", b"authentication-results", b"dkim-signature"):
        assert name not in SIGNED


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_a_signed_field_cannot_be_changed(name: bytes) -> None:
    message = oracle.split(MAIL.replace(b"\r\n\r\n", b"\r\n" + name + b": one\r\n\r\n", 1))
    raw = oracle.signed(message, (oracle.key(ED25519),), now=NOW)
    assert oracle.verdicts(raw, (oracle.key(ED25519),)) == [True]
    assert oracle.verdicts(raw.replace(name + b": one", name + b": two"), (oracle.key(ED25519),)) == [False]


@pytest.mark.parametrize("name", sorted(OVERSIGNED))
def test_an_oversigned_field_cannot_be_added(name: bytes) -> None:
    raw = oracle.signed(oracle.split(MAIL), (oracle.key(ED25519),), now=NOW)
    added = raw.replace(b"\r\nReceived:", b"\r\n" + name + b": added\r\nReceived:", 1)
    assert oracle.verdicts(added, (oracle.key(ED25519),)) == [False]  # DKIM-6


def test_the_body_cannot_be_changed_or_continued() -> None:
    raw = oracle.signed(oracle.split(MAIL), (oracle.key(),), now=NOW)
    assert oracle.verdicts(raw + b"more\r\n", (oracle.key(),)) == [False]
    assert oracle.verdicts(raw + b"\r\n\r\n", (oracle.key(),)) == [True]  # relaxed: empty lines at the end


def test_trace_fields_may_come_and_go() -> None:
    raw = oracle.signed(oracle.split(MAIL), (oracle.key(),), now=NOW)
    assert oracle.verdicts(
        b"Return-Path: <>\r\n" + raw.replace(b"Received: by mx", b"Received: by my"), (oracle.key(),)
    ) == [True]


def test_a_split_hashes_the_body_once_and_signs_every_head() -> None:
    message = oracle.split(MAIL)
    bh = body_hash(message.body)
    for recipient in (b"a@x.test", b"b@y.test"):
        fields = [(name, b"To: " + recipient + b"\r\n" if name == b"to" else raw) for name, raw in message.fields]
        signature = sign(fields, bh, (oracle.key(),), now=NOW, expire_seconds=60)
        raw = b"".join(raw for _, raw in [*signature, *fields]) + b"\r\n" + message.body
        assert oracle.verdicts(raw, (oracle.key(),)) == [True]


@pytest.mark.parametrize("algorithm", [RSA, ED25519])
def test_no_length_of_names_breaks_the_fold(algorithm: str) -> None:
    """KumoMTA once signed a fold that depended on a length; only one receiver noticed."""
    message = oracle.split(MAIL)
    lengths = [(size, 1) for size in range(1, 64)] + [(10, size) for size in range(1, 64)] + [(63, 63)]
    for domain_length, selector_length in lengths[:: 1 if algorithm == ED25519 else 4]:
        key = oracle.key(algorithm, "d" * domain_length + ".example", "s" * selector_length)
        raw = oracle.signed(message, (key,), now=NOW)
        assert oracle.verdicts(raw, (key,)) == [True], (domain_length, selector_length)
        field = raw[: raw.index(b"\r\nReceived:")]
        assert field.startswith(b"DKIM-Signature: v=1; ")
        assert all(len(line) <= 78 for line in field.split(b"\r\n"))
        assert all(line.startswith(b" ") and line.strip() for line in field.split(b"\r\n")[1:])


def test_a_very_long_domain_still_fits_a_line() -> None:
    key = oracle.key(RSA, ".".join(["d" * 62] * 4), "s" * 63)
    raw = oracle.signed(oracle.split(MAIL), (key,), now=NOW)
    assert oracle.verdicts(raw, (key,)) == [True]
    assert all(len(line) <= MAX_LINE_OCTETS for line in raw.split(b"\r\n"))


def test_ninety_fields_and_nine_hundred() -> None:
    for count in (90, 900):
        head = HEAD + b"".join(b"Resent-To: a%d@x.test\r\n" % number for number in range(count))
        raw = oracle.signed(oracle.split(head + b"\r\nx\r\n"), (oracle.key(),), now=NOW)
        assert oracle.verdicts(raw, (oracle.key(),)) == [True]


NAMES = st.sampled_from(
    b"From from To Cc Subject SUBJECT Date References List-Id List-Unsubscribe Resent-To Received X-Other Content-Type "
    b"MIME-Version DKIM-Signature-Old Bcc".split()
)
BLANKS = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t ", b"\r\n ", b"\r\n\t", b" \r\n   ", b"\r\n \r\n "])
WORDS = st.one_of(
    st.binary(max_size=20).map(lambda b: bytes(c for c in b if c > 32 and c != 127)),
    st.sampled_from([b"b=", b"; b=x", b"b=;", "\u00e9\u20ac".encode(), b"x" * 300, b":", b"=?utf-8?q?=C3=A4?="]),
)
VALUES = st.lists(st.tuples(BLANKS, WORDS), max_size=8).map(lambda pairs: b"".join(a + b for a, b in pairs))
FIELDS = st.lists(st.tuples(NAMES, VALUES, BLANKS).map(lambda f: f[0] + b":" + f[1] + f[2] + b"\r\n"), max_size=25)
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"", b" ", b"\t", b"  \t", b".", b"..", b" a", b"a ", b"a  b", b"\ta\t\tb\t", b"x" * 998, b"=20"]
        ),
        st.binary(max_size=30).map(lambda b: b.translate(None, b"\r\n")),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=examples(150))
@given(FIELDS, LINES, st.sampled_from([b"", b"\r\n", b"\r\n\r\n\r\n"]), st.booleans())
def test_dkimpy_verifies_whatever_is_signed(fields: list[bytes], lines: list[bytes], tail: bytes, is_ed: bool) -> None:
    body = b"\r\n".join(lines) + tail
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    key = oracle.key(ED25519 if is_ed else RSA)
    message = Message.split(b"".join(fields) + b"\r\n" + body)
    assert isinstance(message, Message), message
    raw = oracle.signed(message, (key,), now=NOW)
    if raw.lower().count(b"\r\nfrom:") < 1 and not raw.lower().startswith(b"from:"):
        assert b" h=from:" in raw  # absent and oversigned all the same
    assert oracle.verdicts(raw, (key,)) == [True]


@pytest.mark.parametrize("path", parameters())
def test_mail_of_the_world_verifies_after_signing(path: Path) -> None:
    message = Message.split(crlf(path.read_bytes()))
    if isinstance(message, Malformed):
        return
    try:
        dkim.DKIM(message.raw)
    except dkim.DKIMException:
        return  # a field name that dkimpy cannot read, whoever signs
    raw = oracle.signed(message, (oracle.key(ED25519),), now=NOW)
    assert oracle.verdicts(raw, (oracle.key(ED25519),))[0]
