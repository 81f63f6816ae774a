"""MIME structure as offsets into the bytes that came; nothing is rebuilt (MSG-1) and the cost is bounded (MSG-2).

Theory of operation. A multipart is cut at the delimiter lines of its own boundary, outermost first: a line of an outer
boundary ends every inner part (RFC 2046 section 5.1.2). So each level scans its own bytes once, the depth is limited,
and the whole is linear. Broken parts are read as a tolerant mail program would; only the limits end the walk.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from relay.mail.message import MAX_HEAD_BYTES, Field, Malformed, Message, index_head, value_of
from relay.mail.words import decode, decode_words, loose_base64

MAX_DEPTH = 30  # MSG-2
MAX_PARTS = 2_000  # MSG-2
MAX_FALSE_DELIMITERS = 20_000  # lines that begin like a delimiter and are none, before the walk gives up

_TYPE = re.compile(r"[ \t\r\n]*+([^\s;/()\"]++)[ \t]*+/[ \t]*+([^\s;()\"]++)")
_PARAMETER = re.compile(
    r';[ \t\r\n]*+([^\s=;"()]++)[ \t\r\n]*+=[ \t\r\n]*+(?:"((?>(?:[^"\\]|\\.)*))"|([^\s;"]*+))', re.DOTALL
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_QUOTED_OR_COMMENT = re.compile(
    r'"(?>(?:[^"\\]|\\.?)*)"?|(\([^()"]*+\))', re.DOTALL
)  # linear: an open quote reaches the end
_CONTINUED = re.compile(r"([^*]++)(?:\*(\d{1,3}))?(\*)?")
_METHOD = re.compile(rb"(?:^|\n)METHOD:([A-Za-z-]{1,32})", re.IGNORECASE)
_PROTECTED = re.compile(
    rb"content-type:[^\r\n]*(?:message/rfc822|\bhp=|protected-headers=)|\n[ \t][^\r\n]*\bhp=", re.IGNORECASE
)

_PKCS7 = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime"))
_SEALED = frozenset(("multipart/signed", "multipart/encrypted")) | _PKCS7
_MESSAGE = frozenset(("message/rfc822", "message/global"))
_IDENTITY = frozenset(("", "7bit", "8bit", "binary"))


class Part(NamedTuple):
    """One MIME part; `start` and `end` are the offsets of its body in the raw message, its last CRLF not included.

    Containers (multipart/*, message/rfc822) are parts too and come before what they hold.
    """

    depth: int  # 0 is the message itself
    content_type: str  # lower case, for instance "text/html"
    params: dict[str, str]  # of Content-Type, lower-case names; shared, not to be changed
    encoding: str  # Content-Transfer-Encoding, lower case; "" if not said
    start: int
    end: int
    head: list[Field]
    signed: bool  # a signed or encrypted container, or inside one: may never be changed (MSG-6)
    head_start: int = 0  # where its head begins in the raw message; `start` where it has none

    @property
    def is_container(self) -> bool:
        return self.content_type.startswith("multipart/") or (
            self.content_type in _MESSAGE and self.encoding in _IDENTITY
        )

    @property
    def filename(self) -> str:
        """Name of an attachment, decoded; "" if it has none."""
        for name, raw in self.head:
            if name == b"content-disposition":
                given = _parameters(decode(value_of(raw))).get("filename", "")
                if given:
                    return decode_words(given.encode())
        return decode_words(self.params.get("name", "").encode())

    @property
    def is_saved(self) -> bool:
        """Content-Disposition calls it an attachment. A name alone says nothing about a text: readers show it."""
        for name, raw in self.head:
            if name == b"content-disposition":
                return value_of(raw)[:10].lower() == b"attachment"
        return False

    @property
    def is_attachment(self) -> bool:
        """A file by its own words: Content-Disposition says so, or it has a name. A text may be shown all the same."""
        for name, raw in self.head:
            if name == b"content-disposition":
                return value_of(raw)[:10].lower() == b"attachment" or bool(self.filename)
        return "name" in self.params and not self.is_container


class Structure(NamedTuple):
    """What a message is made of, for the policies."""

    parts: tuple[Part, ...]
    is_signed: bool  # S/MIME or PGP/MIME
    is_encrypted: bool
    header_protected: bool  # addresses are also inside the signature and cannot be changed (CC-12, RFC 9788)
    calendar_method: str  # of the first text/calendar part, upper case; "" if none (CC-13)

    @property
    def leaves(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if not part.is_container)

    @property
    def attachments(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_attachment)


@lru_cache(maxsize=2_048)
def parse_content_type(value: bytes) -> tuple[str, dict[str, str]]:
    """`("text/plain", {"charset": "utf-8"})` from an unfolded Content-Type value; ("", {}) if it is unreadable.

    Parameters continued or encoded by RFC 2231 come out whole. The dict is shared between callers.
    """
    text = decode(value)
    if "(" in text:  # inside quotes it is no comment: a boundary may hold "()" (RFC 2046 section 5.1.1)
        text = _QUOTED_OR_COMMENT.sub(lambda match: " " if match[1] else match[0], text)
    match = _TYPE.match(text)
    if match is None:
        return "", {}
    return f"{match[1]}/{match[2]}".lower(), _parameters(text[match.end() :])


def _parameters(text: str) -> dict[str, str]:
    result: dict[str, str] = {}
    pieces: dict[str, list[tuple[int, bool, str]]] = {}
    for name, quoted, plain in _PARAMETER.findall(text):
        value = _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted or plain
        name = name.lower()
        if "*" not in name:
            result.setdefault(name, value)
            continue
        match = _CONTINUED.fullmatch(name)
        if match is not None:
            pieces.setdefault(match[1], []).append((int(match[2] or 0), match[3] is not None, value))
    for name, found in pieces.items():
        result[name] = _join_pieces(sorted(found))
    return result


def _join_pieces(pieces: list[tuple[int, bool, str]]) -> str:
    """RFC 2231 section 4.1: `name*0*=utf-8'nl'...; name*1=...` as one text."""
    charset = ""
    octets = bytearray()
    for position, (_, is_encoded, value) in enumerate(pieces):
        if is_encoded and position == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets += unquote_to_bytes(value) if is_encoded else value.encode()
    return decode(bytes(octets), charset)


def walk(message: Message, *, max_depth: int = MAX_DEPTH, max_parts: int = MAX_PARTS) -> Iterator[Part]:
    """Every part, containers before their content, in order; ends without a word where a limit is reached.

    Never raises. Whoever must know about the limits asks `structure`.
    """
    return iter(_Walk(message, max_depth, max_parts).parts)


def structure(message: Message) -> Structure | Malformed:
    """The parts and what follows from them, or which limit they break (MSG-2). Walked once for a message."""
    if message.structure is None:
        message.structure = _structure(message)
    return message.structure  # type: ignore[return-value]  # nothing else is put there


def _structure(message: Message) -> Structure | Malformed:
    kind, params, encoding = _describe(message.fields, "text/plain")
    if kind in ("text/plain", "text/html"):  # most of all mail, without the walk
        part = Part(0, kind, params, encoding, message.body_start, len(message.raw), message.fields, False)
        return Structure((part,), False, False, False, "")
    walked = _Walk(message, MAX_DEPTH, MAX_PARTS)
    parts = walked.parts
    if walked.broken is not None:
        return walked.broken
    encrypted = signed = False
    method = ""
    for part in parts:
        kind = part.content_type
        if kind == "multipart/signed":
            signed = True
        elif kind == "multipart/encrypted":
            encrypted = True
        elif kind in _PKCS7:
            is_signature = part.params.get("smime-type", "").lower() in ("signed-data", "certs-only", "compressed-data")
            signed, encrypted = signed or is_signature, encrypted or not is_signature
        elif kind == "text/calendar" and not method:
            method = _method(part, message.raw)
    return Structure(tuple(parts), signed, encrypted, _protects_headers(parts, message.raw), method)


def _method(part: Part, raw: bytes) -> str:
    given = part.params.get("method", "")
    if given:
        return given.upper()
    match = _METHOD.search(body_of(part, raw, 64 * 1024))
    return match[1].decode().upper() if match else ""


def _protects_headers(parts: list[Part], raw: bytes) -> bool:
    """Whether header fields lie inside the signature: RFC 9788, its drafts, or a wrapped message (RFC 8551 section 3.1).

    What an attached message protects is its own affair. A clear signed-data object is looked into: what it wraps stands
    there in plain octets.
    """
    attached = MAX_DEPTH + 1  # depth of the attached message that the walk is inside of
    above = ""
    for part in parts:
        if part.depth <= attached:
            attached = MAX_DEPTH + 1
        if not part.signed and part.content_type in _MESSAGE:
            attached = min(attached, part.depth)
        if part.signed and part.depth < attached:
            if "hp" in part.params or "protected-headers" in part.params:
                return True
            if part.content_type in _MESSAGE and above == "multipart/signed":
                return True
            if part.content_type in _PKCS7 and _PROTECTED.search(body_of(part, raw, 16 * 1024)):
                return True
        above = part.content_type
    return False


class _Open(NamedTuple):
    """A part whose head has not been read yet."""

    depth: int
    head_start: int
    end: int
    signed: bool
    default_type: str


class _Walk:
    """One walk over a message: `parts` in order, `broken` when a limit ended it."""

    def __init__(self, message: Message, max_depth: int, max_parts: int) -> None:
        self.raw = message.raw
        self.max_depth = max_depth
        self.max_parts = max_parts
        self.false_delimiters = 0
        self.parts: list[Part] = []
        self.broken: Malformed | None = None
        self.open: list[_Open] = []  # last is next
        self._add(message.fields, message.body_start, _Open(0, 0, len(message.raw), False, "text/plain"))
        while self.open and self.broken is None:
            pending = self.open.pop()
            fields, start = _part_head(self.raw, pending.head_start, pending.end)
            self._add(fields, start, pending)

    def _add(self, fields: list[Field], start: int, pending: _Open) -> None:
        if pending.depth > self.max_depth:
            self.broken = Malformed("message.too_deep", f"MIME parts nested over {self.max_depth} levels")
            return
        if len(self.parts) >= self.max_parts:
            self.broken = Malformed("message.too_many_parts", f"over {self.max_parts} MIME parts")
            return
        kind, params, encoding = _describe(fields, pending.default_type)
        signed = pending.signed or kind in _SEALED
        self.parts.append(
            Part(pending.depth, kind, params, encoding, start, pending.end, fields, signed, pending.head_start)
        )
        if kind.startswith("multipart/"):
            self._open_children(params.get("boundary", "").rstrip(" \t"), self.parts[-1])
        elif kind in _MESSAGE and encoding in _IDENTITY:
            self.open.append(_Open(pending.depth + 1, start, pending.end, signed, "text/plain"))

    def _open_children(self, boundary: str, parent: Part) -> None:
        octets = boundary.encode()
        if not boundary.isascii() and octets not in self.raw:
            octets = boundary.encode("latin-1", "replace")  # the head was Latin-1, see `decode`
        regions = self._cut(b"--" + octets, parent.start, parent.end) if octets else []
        if not regions:
            # No delimiter: readers show the whole as text, so whoever inspects text must see it.
            start, end = parent.start, parent.end
            text = Part(parent.depth + 1, "text/plain", _NO_PARAMS, "", start, end, [], parent.signed, start)
            self.parts.append(text)
        elif len(self.parts) + len(regions) > self.max_parts:
            self.broken = Malformed("message.too_many_parts", f"over {self.max_parts} MIME parts")
        default = "message/rfc822" if parent.content_type == "multipart/digest" else "text/plain"
        self.open.extend(
            _Open(parent.depth + 1, start, end, parent.signed, default) for start, end in reversed(regions)
        )

    def _cut(self, delimiter: bytes, start: int, end: int) -> list[tuple[int, int]]:
        """Regions between the delimiter lines in `raw[start:end]`; the preamble and the epilogue are none."""
        raw, line = self.raw, b"\r\n" + delimiter
        regions: list[tuple[int, int]] = []
        region_start = -1
        # A delimiter may be the first line of the body; then the CRLF in front of it ends the head.
        found = start - 2 if raw.startswith(delimiter, start) else raw.find(line, start, end)
        while found != -1 and len(regions) <= self.max_parts:
            after = found + len(line)
            line_end = raw.find(b"\r\n", after, end)
            if line_end == -1:
                line_end = end
            tail = raw[after : min(line_end, after + 80)].rstrip(b" \t")
            if tail == b"" or tail == b"--":
                if region_start >= 0:
                    regions.append((region_start, max(region_start, found)))
                if tail:
                    return regions
                region_start = min(line_end + 2, end)
                found = raw.find(line, line_end, end)
                continue
            self.false_delimiters += 1
            if self.false_delimiters > MAX_FALSE_DELIMITERS:
                self.broken = Malformed("message.too_many_parts", "too many lines that resemble a boundary")
                return regions
            found = raw.find(line, after, end)
        if found == -1 and region_start >= 0:  # never closed: the last part reaches the end
            regions.append((region_start, end))
        return regions


def _part_head(raw: bytes, start: int, end: int) -> tuple[list[Field], int]:
    """Fields of the head at `start` and where the body begins; lines that are no field are passed over."""
    if raw.startswith(b"\r\n", start) and start + 2 <= end:
        return [], start + 2
    cut = raw.find(b"\r\n\r\n", start, min(end, start + MAX_HEAD_BYTES))
    if cut >= 0:
        head, body_start = raw[start : cut + 2], cut + 4
    elif end - start <= MAX_HEAD_BYTES:
        head, body_start = raw[start:end] + b"\r\n", end
    else:
        return [], start
    fields = index_head(head)
    return (_loose_head(head) if isinstance(fields, Malformed) else fields), body_start


def _loose_head(head: bytes) -> list[Field]:
    # A mail program skips what it cannot read and believes the Content-Type behind it, so we must see it as well.
    fields: list[tuple[bytes, list[bytes]]] = []
    for line in head.split(b"\r\n")[:2_000]:
        if line[:1] in (b" ", b"\t"):
            if fields:
                fields[-1][1].append(line + b"\r\n")
        else:
            single = index_head(line + b"\r\n")
            if not isinstance(single, Malformed):
                fields.extend((name, [raw]) for name, raw in single)
    return [(name, b"".join(lines)) for name, lines in fields]


def _describe(fields: list[Field], default_type: str) -> tuple[str, dict[str, str], str]:
    """Content type, its parameters and the transfer encoding that a head declares."""
    kind, params, encoding = "", _NO_PARAMS, ""
    for name, raw in fields:
        if name == b"content-type" and not kind:
            kind, params = parse_content_type(value_of(raw))
        elif name == b"content-transfer-encoding" and not encoding:
            encoding = _encoding(value_of(raw))
    return kind or default_type, params, encoding


_NO_PARAMS: dict[str, str] = {}


@lru_cache(maxsize=256)
def _encoding(value: bytes) -> str:
    return decode(value).partition("(")[0].partition(";")[0].strip().lower()


def body_of(part: Part, raw: bytes, limit: int) -> bytes:
    """At most `limit` octets of a part's content with its transfer encoding undone, tolerantly."""
    if part.encoding == "base64":
        return loose_base64(raw[part.start : min(part.end, part.start + limit * 3 // 2 + 4)])[:limit]
    if part.encoding == "quoted-printable":
        return binascii.a2b_qp(raw[part.start : min(part.end, part.start + limit * 3)])[:limit]
    return raw[part.start : min(part.end, part.start + limit)]


def decode_text(part: Part, raw: bytes, limit: int) -> str:
    """Text of a part, from at most `limit` octets of its content; octets that the charset cannot read become U+FFFD."""
    return decode(body_of(part, raw, limit), part.params.get("charset", ""))
