"""Dot-stuffing once, on the way out (SMTP-6), and no bare CR or LF (OUT-8), in one piece or in many."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.delivery import content
from relay.delivery.content import prepare
from relay.delivery.job import Rendered
from relay.mail.lines import has_bare_line_end

lines = st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a.", b"abcdefg", b"...."]), max_size=12)


def receive(wire: bytes) -> bytes:
    """What a peer makes of the bytes after 354: RFC 5321 section 4.5.2, line by line."""
    got = []
    rows = wire.split(b"\r\n")
    for number, row in enumerate(rows):
        if row == b".":
            assert rows[number + 1 :] == [b""], "bytes after the final dot"
            return b"".join(got)
        got.append((row[1:] if row.startswith(b".") else row) + b"\r\n")
    raise AssertionError("no final dot")


def wire_of(rendered: Rendered) -> bytes:
    made = prepare(rendered)
    assert made is not None
    return made.small if made.small is not None else b"".join(made.pieces())


@given(lines, st.booleans(), st.integers(1, 9), st.booleans())
@example([b".", b"."], True, 1, True)
def test_a_peer_gets_what_was_rendered(body_lines: list[bytes], closed: bool, piece: int, view: bool) -> None:
    body = b"\r\n".join(body_lines) + (b"\r\n" if closed else b"")
    rendered = Rendered(b".odd: field\r\nSubject: x\r\n\r\n", memoryview(body) if view else body, True)
    whole = rendered.head + body
    expected = whole if whole.endswith(b"\r\n") else whole + b"\r\n"
    assert receive(wire_of(rendered)) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "SMALL_BYTES", 0)
        patch.setattr(content, "PIECE_BYTES", piece)
        assert receive(wire_of(rendered)) == expected


@pytest.mark.parametrize(
    "dot",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r", b"\n", b"a\rb"],
)
@pytest.mark.parametrize("padding", [0, 1, content.PIECE_BYTES - 20, content.SMALL_BYTES + 7])
def test_no_variant_of_a_smuggled_dot_leaves(dot: bytes, padding: int) -> None:
    body = b"x" * padding + dot + b"MAIL FROM:<evil@example.org>\r\n"
    assert prepare(Rendered(b"Subject: x\r\n\r\n", body, True)) is None
    assert prepare(Rendered(b"Subject: x" + dot + b"y\r\n\r\n", b"x" * padding, True)) is None


def test_line_ends_on_the_edge_of_a_piece_are_whole() -> None:
    for shift in range(4):
        body = b"x" * (content.PIECE_BYTES - shift) + b"\r\n.\r\n.end\r\n" + b"y" * content.SMALL_BYTES + b"\r\n"
        made = prepare(Rendered(b"A: b\r\n\r\n", memoryview(body), True))
        assert made is not None and made.small is None
        assert made.size == len(body) + 8
        assert receive(b"".join(made.pieces())) == b"A: b\r\n\r\n" + body


@given(st.binary(max_size=50))
def test_clean_means_no_bare_cr_or_lf(data: bytes) -> None:
    rest = data.replace(b"\r\n", b"")
    assert (not has_bare_line_end(data)) == (b"\r" not in rest and b"\n" not in rest)


def test_size_counts_the_message_without_stuffing_and_final_dot() -> None:
    made = prepare(Rendered(b"A: b\r\n\r\n", b".hello\r\n", True))
    assert made is not None
    assert made.small == b"A: b\r\n\r\n..hello\r\n.\r\n"
    assert made.size == 16
