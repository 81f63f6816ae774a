"""The content of a MIME part in chunks, its transfer encoding undone on the way: a large attachment is never there twice."""

from __future__ import annotations

import binascii
import codecs
from collections.abc import Iterator

from relay.mail.documents.budget import CHUNK, Chunks, slices
from relay.mail.mime import Part
from relay.mail.words import codec_of

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_LETTERS = bytes(sorted(set(range(256)) - set(_LETTERS)))
_BASE64_CHUNK = CHUNK // 3 * 4
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def octets(part: Part, raw: bytes) -> Chunks:
    """The octets of a part as `relay.mail.mime.body_of` has them, tolerantly, without a limit and in chunks."""
    if part.encoding == "base64":
        return _base64(raw, part.start, part.end)
    if part.encoding == "quoted-printable":
        return _quoted(raw, part.start, part.end)
    return (raw[start : min(start + CHUNK, part.end)] for start in range(part.start, part.end, CHUNK))


def _base64(raw: bytes, start: int, end: int) -> Chunks:
    left = b""
    for at in range(start, end, _BASE64_CHUNK):
        left += raw[at : min(at + _BASE64_CHUNK, end)].translate(None, _NO_LETTERS)
        cut = len(left) // 4 * 4
        yield binascii.a2b_base64(left[:cut])
        left = left[cut:]
    if len(left) > 1:
        yield binascii.a2b_base64(left + b"=" * (-len(left) % 4))


def _quoted(raw: bytes, start: int, end: int) -> Chunks:
    while start < end:
        stop = min(start + CHUNK, end)
        if stop < end:
            line = raw.rfind(b"\n", start, stop)
            stop = line + 1 if line >= 0 else _unbroken(raw, start, stop)
        yield binascii.a2b_qp(raw[start:stop])
        start = stop


def _unbroken(raw: bytes, start: int, stop: int) -> int:
    """Where to cut a line without an end so that no `=3D` is torn."""
    sign = raw.rfind(b"=", stop - 2, stop)
    return sign if sign > start else stop


def texts(chunks: Chunks, charset: str = "") -> Iterator[str]:
    """Chunks as text: by its byte order mark, else by `charset`, else UTF-8; from where that fails, Windows-1252. No errors."""
    decoder: codecs.IncrementalDecoder | None = None
    for chunk in chunks:
        if decoder is None:
            if not chunk:
                continue
            decoder, chunk = _decoder(chunk, charset)
        try:
            text = decoder.decode(chunk)
        except UnicodeDecodeError:
            chunk = decoder.getstate()[0] + chunk  # what waited for the rest of its letter
            decoder = codecs.getincrementaldecoder("cp1252")("replace")
            text = decoder.decode(chunk)
        if text:
            yield text
    if decoder is not None:
        decoder.errors = "replace"  # of a letter that was cut off
        last = decoder.decode(b"", True)
        if last:
            yield last


def _decoder(first: bytes, charset: str) -> tuple[codecs.IncrementalDecoder, bytes]:
    for mark, name in _BOMS:
        if first.startswith(mark):
            return codecs.getincrementaldecoder(name)("replace"), first[len(mark) :]
    codec = codec_of(charset) if charset else ""
    if codec and codec != "ascii":
        return codecs.getincrementaldecoder(codec)("replace"), first
    if first[1:2] == b"\0" and first[3:4] == b"\0":  # without a mark, as some spreadsheet programs write it
        return codecs.getincrementaldecoder("utf-16-le")("replace"), first
    return codecs.getincrementaldecoder("utf-8")("strict"), first


__all__ = ["octets", "slices", "texts"]
