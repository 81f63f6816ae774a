"""The reply parser: however bytes are packed the replies are the same, and what is no reply ends it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.replies import MAX_REPLY_BYTES, BadReply, Reply, ReplyReader

texts = st.binary(max_size=40).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b""))
replies = st.tuples(st.integers(200, 599), st.lists(texts, min_size=1, max_size=4))


def wire(code: int, lines: list[bytes]) -> bytes:
    marks = [b"-"] * (len(lines) - 1) + [b" "]
    return b"".join(b"%d%b%b\r\n" % (code, mark, line) for mark, line in zip(marks, lines, strict=True))


@given(st.lists(replies, max_size=5), st.lists(st.integers(0, 400), max_size=8))
def test_packing_does_not_matter(sent: list[tuple[int, list[bytes]]], cuts: list[int]) -> None:
    stream = b"".join(wire(code, lines) for code, lines in sent)
    reader, got, start = ReplyReader(), [], 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        got += reader.feed(stream[start:cut])
        start = cut
    assert got == [Reply(code, b"\n".join(lines)) for code, lines in sent]
    assert not reader.is_partial


@given(st.binary(max_size=300))
def test_any_bytes_give_replies_or_bad_reply(data: bytes) -> None:
    try:
        for reply in ReplyReader().feed(data):
            assert 200 <= reply.code <= 599
    except BadReply:
        pass


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"199 no\r\n",
        b"600 no\r\n",
        b"250_ok\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"\x16\x03\x01\x02\x00\n",
        b" 250 ok\r\n",
        b"+OK POP3\r\n",
        "２５０ ok\r\n".encode(),
    ],
)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadReply):
        ReplyReader().feed(garbage)


@pytest.mark.parametrize(("line", "text"), [(b"250\r\n", b""), (b"250 \r\n", b""), (b"250 ok\n", b"ok")])
def test_short_and_bare_line_feed_replies_of_the_wild_are_read(line: bytes, text: bytes) -> None:
    assert ReplyReader().feed(line) == [Reply(250, text)]


@pytest.mark.parametrize("endless", [b"2" * 1000, b"250-" + b"x" * 996 + b"\r\n"])
def test_endless_reply_is_refused_before_it_fills_memory(endless: bytes) -> None:
    reader, fed = ReplyReader(), 0
    with pytest.raises(BadReply):
        while fed < 2 * MAX_REPLY_BYTES:
            reader.feed(endless)
            fed += len(endless)
    assert fed <= MAX_REPLY_BYTES


def test_half_a_reply_is_told() -> None:
    reader = ReplyReader()
    assert reader.feed(b"250-a\r\n25") == []
    assert reader.is_partial
