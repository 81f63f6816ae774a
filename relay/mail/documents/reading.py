"""What a file is, by its first octets and then by its name and type, and its text and tables as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath

from relay.mail.documents.archive import END_BYTES, PACKED, Archive, ends_as_zip, gunzip
from relay.mail.documents.budget import (
    MAX_WHOLE_BYTES,
    Bomb,
    Broken,
    Budget,
    Chunks,
    Crashed,
    Mail,
    OutOfTime,
    Piece,
    Text,
    Unreadable,
    whole,
)
from relay.mail.documents.content import texts
from relay.mail.documents.html import read_html
from relay.mail.documents.markup import written_pieces
from relay.mail.documents.office import is_ooxml, is_open_document, read_ooxml, read_open_document
from relay.mail.documents.separated import read_separated
from relay.mail.documents.tar import read_tar
from relay.mail.documents.vcard import read_vcards
from relay.mail.documents.xlsx import is_xlsx, read_xlsx

_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "closed"),  # OLE: encrypted office documents, and those of before 2007
    (b"Rar!\x1a\x07", "closed"),
    (b"7z\xbc\xaf\x27\x1c", "closed"),
    (b"BZh", "closed"),
    (b"\xfd7zXZ\x00", "closed"),
    (b"SQLite format 3\x00", "closed"),
    (b"\x00\x01\x00\x00Standard ", "closed"),  # Access
    (b"\x78\x9f\x3e\x22", "closed"),  # winmail.dat
    (b"%PDF-", "pdf"),
)
_PROGRAM = b"MZ"  # of Windows; one that unpacks itself is followed by a ZIP
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # [MS-OFFCRYPTO] 2.3.4: the stream of an encrypted OOXML document
_EMBEDDED = re.compile(r"(?:word|ppt|xl)/embeddings/.|word/afchunk", re.IGNORECASE)
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,100}<(?:!doctype html|html|head|meta|style|table)[\s>]", re.IGNORECASE)
_SUFFIXES = {
    **dict.fromkeys((".htm", ".html", ".xhtml", ".fods", ".fodt"), "html"),
    **dict.fromkeys(
        (".csv", ".tsv", ".tab", ".txt", ".log", ".json", ".jsonl", ".md", ".ics", ".sql", ".rtf"), "table"
    ),
    ".xml": "xml",
    ".vcf": "vcard",
}
_TYPES = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/vcard": "vcard",
    "text/x-vcard": "vcard",
    "text/directory": "vcard",
    "application/json": "table",
    "application/csv": "table",
    "text/xml": "xml",
    "application/xml": "xml",
}


def kind_of(first: bytes, content_type: str, filename: str) -> str:
    """zip | gzip | tar | pdf | closed | html | xml | vcard | table | none for a file that begins with `first`."""
    for magic, kind in _MAGIC:
        if first.startswith(magic):
            return kind
    if first[257:262] == b"ustar":
        return "tar"
    if b"PK\x03\x04" in first:  # octets before it, as a program has that unpacks itself
        return "zip"
    suffix = PurePosixPath(filename.lower()).suffix
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if _HTML.match(first):  # as web programs send a table under the name of a spreadsheet
        return "html"
    if content_type in _TYPES:
        return _TYPES[content_type]
    if content_type.startswith("text/"):
        return "table"
    if content_type.startswith(("image/", "audio/", "video/", "font/")):
        return "none"
    if b"%PDF-" in first[:1024]:
        return "pdf"
    looks_binary = b"\0" in first[:4096] and not first.startswith((b"\xff\xfe", b"\xfe\xff"))
    return "none" if looks_binary else "table"


def read_document(
    chunks: Chunks, content_type: str, filename: str, budget: Budget, *, charset: str = ""
) -> Iterator[Piece]:
    """Text and rows of one file; of an archive those of its files. Never an error but Bomb and OutOfTime.

    What cannot be read is a piece too: Unreadable, or Crashed where a reader of ours failed at it.
    """
    return _guarded(_read(chunks, content_type, filename, budget, charset, inside=False))


def _guarded(pieces: Iterator[Piece]) -> Iterator[Piece]:
    try:
        yield from pieces
    except Broken as error:
        yield Unreadable(str(error))
    except (Bomb, OutOfTime):
        raise
    except Exception as bug:  # one odd document must not stop the mail, nor go unnoticed
        yield Crashed.by(bug)
        yield Unreadable("broken")


def _read(
    chunks: Chunks, content_type: str, filename: str, budget: Budget, charset: str, *, inside: bool
) -> Iterator[Piece]:
    first = next(chunks, b"")
    if not first:
        return
    kind = kind_of(first, content_type, filename)
    everything = chain((first,), chunks)
    if first.startswith(_PROGRAM) and kind != "zip":
        yield from _program(kind, everything, filename, budget, charset, inside=inside)
    else:
        yield from _as(kind, everything, filename, budget, charset, inside=inside)


def _as(kind: str, everything: Chunks, filename: str, budget: Budget, charset: str, *, inside: bool) -> Iterator[Piece]:
    if kind == "none":
        return
    if kind == "zip":
        yield from _zip(whole(everything), budget, inside=inside)
    elif kind == "gzip":
        yield from _gzip(whole(everything), filename, budget, inside=inside)
    elif kind == "tar":
        yield from _tar(everything, budget, inside=inside)
    elif kind == "pdf":
        yield from _pdf(whole(everything), budget)
    elif kind == "closed":
        raise Broken("encrypted" if _ENCRYPTED in whole(everything) else "unsupported")
    elif kind == "html":
        yield from read_html(texts(everything, charset), budget)
    elif kind == "xml":
        for piece in written_pieces(texts(everything, charset)):
            budget.check()
            yield Text(piece)
    elif kind == "vcard":
        yield from read_vcards(texts(everything, charset), budget)
    else:
        yield from read_separated(texts(everything, charset), budget)


def _program(
    kind: str, chunks: Chunks, filename: str, budget: Budget, charset: str, *, inside: bool
) -> Iterator[Piece]:
    """What begins as a program: whatever else it is said to be, and the ZIP at its end."""
    held = bytearray()
    everything = _held(chunks, held, budget)
    try:
        yield from _as(kind, everything, filename, budget, charset, inside=inside)
    except Broken as error:
        yield Unreadable(str(error))
    for _ in everything:
        pass
    if ends_as_zip(held):
        yield Text("", ends=True)
        yield from _zip(bytes(held), budget, inside=inside)


def _held(chunks: Chunks, held: bytearray, budget: Budget) -> Chunks:
    """The same chunks, of which `held` keeps all, or the end where that is too much."""
    for chunk in chunks:
        budget.check()
        held += chunk
        if len(held) > MAX_WHOLE_BYTES:
            del held[:-END_BYTES]
        yield chunk


def _pdf(content: bytes, budget: Budget) -> Iterator[Piece]:
    if budget.pdf is None:  # no reader is installed; `zegel doctor` says so
        if not budget.told_of_pdf:
            budget.told_of_pdf = True
            yield Unreadable("unsupported")
        return
    for piece in budget.pdf(content, budget):
        yield Text(piece)


def _gzip(content: bytes, filename: str, budget: Budget, *, inside: bool) -> Iterator[Piece]:
    if inside:
        raise Broken("nested")
    name = filename[:-3] if filename.lower().endswith(".gz") else filename
    unpacked = gunzip(content, budget)
    first = next(unpacked, b"")
    everything = chain((first,), unpacked)
    if kind_of(first, "", name) == "tar":
        yield from _tar(everything, budget, inside=False)
    else:
        yield from _inner(everything, name, budget)
    for _ in unpacked:  # what nobody wanted to read is paid for all the same
        pass


def _tar(chunks: Chunks, budget: Budget, *, inside: bool) -> Iterator[Piece]:
    if inside:
        raise Broken("nested")
    for name, content in read_tar(chunks, budget):
        yield from _inner(content, name, budget)


def _zip(content: bytes, budget: Budget, *, inside: bool) -> Iterator[Piece]:
    archive = Archive(content, budget)
    if is_xlsx(archive.names):
        yield from read_xlsx(archive, budget)
        yield from _embedded(archive, budget, inside=inside)
    elif is_ooxml(archive.names):
        yield from read_ooxml(archive, budget)
        yield from _embedded(archive, budget, inside=inside)
    elif "xl/workbook.bin" in archive.names:
        raise Broken("unsupported")
    elif is_open_document(archive.names):
        yield from read_open_document(archive, budget)
    elif inside:
        # Not opened (depth 1). One that holds archives itself is made to grow, not to be read.
        if any(name.lower().endswith(PACKED) for name in archive.names):
            raise Bomb("depth")
        raise Broken("nested")
    else:
        for entry in archive.entries:  # not by name: two may have the same
            try:
                yield from _inner(archive.chunks(entry), entry.filename, budget)
            except Broken as error:
                yield Unreadable(str(error))


def _embedded(archive: Archive, budget: Budget, *, inside: bool) -> Iterator[Piece]:
    """Files in a document: the workbook behind a chart, a sheet in a letter. What those hold in turn is not opened."""
    for entry in archive.entries:
        if _EMBEDDED.match(entry.filename):
            if inside:
                raise Broken("nested")
            try:
                yield from _inner(archive.chunks(entry), entry.filename, budget)
            except Broken as error:
                yield Unreadable(str(error))


def _inner(chunks: Chunks, name: str, budget: Budget) -> Iterator[Piece]:
    """One file of an archive. What is in one file does not go on in the next."""
    if name.lower().endswith(".eml"):
        yield Mail(whole(chunks), PurePosixPath(name).name)
        return
    yield from _guarded(_read(chunks, "", PurePosixPath(name).name, budget, "", inside=True))
    yield Text("", ends=True)
