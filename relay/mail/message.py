"""A message is bytes: a header block that is indexed once, and a body that is never rebuilt.

Theory of operation. `Message.split` cuts the bytes at the first empty line and indexes the header
block as a list of `(lower-case name, raw bytes)`. Edits make a new header block; the body stays a
view of the bytes that came (rules MSG-1, MSG-12). Lines end in CRLF everywhere inside: the session
refuses anything else before a `Message` is made (SMTP-5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

MAX_HEAD_BYTES = 256 * 1024  # MSG-2
MAX_FIELDS = 2_000  # MSG-2
MAX_AUTHOR_OCTETS = 8_192  # of a From or Sender field, which several policies read: over a hundred authors
MAX_LINE_OCTETS = 998  # RFC 5322 section 2.1.1, without CRLF

MAX_USUAL_NAME = 64  # octets of a field's name that is kept in mind

_NAME = re.compile(rb"[!-9;-~]+")  # ftext, RFC 5322 section 3.6.8
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_FOLD = re.compile(rb"\r\n(?=[ \t])")

Field = tuple[bytes, bytes]
"""`(lower-case name, raw bytes with every CRLF)`."""


class Malformed(NamedTuple):
    """Why the bytes are no message: `reason` is a code of reasons.toml, `detail` is safe to log, not to send."""

    reason: str
    detail: str


class Message:
    """One message: `raw` whole, `fields` of its header block, `body` as a view without a copy."""

    __slots__ = (
        *("_by_name", "_is_ascii", "author_domain", "body_start", "fields", "has_placeholder", "seen"),
        *("raw", "structure", "texts", "visible"),
    )

    def __init__(self, raw: bytes, fields: list[Field], body_start: int) -> None:
        self.raw = raw
        self.fields = fields
        self.body_start = body_start
        self._by_name: dict[bytes, list[bytes]] | None = None
        self._is_ascii: bool | None = None
        self.author_domain: str | None = None  # kept by relay.mail.sender.from_domain
        self.has_placeholder: bool | None = None  # kept by relay.mail.placeholders.has_placeholder
        self.seen: tuple[Sequence[str], int] | None = (
            None  # kept by relay.gather: how its text was counted, and how often
        )
        self.structure: object = None  # kept by relay.mail.mime.structure, which several policies ask
        self.texts: object = None  # kept by relay.mail.texts.read_texts, until the message is judged
        self.visible: object = None  # kept by relay.mail.visible.visible_addresses

    @staticmethod
    def split(raw: bytes) -> Message | Malformed:
        """The message in `raw` (CRLF line ends), or why it is none (MSG-2, SMTP-24)."""
        if raw.startswith(b"\r\n"):
            head_end, body_start = 0, 2
        else:
            cut = raw.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES + 4)
            if cut >= 0:
                head_end, body_start = cut + 2, cut + 4
            elif len(raw) > MAX_HEAD_BYTES:
                return Malformed("message.head_too_large", "header section over 262144 octets")
            else:
                head_end = body_start = len(raw)
        fields = index_head(raw[:head_end])
        return fields if isinstance(fields, Malformed) else Message(raw, fields, body_start)

    @property
    def body(self) -> memoryview:
        """The body without a copy; empty when there is none."""
        return memoryview(self.raw)[self.body_start :]

    @property
    def size(self) -> int:
        """Octets of the whole message as it came."""
        return len(self.raw)

    @property
    def is_ascii(self) -> bool:
        """No octet over 127 anywhere, so no 8BITMIME needed."""
        if self._is_ascii is None:
            self._is_ascii = self.raw.isascii()
        return self._is_ascii

    def count(self, name: bytes) -> int:
        """How many fields are called `name` (lower case)."""
        return len(self._called(name))

    def get(self, name: bytes) -> bytes | None:
        """Unfolded value of the first field called `name` (lower case), stripped; None if there is none."""
        found = self._called(name)
        return value_of(found[0]) if found else None

    def get_all(self, name: bytes) -> list[bytes]:
        """Unfolded, stripped values of every field called `name` (lower case), in order."""
        return [value_of(raw) for raw in self._called(name)]

    def _called(self, name: bytes) -> Sequence[bytes]:
        """Every raw field of one name; the policies ask some twenty times, so they are sorted once."""
        if self._by_name is None:
            self._by_name = {}
            for field, raw in self.fields:
                self._by_name.setdefault(field, []).append(raw)
        return self._by_name.get(name, ())


def index_head(head: bytes) -> list[Field] | Malformed:
    """The fields of a header block (CRLF line ends, no closing empty line), or what is wrong with it."""
    if b"\0" in head or _CONTROL.search(head):
        return Malformed("message.control_in_head", "control character in header section")
    fields: list[Field] = []
    if head[:1] in (b" ", b"\t"):
        return Malformed("message.head_malformed", "first line is a continuation")
    end = head.rfind(b"\r\n")
    for line in _FIELD_END.split(head[:end]) if end >= 0 else ():  # a whole field, its continuations included
        written, colon, _ = line.partition(b":")
        name = _name_of(written) if colon else b""
        if not name:
            return Malformed("message.head_malformed", f"field {len(fields) + 1} has no valid name")
        if len(line) > MAX_AUTHOR_OCTETS and name in (b"from", b"sender"):
            return Malformed("message.head_too_large", f"author field over {MAX_AUTHOR_OCTETS} octets")
        fields.append((name, line + b"\r\n"))
        if len(fields) > MAX_FIELDS:
            return Malformed("message.head_too_large", f"over {MAX_FIELDS} header fields")
    return fields


def _name_of(written: bytes) -> bytes:
    """A field's name in lower case; empty where it is none."""
    return _usual_name(written) if len(written) <= MAX_USUAL_NAME else _any_name(written)


def _any_name(written: bytes) -> bytes:
    name = written.rstrip(b" \t")
    return name.lower() if _NAME.fullmatch(name) else b""


_usual_name = lru_cache(maxsize=1024)(_any_name)  # nearly every mail has the same ones


def value_of(raw_field: bytes) -> bytes:
    """Value of one raw field, unfolded (RFC 5322 section 2.2.3) and stripped."""
    value = raw_field[raw_field.index(b":") + 1 :]
    if b"\r\n " in value or b"\r\n\t" in value:
        value = _FOLD.sub(b"", value)
    return value.strip()


def name_of(raw_field: bytes) -> bytes:
    """Name of one raw field as written."""
    return raw_field[: raw_field.index(b":")].rstrip(b" \t")


def stray_field(message: Message, *, utf8: bool) -> bytes | None:
    """The first raw field with an octet over 127; with `utf8` (SMTPUTF8, RFC 6532 section 3.1) the first that is no UTF-8."""
    if message.is_ascii:
        return None
    wide = (raw for _, raw in message.fields if not raw.isascii())
    return next((raw for raw in wide if not (utf8 and is_utf8(raw))), None)


def is_utf8(octets: bytes) -> bool:
    """Whether these octets are text in UTF-8 (RFC 3629)."""
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def join_head(fields: list[Field]) -> bytes:
    """Header block as bytes, closing empty line included."""
    return b"".join([raw for _, raw in fields]) + b"\r\n"
