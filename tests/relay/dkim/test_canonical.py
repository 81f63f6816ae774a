"""Our relaxed forms are dkimpy's, byte for byte (DKIM-4)."""

from __future__ import annotations

import base64
import hashlib

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dkim import canonical
from relay.dkim.canonical import body_hash, relaxed_body, relaxed_field
from tests.harness.timing import rounds

BLANKS = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t ", b"   "])
LINES = st.tuples(BLANKS, st.binary(max_size=12).map(lambda b: b.translate(None, b"\r\n")), BLANKS, BLANKS).map(
    b"".join
)
BODIES = st.lists(st.one_of(LINES, BLANKS), max_size=15).map(b"\r\n".join)


def ours(body: bytes | memoryview) -> bytes:
    return b"".join(bytes(piece) for piece in relaxed_body(body))


def theirs(body: bytes) -> bytes:
    """dkimpy's form of the body as it travels: SMTP ends it with CRLF."""
    return bytes(Relaxed.canonicalize_body(body if body.endswith(b"\r\n") or not body else body + b"\r\n"))


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\n\r\n\r\n", b""),
        (b" \t\r\n\t\r\n", b""),
        (b"a", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a \t\r\n\r\n \r\n", b"a\r\n"),
        (b" a  b\tc\r\n", b" a b c\r\n"),
        (b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
        (b"a \r\n b\r\n", b"a\r\n b\r\n"),
        (b"a" + b" " * 5_000 + b"\r\n" * 3, b"a\r\n"),
    ],
)
def test_bodies(body: bytes, form: bytes) -> None:
    assert ours(body) == form == theirs(body)


@given(BODIES)
def test_any_body_has_dkimpys_form(body: bytes) -> None:
    assert ours(body) == ours(memoryview(body)) == theirs(body)
    assert body_hash(body) == base64.b64encode(hashlib.sha256(theirs(body)).digest()).decode()


@settings(deadline=None)
@given(st.lists(LINES, min_size=5, max_size=60).map(b"\r\n".join), st.integers(1, 40))
def test_pieces_of_a_large_body_join_seamlessly(body: bytes, chunk: int) -> None:
    kept = canonical.CHUNK
    canonical.CHUNK = chunk  # the size is a matter of memory, so any size must do
    try:
        assert ours(body) == ours(memoryview(body)) == theirs(body)
    finally:
        canonical.CHUNK = kept


def test_a_body_in_relaxed_form_is_hashed_without_a_copy() -> None:
    body = b"line\r\n" * 10 + b"\r\n\r\n"
    first, last = relaxed_body(body)
    assert isinstance(first, memoryview) and first.obj is body and last == b"\r\n"


def test_a_body_of_blanks_costs_little() -> None:
    for body in (b" " * 20_000_000, b" \t" * 10_000_000 + b"x\r\n", b"\r\n" * 10_000_000):
        for timed in rounds(2.0):
            with timed:
                body_hash(body)


NAMES = st.sampled_from([b"Subject", b"SUBJECT", b"to", b"X-Long-Name", b"DKIM-Signature"])
WORDS = st.binary(max_size=10).map(lambda b: bytes(c for c in b if c > 32 and c != 127))
FOLDS = st.sampled_from([b" ", b"  ", b"\t", b" \t", b"\r\n ", b"\r\n\t", b" \r\n  ", b"\r\n \r\n ", b""])
VALUES = st.lists(st.tuples(FOLDS, WORDS), max_size=12).map(lambda pairs: b"".join(fold + word for fold, word in pairs))


@given(NAMES, VALUES, FOLDS)
def test_any_field_has_dkimpys_form(name: bytes, value: bytes, tail: bytes) -> None:
    [(their_name, their_value)] = Relaxed.canonicalize_headers([(name, value + tail + b"\r\n")])
    assert relaxed_field(name.lower(), name + b":" + value + tail + b"\r\n") == their_name + b":" + their_value


def test_blanks_around_the_colon_go() -> None:
    assert relaxed_field(b"subject", b"Subject \t:\t a\r\n") == b"subject:a\r\n"  # RFC 6376 section 3.4.2
