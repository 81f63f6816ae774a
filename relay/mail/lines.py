"""Line lengths of a message (RFC 5322 section 2.1.1, rule MSG-5)."""

from __future__ import annotations

import re

from relay.mail.message import MAX_LINE_OCTETS


def long_line_at(raw: bytes, start: int = 0, end: int | None = None) -> int:
    """Offset of the first line over 998 octets in `raw[start:end]` (lines end in CRLF); -1 if there is none.

    Jumps from line end to line end backwards within a window, so it looks at a few octets of each thousand.
    """
    stop = len(raw) if end is None else end
    window = MAX_LINE_OCTETS + 2
    position = start
    while stop - position > window:
        newline = raw.rfind(b"\n", position, position + window)
        if newline < 0:
            return position
        position = newline + 1
    # The rest fits one window; a last line without its CRLF may be two octets longer than allowed.
    tail = raw.rfind(b"\n", position, stop) + 1
    return max(tail, position) if stop - max(tail, position) > MAX_LINE_OCTETS else -1


_NO_LINE_END = bytes(octet for octet in range(256) if octet not in b"\r\n")
_STUFFED = re.compile(rb"\r\n\.")


def has_bare_line_end(data: bytes) -> bool:
    """A CR without LF or an LF without CR stands somewhere in `data` (SMTP-5, OUT-8).

    With all else left out, nothing but pairs is left. That takes a third of the time of looking at each line end.
    """
    ends = data.translate(None, _NO_LINE_END)
    return ends.count(b"\r\n") * 2 != len(ends)


def has_dot_line(data: bytes) -> bool:
    """Some line after the first begins with a dot (SMTP-6)."""
    return _STUFFED.search(data) is not None
