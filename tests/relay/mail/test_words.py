"""Encoded-words: tolerant reading, strict writing (RFC 2047)."""

from __future__ import annotations

from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.edits import BadValue, field
from relay.mail.words import (
    MAX_WORDS,
    PIECE_BYTES,
    codec_of,
    decode,
    decode_words,
    encode_words,
    loose_base64,
    loose_pieces,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?q?J=C3=A4n?=", "Jän"),
        (b"=?UTF-8?B?SsOkbg==?=", "Jän"),
        (b"=?utf-8?b?SsOkbg?=", "Jän"),
        (b"=?iso-8859-1?q?J=E4n_B?=", "Jän B"),
        (b"=?utf-8*nl?q?J=C3=A4n?=", "Jän"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?= =?iso-8859-1?q?=E4?=", "aä"),
        (b"=?utf-8?b?ww==?= =?utf-8?b?qQ==?=", "é"),
        (b"=?utf-8?q?with blank?=", "with blank"),
        (b"=?x-unknown?q?=C3=A4?=", "ä"),
        (b"=?utf-8?q?=E4?=", "\ufffd"),
        (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        (b"=?utf-8?q?never closed", "=?utf-8?q?never closed"),
        ("rauw ä".encode(), "rauw ä"),
        ("rauw ä".encode("latin-1"), "rauw ä"),
        (b"=?zlib?b?eJw=?=", "x\x9c"),
    ],
)
def test_words_are_read_tolerantly(value: bytes, text: str) -> None:
    assert decode_words(value) == text


def test_no_more_words_are_decoded_than_a_head_can_need() -> None:
    """MSG-11: a Subject of 240 kB holds 12,000 of them."""
    word = b"=?utf-8?q?=C3=A9?= "
    assert decode_words(word * (MAX_WORDS + 2)) == "é" * MAX_WORDS + " " + (word * 2).decode()


@pytest.mark.parametrize(
    "charset", ["zlib", "hex", "rot13", "idna", "punycode", "unicode_escape", "undefined", "x\0y", ""]
)
def test_codecs_that_are_no_charset_of_mail_are_not_used(charset: str) -> None:
    assert codec_of(charset) == ""


@pytest.mark.parametrize("charset", ["utf-8", "ISO-8859-15", "windows-1252", "gb18030", "utf-16", '"utf-8"'])
def test_charsets_of_mail_are_known(charset: str) -> None:
    assert codec_of(charset)


def test_ascii_that_is_not_ascii_is_read_as_what_it_is() -> None:
    assert decode("ä".encode(), "us-ascii") == "ä"


@pytest.mark.parametrize("text", ["a\r\nBcc: x@y.test", "a\0b", "a\x7fb", "\ud7ff\x1b"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(BadValue):
        encode_words(text)


def test_ascii_stays_as_it_is_unless_it_looks_like_a_word() -> None:
    assert encode_words("Nieuwsbrief, mei") == "Nieuwsbrief, mei"
    assert decode_words(encode_words("=?utf-8?q?x?=").encode()) == "=?utf-8?q?x?="


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=200))
def test_what_is_written_is_read_back_by_us_and_by_the_standard_library(text: str) -> None:
    written = encode_words(text)
    assert written.isascii()
    assert all(len(line) <= 76 for line in written.split("\r\n")) or written == text
    assert decode_words(written.encode()) == text
    if "=?" in written:
        assert str(make_header(decode_header(written))) == text
        field("Subject", written)  # fit for a header


@given(st.binary(max_size=400), st.integers(0, 40), st.integers(0, 40))
def test_base64_in_pieces_reads_as_it_does_whole(text: bytes, before: int, behind: int) -> None:
    raw = b"A" * before + text + b"=" + b"B" * behind
    assert b"".join(loose_pieces(raw, before, before + len(text))) == loose_base64(text)
    many = text * (PIECE_BYTES // max(1, len(text)) + 2)
    assert b"".join(loose_pieces(many, 0, len(many))) == loose_base64(many)
