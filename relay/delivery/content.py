"""A rendered copy as the bytes between 354 and the final dot (RFC 5321 section 4.5.2). Pure.

A small copy is one byte string, joined once. A large one is cut into pieces that are made while the
socket takes them, so that it never lies in memory twice (design section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.delivery.job import Rendered
from relay.mail.lines import has_bare_line_end, has_dot_line

SMALL_BYTES = 256 * 1024
PIECE_BYTES = 128 * 1024


class Content(NamedTuple):
    """`size` in octets as SIZE= counts it (before dot-stuffing, RFC 1870). `small` is all of it, stuffed, final dot included."""

    size: int
    small: bytes | None
    rendered: Rendered

    def pieces(self) -> Iterator[bytes]:
        """The stuffed content in pieces, final dot included; for content that is not `small`."""
        line_start = True
        end = b""
        for piece in _cut(self.rendered):
            yield stuff(piece, line_start=line_start)
            line_start = piece.endswith(b"\r\n")
            end = piece[-2:]
        yield b".\r\n" if end == b"\r\n" else b"\r\n.\r\n"


def prepare(rendered: Rendered) -> Content | None:
    """The content of `rendered`; None where it holds a bare CR or LF, which may not leave (OUT-8)."""
    size = len(rendered.head) + len(rendered.body)
    if size > SMALL_BYTES:
        bare = any(map(has_bare_line_end, _cut(rendered)))
        return None if bare else Content(size, None, rendered)
    whole = b"".join((rendered.head, rendered.body))
    if has_bare_line_end(whole):
        return None
    close = b".\r\n" if whole.endswith(b"\r\n") else b"\r\n.\r\n"
    return Content(size, stuff(whole, line_start=True) + close, rendered)


def stuff(piece: bytes, *, line_start: bool) -> bytes:
    """`piece` with a dot before each line that begins with one; the same object where there is none."""
    if has_dot_line(piece):
        piece = piece.replace(b"\r\n.", b"\r\n..")
    return b"." + piece if line_start and piece.startswith(b".") else piece


def _cut(rendered: Rendered) -> Iterator[bytes]:
    """Head and body in pieces; none ends between CR and LF."""
    for part in (rendered.head, rendered.body):
        view = memoryview(part)
        start, total = 0, len(view)
        while start < total:
            end = min(start + PIECE_BYTES, total)
            if end < total and view[end - 1] == 13:
                end += 1
            yield bytes(view[start:end])
            start = end
