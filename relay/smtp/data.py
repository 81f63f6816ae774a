"""Finding the end of DATA and telling a clean message from a smuggled one. Pure.

Only the five octets CR LF . CR LF end a message (RFC 5321 section 4.1.1.4, rule SMTP-4). A CR or LF that stands alone
makes the whole message refused (SMTP-5), whatever other servers would have made of it.
"""

from __future__ import annotations

from relay.mail.lines import has_bare_line_end, has_dot_line

BARE_LINE_END = "session.bare_newline"
END = b"\r\n.\r\n"


def find_end(buffer: bytearray, scanned: int) -> int:
    """Index of the end-of-data mark in `buffer`, or -1. Octets before `scanned` were searched before.

    A buffer that starts with `.` CR LF is an empty message: its mark starts at -2, told as index 0 by `cut`.
    """
    return buffer.find(END, max(0, scanned - 4))


def fault(raw: bytes) -> str:
    """The reason to refuse a whole message for an octet that no message may hold, or "" (SMTP-5, SMTP-24)."""
    if has_bare_line_end(raw):
        return BARE_LINE_END
    return "message.nul" if b"\0" in raw else ""


def unstuff(data: bytes) -> bytes:
    """Without the dots that the client put in front of lines that start with one (SMTP-6). No copy where there are none."""
    if data.startswith(b"."):
        data = data[1:]
    if has_dot_line(data):
        data = data.replace(b"\r\n.", b"\r\n")
    return data
