"""`{{zegel_unsubscribe}}` and `{{zegel_my}}` in the text of a mail, replaced by the links of one copy (UNSUB-16). Pure.

Theory of operation. Only text parts are looked into that a reader shows and nobody signed or encrypted (MSG-6). A body is
cut once into pieces around the marks; each copy is those pieces joined with its own links. In plain and quoted-printable
parts only the mark's own octets change, also where a soft line break or an `=7B` lies in it; a base64 part that holds a
mark is encoded anew from its changed content. Long bodies are searched in windows, so that a thread that does it never
holds up the others for long; a mark that soft line breaks stretch over more than MAX_MARK_BYTES is none.
"""

from __future__ import annotations

import re
from base64 import encodebytes
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relay.mail.message import Field, Malformed, Message
from relay.mail.mime import Part, structure
from relay.mail.texts import shown_parts
from relay.mail.words import loose_pieces

HEAVY_BYTES = 256 * 1024  # of a message: more is looked through beside the loop
MAX_MARK_BYTES = 1024
WINDOW_BYTES = 64 * 1024
NAMES = ("unsubscribe", "my")
WAY_OUT = "{{zegel_unsubscribe}}"
MARKS = tuple(f"{{{{zegel_{name}}}}}".encode() for name in NAMES)

_WIDE = ("utf-16", "utf-32")
_LONGEST_MARK = 4 * max(map(len, MARKS))
_CODECS = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}
_PLAIN = re.compile(rb"\{\{zegel_(?:(unsubscribe)|(my))\}\}")
_QUOTED_HINTS = (b"{{", b"{=", b"=7B", b"=7b")
_QUOTED_LINE = 72  # characters of a line of quoted-printable (at most 76, RFC 2045 section 6.7)


_SOFT = r"(?>(?:=[ \t]*+\r\n)*)"


def _quoted(text: str) -> str:
    """A pattern for `text` in quoted-printable: each character as it is or as hexadecimal, soft breaks anywhere inside."""
    return _SOFT.join(f"(?:{re.escape(c)}|=(?i:{ord(c):02x}))" for c in text)


_QUOTED = re.compile(
    (f"{_quoted('{{zegel_')}{_SOFT}(?:({_quoted('unsubscribe')})|({_quoted('my')})){_SOFT}{_quoted('}}')}").encode(
        "ascii"
    )
)


class Slot(NamedTuple):
    """A place for link `number` of NAMES."""

    number: int
    is_quoted: bool


class Coded(NamedTuple):
    """The content of a base64 part; `codec` is how its marks are written."""

    content: bytes
    codec: str
    ends_line: bool


Piece = bytes | Slot | Coded


class Template:
    """A body with places in it. `fill` makes one copy's."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces

    def fill(self, links: tuple[str, str]) -> bytes:
        """The body with the links of one copy, in the order of NAMES; ASCII, safe in HTML as they are."""
        octets = tuple(link.encode("ascii") for link in links)
        return b"".join([piece if isinstance(piece, bytes) else _written(piece, octets) for piece in self._pieces])


def has_placeholder(message: Message) -> bool:
    """Whether an unsigned text part asks for the copy's own links. Looked for once for a message."""
    if message.has_placeholder is None:
        made = structure(message)
        message.has_placeholder = not isinstance(made, Malformed) and any(True for _ in _found(message.raw, made.parts))
    return message.has_placeholder


def template(fields: list[Field], body: bytes) -> Template | None:
    """The body under that header block as a template; None where it has no place for a link."""
    made = structure(Message(body, fields, 0))
    if isinstance(made, Malformed):
        return None
    pieces: list[Piece] = []
    done = 0
    for start, end, piece in _found(body, made.parts):
        if start >= done:
            pieces += (body[done:start], piece)
            done = end
    if not pieces:
        return None
    pieces.append(body[done:])
    return Template(pieces)


def _found(raw: bytes, parts: Sequence[Part]) -> Iterator[tuple[int, int, Piece]]:
    """`(start, end, what goes there)` of every place, in order."""
    for part in shown_parts(parts):
        if part.signed:
            continue
        if part.encoding == "base64":
            coded = _coded(part, raw)
            if coded is not None:
                yield part.start, part.end, coded
            continue
        is_quoted = part.encoding == "quoted-printable"
        for match in _marks(raw, part.start, part.end, is_quoted=is_quoted):
            yield match.start(), match.end(), Slot((match.lastindex or 1) - 1, is_quoted)


def _marks(raw: bytes, start: int, end: int, *, is_quoted: bool) -> Iterator[re.Match[bytes]]:
    hints, pattern = (_QUOTED_HINTS, _QUOTED) if is_quoted else ((b"{{zegel_",), _PLAIN)
    while start < end:
        window = start + WINDOW_BYTES
        seen = min(window + MAX_MARK_BYTES, end)
        if any(raw.find(hint, start, seen) >= 0 for hint in hints):
            for match in pattern.finditer(raw, start, seen):
                if match.start() < window:
                    window = max(window, match.end())
                    yield match
        start = window


def _coded(part: Part, raw: bytes) -> Coded | None:
    charset = part.params.get("charset", "").lower()
    wide = next((name for name in _WIDE if charset.startswith(name)), "")
    marks = {mark.decode().encode(codec): codec for codec in _CODECS.get(wide, ("ascii",)) for mark in MARKS}
    tail = b""
    for piece in loose_pieces(raw, part.start, part.end):
        for mark, codec in marks.items():
            if mark in tail + piece:
                content = b"".join(loose_pieces(raw, part.start, part.end))
                return Coded(content, codec, raw[part.end - 2 : part.end] == b"\r\n")
        tail = (tail + piece)[-_LONGEST_MARK:]
    return None


def _written(piece: Slot | Coded, links: tuple[bytes, ...]) -> bytes:
    if isinstance(piece, Coded):
        content = piece.content
        for mark, link in zip(MARKS, links, strict=True):
            content = content.replace(mark.decode().encode(piece.codec), link.decode().encode(piece.codec))
        encoded = encodebytes(content).replace(b"\n", b"\r\n")
        return encoded if piece.ends_line else encoded.removesuffix(b"\r\n")
    link = links[piece.number]
    if not piece.is_quoted:
        return link
    # On lines of its own between soft breaks: what stands before and behind it keeps its length.
    quoted = [link[at : at + 1] if link[at] != 61 else b"=3D" for at in range(len(link))]
    lines = [b"".join(quoted[at : at + _QUOTED_LINE // 3]) for at in range(0, len(quoted), _QUOTED_LINE // 3)]
    return b"=\r\n" + b"=\r\n".join(lines) + b"=\r\n"
