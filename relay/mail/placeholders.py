"""`{{zegel_unsubscribe}}` and `{{zegel_my}}` in the text of a mail, replaced by the links of one copy (UNSUB-16). Pure.

Theory of operation. Only text parts are looked into that a reader shows and nobody signed or encrypted (MSG-6). A body is cut
once into pieces around the marks; each copy is those pieces joined with its own links. In plain and quoted-printable parts
only the mark's own octets change, also where a soft line break or an `=7B` lies in it; a base64 part that holds a mark is
encoded anew from its changed content. Editors and template engines rewrite what stands in an `href`: braces come as `%7B`,
with spaces, behind a scheme; those are marks as well. What else looks like one, or stands behind another address, is
`garbled`: a dead link. Long bodies are searched in windows, so that a thread that does it never holds up the others for long;
a mark that soft line breaks stretch over more than MAX_MARK_BYTES is none.
"""

from __future__ import annotations

import re
from base64 import encodebytes
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relay.mail.message import Field, Malformed, Message
from relay.mail.mime import Part, structure
from relay.mail.texts import MAX_TEXT_BYTES, read_texts, shown_parts
from relay.mail.words import loose_pieces

HEAVY_BYTES = 256 * 1024  # of a message: more is looked through beside the loop
MAX_MARK_BYTES = 1024
MAX_SHOWN = 80  # characters of a dead link
WINDOW_BYTES = 64 * 1024
NAMES = ("unsubscribe", "my")
WAY_OUT = "{{zegel_unsubscribe}}"
WAYS_OUT = tuple(  # as editors and template engines write it, in small letters
    f"{scheme}{opens}zegel_unsubscribe{closes}"
    for opens, closes in (("{{", "}}"), ("{{ ", " }}"), ("%7b%7b", "%7d%7d"), ("%7b%7b%20", "%20%7d%7d"))
    for scheme in ("", "http://", "https://")
)
MARKS = tuple(f"{{{{zegel_{name}}}}}".encode() for name in NAMES)

_NAME = "zegel"
_LATIN = re.compile(r"(?:us-ascii|utf-?8|iso-8859-\d{1,2}|windows-125\d|)\Z", re.IGNORECASE)  # in which ASCII is ASCII
_WIDE = ("utf-16", "utf-32")
_LONGEST_MARK = 4 * max(map(len, MARKS))  # room for the other spellings too
_CODECS = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}
_PLAIN = re.compile(
    rb"(?:https?://)?(?:\{\{|%7[Bb]%7[Bb])(?: |%20)?zegel_(?:(unsubscribe)|(my))(?: |%20)?(?:\}\}|%7[Dd]%7[Dd])"
)
_GAP = r"(?:\s|%20|&nbsp;|<[^<>]{0,100}>){0,3}"
_GARBLED = re.compile(
    rf"(?:[{{\[]|%(?:25)?7b|%5b|&#0?123;|&#x7b;|&lcub;|&lbrace;){_GAP}zegel[\s_-]?(?:unsub\w{{0,20}}|my(?![^\W_])\w{{0,20}})"
)
_COMPLETED = re.compile(  # as an editor does with what it takes for a relative address
    r"(?:https?://[^\s\"'<>?#{%/][^\s\"'<>?#{%]{0,200}/|\.\./|[\"'=]//)"
    r"(?:\{\{|%7b%7b)(?: |%20)?zegel_(?:unsubscribe|my)(?: |%20)?(?:\}\}|%7d%7d)"
)
_QUOTED_HINTS = (b"{{", b"{=", b"=7B", b"=7b", b"%7B%", b"%7b%", b"%7=", b"%=", b"=25")
_QUOTED_LINE = 72  # characters of a line of quoted-printable (at most 76, RFC 2045 section 6.7)


_SOFT = r"(?>(?:=[ \t]*+\r\n)*)"


def _quoted(text: str) -> str:
    """A pattern for `text` in quoted-printable: each character as it is or as hexadecimal, soft breaks anywhere inside."""
    return _SOFT.join(f"(?:{re.escape(c)}|=(?i:{ord(c):02x}))" for c in text)


def _any_quoted(*texts: str) -> str:
    return f"(?:{'|'.join(map(_quoted, texts))})"


_SPACE = f"(?:{_SOFT}{_any_quoted(' ', '%20')})?{_SOFT}"
_QUOTED = re.compile(
    (
        f"(?:{_any_quoted('http://', 'https://')}{_SOFT})?{_any_quoted('{{', '%7B%7B', '%7b%7b')}{_SPACE}"
        f"{_quoted('zegel_')}{_SOFT}"
        f"(?:({_quoted('unsubscribe')})|({_quoted('my')})){_SPACE}{_any_quoted('}}', '%7D%7D', '%7d%7d')}"
    ).encode("ascii")
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


def may_hold_mark(message: Message) -> bool:
    """Whether the shown text may hold a placeholder of ours, garbled or not: each has our name in it, however it is encoded.

    True where the texts are not read whole, or in characters that a mark could be hidden in.
    """
    made = structure(message)
    if message.size > MAX_TEXT_BYTES or isinstance(made, Malformed):
        return True
    if any(not _LATIN.match(part.params.get("charset", "")) for part in made.parts):
        return True
    texts = read_texts(message)
    return _NAME in texts.html.lower() or _NAME in texts.plain.lower()


def has_placeholder(message: Message) -> bool:
    """Whether an unsigned text part asks for the copy's own links. Looked for once for a message."""
    if message.has_placeholder is None:
        made = structure(message)
        message.has_placeholder = not isinstance(made, Malformed) and any(True for _ in _found(message.raw, made.parts))
    return message.has_placeholder


def garbled(text: str) -> str:
    """What in a shown text looks like one of our placeholders and is none, so that nobody fills it; "" where nothing does."""
    lower = text.lower()
    if _NAME not in lower:
        return ""
    completed = _COMPLETED.search(lower)
    found = completed or _GARBLED.search(_PLAIN.sub(b"", text.encode("utf-8", "replace")).decode().lower())
    return " ".join(found[0].split())[-MAX_SHOWN:] if found else ""


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
    hints, pattern = (_QUOTED_HINTS, _QUOTED) if is_quoted else ((b"zegel_",), _PLAIN)
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
    tail = b""
    for piece in loose_pieces(raw, part.start, part.end):
        codec = _codec(tail + piece, wide)
        if codec:
            content = b"".join(loose_pieces(raw, part.start, part.end))
            return Coded(content, codec, raw[part.end - 2 : part.end] == b"\r\n")
        tail = (tail + piece)[-_LONGEST_MARK:]
    return None


def _codec(content: bytes, wide: str) -> str:
    """How the marks in `content` are written; "" where there is none."""
    if not wide:
        return "ascii" if b"zegel_" in content and _PLAIN.search(content) else ""
    return next((c for c in _CODECS[wide] for mark in MARKS if mark.decode().encode(c) in content), "")


def _written(piece: Slot | Coded, links: tuple[bytes, ...]) -> bytes:
    if isinstance(piece, Coded):
        content = piece.content
        if piece.codec == "ascii":
            content = _PLAIN.sub(lambda match: links[(match.lastindex or 1) - 1], content)
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
