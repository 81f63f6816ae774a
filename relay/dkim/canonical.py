"""The relaxed canonical forms of RFC 6376 section 3.4, as bytes and as a hash; `simple` does not exist here (DKIM-4).

Theory of operation. Line ends are CRLF and nothing else, which the session ensures (SMTP-5); then a header value in
relaxed form is its blank-separated words with one space between, and a body is its text without blank runs, blanks at
line ends and empty lines at its end. Both are done by whole-buffer operations of `bytes`, never line by line.
A body is taken as it will travel: SMTP ends it with CRLF, so a missing last CRLF counts as there.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator

_BLANK_ENDS = bytes.maketrans(b"\r", b" ")
CHUNK = 1 << 20  # octets that are copied at a time where a body needs rewriting


def relaxed_field(name: bytes, raw: bytes) -> bytes:
    """Canonical form of one raw field whose lower-case name is `name`, with its CRLF."""
    return b"%b:%b\r\n" % (name, b" ".join(raw[raw.index(b":") + 1 :].split()))


def relaxed_body(body: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Pieces of the canonical body, in order; none for an empty one. What is relaxed already comes as a view of `body`."""
    view = memoryview(body)
    end = _content_end(view)
    start = 0
    while start < end:
        stop = _cut(view, start, end)
        piece = view[start:stop]
        octets = body if isinstance(body, bytes) and stop - start == len(body) else bytes(piece)
        yield piece if _is_relaxed(octets) else _relax(octets)
        start = stop
    if end:
        yield b"\r\n"


def body_hash(body: bytes | memoryview) -> str:
    """Base64 of the SHA-256 over the relaxed body: the value of `bh=`. The same for every copy of a split (DKIM-10)."""
    digest = hashlib.sha256()
    for piece in relaxed_body(body):
        digest.update(piece)
    return b64encode(digest.digest()).decode("ascii")


def _content_end(body: memoryview) -> int:
    """Where the last line that is not empty ends, its blanks left off."""
    end = len(body)
    while end:
        start = max(0, end - 512)
        kept = len(bytes(body[start:end]).rstrip(b" \t\r\n"))
        if kept:
            return start + kept
        end = start
    return 0


def _cut(body: memoryview, start: int, end: int) -> int:
    """End of the next piece: behind a line end, where no blank run crosses. A line over CHUNK takes all that follows."""
    if end - start <= CHUNK:
        return end
    line_end = bytes(body[start : start + CHUNK]).rfind(b"\r\n")
    return end if line_end < 0 else start + line_end + 2


def _is_relaxed(piece: bytes) -> bool:
    # A line end is taken for a blank, so that one search finds blank runs and blanks at line ends.
    return b"\t" not in piece and b"  " not in piece.translate(_BLANK_ENDS)


def _relax(piece: bytes) -> bytes:
    if b"\t" in piece:
        piece = piece.replace(b"\t", b" ")
    while b"  " in piece:  # each turn halves the runs
        piece = piece.replace(b"  ", b" ")
    return piece.replace(b" \r\n", b"\r\n")
