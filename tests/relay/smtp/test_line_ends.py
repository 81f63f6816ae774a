"""Mending line ends (SMTP-5) gives the same however the octets are cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.lines import has_bare_line_end
from relay.smtp.line_ends import LineEnds

PIECES = st.lists(st.text("\r\n.x", max_size=6).map(str.encode), max_size=12)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\n\rb", b"a\r\n\r\nb"),
        (b"a\r\r\nb", b"a\r\n\r\nb"),
        (b"\n.\n", b"\r\n.\r\n"),
    ],
)
def test_each_line_end_becomes_one_crlf(said: bytes, read: bytes) -> None:
    assert LineEnds().mend(said) == read


@given(PIECES)
def test_pieces_make_no_difference_and_nothing_bare_is_left(pieces: list[bytes]) -> None:
    line_ends = LineEnds()
    mended = b"".join([line_ends.mend(piece) for piece in pieces])
    assert mended == LineEnds().mend(b"".join(pieces))
    assert not has_bare_line_end(mended)
    assert b"".join(pieces).translate(None, b"\r\n") == mended.translate(None, b"\r\n")
