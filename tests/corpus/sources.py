"""Where the mail of the test comes from, made fit to be sent: CRLF, an own From, no field twice that may occur once."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.corpus import shapes
from tests.mailfiles import corpus, cpython, crlf

_ONCE = frozenset(b"from sender reply-to to cc bcc message-id in-reply-to references subject date".split())
_FIELD = re.compile(rb"[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


class Specimen(NamedTuple):
    """One mail to be sent, octets as they go over the wire before dot-stuffing."""

    name: str
    raw: bytes

    @property
    def head(self) -> bytes:
        return cut(self.raw)[0]

    @property
    def utf8(self) -> bool:
        """Its head needs SMTPUTF8 and may have it: 8-bit octets that are UTF-8."""
        try:
            return not self.head.isascii() and bool(self.head.decode())
        except UnicodeDecodeError:
            return False


def cut(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Header block, the empty line (b"" where there is none), body."""
    if raw.startswith(b"\r\n"):
        return b"", b"\r\n", raw[2:]
    head, line, body = raw.partition(b"\r\n\r\n")
    return (head + b"\r\n", b"\r\n", body) if line else (raw, b"", b"")


def fields_of(head: bytes) -> list[bytes]:
    """The raw fields of a header block."""
    return _FIELD.findall(head)


def name_of(field: bytes) -> bytes:
    """Lower-case name of a raw field."""
    return field.partition(b":")[0].rstrip(b" \t").lower()


def fit(raw: bytes) -> bytes:
    """`raw` as a client of the tenant would send it."""
    raw = crlf(raw)
    if raw.startswith((b"From ", b">From ")):
        raw = raw.partition(b"\r\n")[2]
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    head, line, body = cut(raw)
    own = b"From: Jan Jansen <" + shapes.AUTHOR.encode() + b">\r\n"
    made: list[bytes] = []
    seen: set[bytes] = set()
    for field in fields_of(head):
        name = name_of(field)
        if name not in seen or name not in _ONCE:
            made.append(own if name == b"from" else field)
        seen.add(name)
    if b"from" not in seen:
        made.insert(0, own)
    return b"".join(made) + line + body


def specimens(count: int) -> list[Specimen]:
    """`count` mails: every file there is first, then made ones."""
    files = [Specimen(f"{path.parent.name}/{path.name}", fit(path.read_bytes())) for path in (*corpus(), *cpython())]
    made = (Specimen(*shapes.make(number)) for number in range(max(0, count - len(files))))
    return [*files, *made]
