"""Re-encoding for a hop without 8BITMIME and for lines over 998 octets (OUT-9, MSG-5), part by part, as byte edits.

Theory of operation. The body is cut into pieces by the offsets of `relay.mail.mime`: heads, leaf bodies, signed regions
and what lies between (delimiters, preambles). A leaf that offends gets a transfer encoding and its own
Content-Transfer-Encoding field; every other piece goes over as it is. Signed and encrypted regions are never changed:
if one offends, there is no 7-bit form of the message (MSG-6). Fields of the message's own head that hold 8-bit octets
stay: they need SMTPUTF8, not a transfer encoding (MSG-8).
"""

from __future__ import annotations

import binascii
import contextlib
import re
from base64 import encodebytes
from collections.abc import Callable
from urllib.parse import quote_from_bytes

from relay.mail.edits import fold
from relay.mail.lines import long_line_at
from relay.mail.message import Field, Malformed, Message, is_utf8, join_head
from relay.mail.mime import Part, structure
from relay.mail.words import decode as decode_octets
from relay.mail.words import encode_words

CTE = b"content-transfer-encoding"

_BLANK = re.compile(rb"[ \t\r\n]++")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_PARAMETER = re.compile(r';([ \t\r\n]*+)([A-Za-z-]++)="([^"]*+)"')
_RUN = re.compile(r'[^"<>()@,;:\r\n]++')
_TO_ASCII = bytes(range(128)) + b"?" * 128
_IDENTITY = frozenset(("", "7bit", "8bit", "binary"))
_Encode = Callable[[Part, bytes], tuple[str, bytes] | None]


def needs_recode(body: bytes) -> bool:
    """Whether a body (CRLF line ends) holds an octet over 127 or a line over 998 octets."""
    return not body.isascii() or has_long_line(body)


def has_long_line(body: bytes | memoryview) -> bool:
    """Whether a line holds over 998 octets without its CRLF (RFC 5322 section 2.1.1)."""
    return long_line_at(bytes(body)) >= 0


def to_7bit(fields: list[Field], body: bytes | memoryview) -> tuple[list[Field], bytes] | Malformed:
    """Head and body with only 7-bit octets and short lines in the body; the very same body if it was so already.

    Malformed("message.signed_needs_recode") where only a signed or encrypted region could be changed,
    Malformed("message.mime_needs_recode") where the structure is too broken to say which part an octet belongs to,
    or a limit of `structure`.
    """
    raw = bytes(body)
    return _converted(raw, fields, _encode) if needs_recode(raw) else (fields, raw)


def obstacle(message: Message) -> Malformed | None:
    """Why `to_7bit` would find no form of this message, or None; nothing is encoded for the answer."""
    found = _converted(bytes(message.body), message.fields, _pretend)
    return found if isinstance(found, Malformed) else None


def _converted(raw: bytes, fields: list[Field], encode: _Encode) -> tuple[list[Field], bytes] | Malformed:
    found = structure(Message(raw, fields, 0))
    if isinstance(found, Malformed):
        return found
    rebuilt = _Rebuilt(raw, fields, encode)
    for part, is_message in _with_kind(found.parts):
        if part.head_start < rebuilt.done:
            continue  # inside a signed region that was taken whole
        problem = rebuilt.keep(part) if part.signed else rebuilt.take(part, is_message)
        if problem is not None:
            return problem
    return rebuilt.finish()


def _with_kind(parts: tuple[Part, ...]) -> list[tuple[Part, bool]]:
    """Each part with whether its head is a message's (then it needs MIME-Version) and not that of a body part."""
    result: list[tuple[Part, bool]] = []
    containers: list[str] = []
    for part in parts:
        del containers[part.depth :]
        result.append((part, not containers or containers[-1].startswith("message/")))
        containers.append(part.content_type)
    return result


def _broken(detail: str) -> Malformed:
    return Malformed("message.mime_needs_recode", detail)


class _Rebuilt:
    """The new head and body under construction; `done` is how far into the old body the pieces reach."""

    def __init__(self, raw: bytes, fields: list[Field], encode: _Encode) -> None:
        self.raw = raw
        self.fields = fields
        self.encode = encode
        self.pieces: list[bytes] = []
        self.done = 0
        self.problem: Malformed | None = None

    def keep(self, part: Part) -> Malformed | None:
        """A signed or encrypted region, head included, as it is."""
        region = self.raw[part.head_start : part.end]
        if needs_recode(region):
            return Malformed("message.signed_needs_recode", "8-bit octets or a long line in a signed or encrypted part")
        self._between(part.head_start)
        self.pieces.append(region)
        self.done = part.end
        return self.problem

    def take(self, part: Part, is_message: bool) -> Malformed | None:
        """The head of a container, or a leaf with its head; re-encoded where it offends."""
        encoding, body = "", b""
        if part.is_container:
            end = part.start
            if part.encoding in ("8bit", "binary"):
                encoding = "7bit"
        else:
            end = part.end
            body = self.raw[part.start : part.end]
            if needs_recode(body):
                if part.depth and part.head_start == part.start:
                    return _broken("a multipart without its delimiter lines")
                coded = self.encode(part, body)
                if coded is None:
                    return _broken("a transfer encoding that cannot be read")
                encoding, body = coded
        self._between(part.head_start)
        head = self._head(part, encoding, is_message)
        if needs_recode(head):
            return _broken("8-bit octets or a long line in the head of a part")
        self.pieces += (head, body)
        self.done = end
        return self.problem

    def finish(self) -> tuple[list[Field], bytes] | Malformed:
        self._between(len(self.raw))
        return self.problem or (self.fields, b"".join(self.pieces))

    def _head(self, part: Part, encoding: str, is_message: bool) -> bytes:
        """New octets of a part's head; the message's own head goes to `fields`."""
        if part.depth == 0:
            if encoding:
                self.fields = _declare(part, self.raw, encoding, is_message=is_message)
            return b""
        head = self.raw[part.head_start : part.start]
        if not encoding and not needs_recode(head):
            return head
        fields = _declare(part, self.raw, encoding, is_message=is_message) if encoding else part.head
        return join_head([(name, fold(_ascii_field(raw)) if needs_recode(raw) else raw) for name, raw in fields])

    def _between(self, end: int) -> None:
        """What lies between two pieces: delimiter lines, preambles and epilogues."""
        between = self.raw[self.done : end]
        if between and needs_recode(between):
            lines = between.split(b"\r\n")
            for index, line in enumerate(lines):
                if needs_recode(line):
                    if line.startswith(b"--"):
                        self.problem = _broken("8-bit octets or a long line in a delimiter")
                    # No reader shows it, so it may lose what it cannot keep (RFC 2046 section 5.1.1).
                    lines[index] = line.translate(_TO_ASCII)[:998]
            between = b"\r\n".join(lines)
        self.pieces.append(between)


def _declare(part: Part, raw: bytes, encoding: str, *, is_message: bool) -> list[Field]:
    """The head of `part` saying that its body is in `encoding`, exactly once."""
    line = (CTE, b"Content-Transfer-Encoding: " + encoding.encode("ascii") + b"\r\n")
    result: list[Field] = []
    for field in part.head:
        if field[0] != CTE:
            result.append(field)
        elif line not in result:
            result.append(line)
    if is_message and encoding != "7bit":
        names = {name for name, _ in part.head}
        if b"mime-version" not in names:  # without it readers ignore the encoding (RFC 2045 section 4)
            result.append((b"mime-version", b"MIME-Version: 1.0\r\n"))
        if b"content-type" not in names:
            charset = b"utf-8" if is_utf8(raw[part.start : part.end]) else b"unknown-8bit"  # RFC 1428 section 3
            result.append((b"content-type", b"Content-Type: text/plain; charset=" + charset + b"\r\n"))
    if line not in result:
        result.append(line)
    return result


def _encode(part: Part, body: bytes) -> tuple[str, bytes] | None:
    """`(transfer encoding, encoded body)`: quoted-printable for text, base64 for the rest; None if it cannot be read."""
    content = _content(part, body)
    if content is None:
        return None
    is_text = part.content_type.startswith(("text/", "message/")) and part.encoding != "base64"
    if is_text and not _BARE.search(content):
        quoted = binascii.b2a_qp(content, istext=True)
        if b"\r\n" not in content:  # then it breaks lines with a bare LF
            quoted = quoted.replace(b"\n", b"\r\n")
        # A soft break could make a delimiter line out of the middle of a long line.
        if b"=\r\n--" not in quoted:
            return "quoted-printable", quoted
    encoded = encodebytes(content).replace(b"\n", b"\r\n")
    return "base64", encoded if body.endswith(b"\r\n") else encoded.removesuffix(b"\r\n")


def _pretend(part: Part, body: bytes) -> tuple[str, bytes] | None:
    return None if _content(part, body) is None else ("base64", b"")


def _content(part: Part, body: bytes) -> bytes | None:
    """What a body says without its transfer encoding; None if that cannot be read."""
    if part.encoding in _IDENTITY:
        return body
    if part.encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    if part.encoding == "base64":
        # Readers disagree on broken base64, so there is no content to keep.
        with contextlib.suppress(binascii.Error):
            return binascii.a2b_base64(_BLANK.sub(b"", body), strict_mode=True)
    return None


def _ascii_field(raw: bytes) -> bytes:
    """A field of a part's head in ASCII: parameters by RFC 2231, other text by encoded-words."""
    text = _PARAMETER.sub(_percent, decode_octets(raw))
    return _RUN.sub(_encode_run, text).encode("ascii", "replace")


def _percent(match: re.Match[str]) -> str:
    if match[3].isascii():
        return match[0]
    return f";{match[1]}{match[2]}*=utf-8''{quote_from_bytes(match[3].encode(), safe='')}"


def _encode_run(match: re.Match[str]) -> str:
    run = match[0]
    if run.isascii():
        return run
    words = run.split(" ")
    wanted = [index for index, word in enumerate(words) if not word.isascii()]
    first, last = wanted[0], wanted[-1] + 1
    return " ".join((*words[:first], encode_words(" ".join(words[first:last])), *words[last:]))
