"""SMTP replies out of a byte stream (RFC 5321 section 4.2). Pure, bounded, and on the hot path.

A reply is `250 text` or several lines `250-text` closed by `250 text`. Bytes that cannot be a reply end
the session: guessing where the next reply begins is how a client comes to take one message's answer for another's.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_REPLY_BYTES = 65_536

_CODES = {b"%d" % code: code for code in range(200, 600)}


class Reply(NamedTuple):
    """One whole reply. `text` is what stands after the code; lines of a longer reply are joined by a line feed."""

    code: int
    text: bytes


class BadReply(Exception):
    """The bytes are no SMTP reply, or too many. The text is safe to log."""


class ReplyReader:
    """Cuts bytes into replies, however they are packed."""

    __slots__ = ("_code", "_lines", "_size", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._lines: list[bytes] = []
        self._code = 0
        self._size = 0

    @property
    def is_partial(self) -> bool:
        """A reply has begun and is not complete."""
        return bool(self._tail or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes, in order. Raises BadReply; then the reader is of no more use."""
        if self._tail:
            data = self._tail + data
        lines = data.split(b"\n")
        self._tail = lines.pop()
        replies: list[Reply] = []
        for line in lines:
            reply = self._line(line)
            if reply is not None:
                replies.append(reply)
        if len(self._tail) + self._size > MAX_REPLY_BYTES:
            raise BadReply(f"reply over {MAX_REPLY_BYTES} octets")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        if line[-1:] == b"\r":
            line = line[:-1]
        code = _CODES.get(line[:3])
        mark = line[3:4]
        if code is None or mark not in (b" ", b"-", b""):
            raise BadReply("line without a reply code")
        if not self._lines:
            if mark != b"-":
                return Reply(code, line[4:])
            self._code = code
        elif code != self._code:
            raise BadReply("code changes within a reply")
        self._lines.append(line[4:])
        self._size += len(line) + 2
        if self._size > MAX_REPLY_BYTES:
            raise BadReply(f"reply over {MAX_REPLY_BYTES} octets")
        if mark == b"-":
            return None
        text = b"\n".join(self._lines)
        self._lines = []
        self._size = 0
        return Reply(code, text)
