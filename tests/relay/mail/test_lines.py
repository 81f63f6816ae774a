"""Lines over 998 octets are found wherever they are (MSG-5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.lines import long_line_at


def slow(raw: bytes) -> int:
    position = 0
    for line in raw.split(b"\n"):
        if len(line.removesuffix(b"\r")) > 998:
            return position
        position += len(line) + 1
    return -1


@given(st.lists(st.integers(0, 2100), max_size=12), st.booleans())
def test_the_jumps_find_what_the_lines_show(lengths: list[int], closed: bool) -> None:
    raw = b"\r\n".join(b"x" * length for length in lengths) + (b"\r\n" if closed else b"")
    assert long_line_at(raw) == slow(raw)


@given(st.lists(st.sampled_from([0, 1, 5, 76, 990, 997, 998, 999, 1000, 1001]), max_size=30))
def test_the_jumps_are_right_at_the_edge(lengths: list[int]) -> None:
    raw = b"".join(b"x" * length + b"\r\n" for length in lengths)
    assert long_line_at(raw) == slow(raw)


def test_only_the_asked_stretch_counts() -> None:
    raw = b"x" * 2000 + b"\r\nshort\r\n"
    assert long_line_at(raw) == 0
    assert long_line_at(raw, 2002) == -1
    assert long_line_at(raw, 0, 900) == -1
