"""The way in: a file or a whole mail, and what the detectors found in it. Pure; bounded by the budget."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mail.documents.budget import Bomb, Broken, Budget, Mail, OutOfTime, Piece, slices, whole
from relay.mail.documents.content import octets, texts
from relay.mail.documents.markup import shown, shown_pieces
from relay.mail.documents.reading import kind_of, read_document
from relay.mail.leaks.findings import NOTHING, Findings, Terms
from relay.mail.leaks.search import Place, Search
from relay.mail.message import Malformed, Message, value_of
from relay.mail.mime import Part, Structure, structure
from relay.mail.texts import MAX_TEXT_BYTES, Texts, read_texts
from relay.mail.words import decode_words

_SHOWN = ("text/plain", "text/html")
_MESSAGES = ("message/rfc822", "message/global")
_SIGNATURES = frozenset(("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"))
_SEALED = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime"))
_DER = re.compile(rb"0[\x80-\x84]")  # how every object of CMS begins (RFC 5652), and no text and no archive
_NAMING = frozenset((b"from", b"to", b"cc", b"bcc", b"reply-to", b"resent-to", b"resent-cc", b"subject"))


def inspect(
    content: bytes, content_type: str = "", filename: str = "", terms: Terms | None = None, budget: Budget | None = None
) -> Findings:
    """What one file holds. Without a file name, text/plain and text/html are the text of a mail (DLP-4).

    Never raises but OutOfTime, and that only where the budget has an end.
    """
    budget = budget or Budget()
    search = Search(terms or Terms())
    kind = content_type.partition(";")[0].strip().lower()
    try:
        with search:
            if not filename and kind in _SHOWN:
                _show(search.body, kind, texts(slices(content)), budget)
            else:
                place = search.file(filename)
                _take(read_document(slices(content), kind, filename, budget), place, search, budget, inside=False)
    except Bomb as bomb:
        return search.findings(str(bomb))
    return search.findings()


class Unfinished(OutOfTime):
    """The time was over in the middle of a mail; `so_far` is what had been found by then."""

    def __init__(self, so_far: Findings) -> None:
        super().__init__()
        self.so_far = so_far


def inspect_message(message: Message, terms: Terms, budget: Budget) -> Findings:
    """What a mail holds: subject, texts, attachments, attached mails and the names in their heads. Raises Unfinished."""
    made = structure(message)
    if isinstance(made, Malformed):
        return NOTHING  # it is refused for that
    search = Search(terms)
    try:
        _message(message, made, search, budget, inside=False)
    except Bomb as bomb:
        return search.findings(str(bomb))
    except OutOfTime:
        raise Unfinished(search.findings()) from None
    return search.findings()


def is_plain(message: Message) -> bool:
    """Whether a mail is text alone, so that reading it costs what its size says."""
    made = structure(message)
    return isinstance(made, Malformed) or all(
        (part.content_type in _SHOWN and not part.is_attachment) or _is_still(part, message) for part in made.leaves
    )


def _is_still(part: Part, message: Message) -> bool:
    """Whether a part has nothing to read: a signature, a picture. Its octets say so, not its label alone."""
    first = next(octets(part, message.raw), b"")
    if part.content_type in _SIGNATURES:
        return _DER.match(first) is not None or first.lstrip().startswith(b"-----BEGIN PGP SIGNATURE-----")
    return part.content_type.startswith("image/") and kind_of(first, part.content_type, part.filename) == "none"


def _is_sealed(part: Part, message: Message, search: Search) -> bool:
    """Whether a part is a CMS object: a signature has nothing to read, and what a sealed one holds cannot be read here."""
    if part.content_type not in _SIGNATURES and part.content_type not in _SEALED:
        return False
    if _DER.match(next(octets(part, message.raw), b"")) is None:
        return False  # a file under the wrong label
    if part.content_type in _SEALED and not search.unreadable:
        search.unreadable.append("unsupported")
    return True


def _message(message: Message, made: Structure, search: Search, budget: Budget, *, inside: bool) -> None:
    body = search.body
    if made.is_encrypted:
        search.unreadable.append("encrypted")
    subject = decode_words(message.get(b"subject") or b"")
    is_small = message.size <= MAX_TEXT_BYTES
    found = read_texts(message) if is_small else Texts("", "")  # kept from the policies that read it before
    if subject or found.plain:
        with search:
            body.text(f"{subject}\n{found.plain}", ends=True)
    if found.html:
        with search:
            body.text(shown(found.html), ends=True)
    attached = False
    for part in made.parts:
        if attached:
            names = b"\n".join(value_of(raw) for name, raw in part.head if name in _NAMING)
            body.text(decode_words(names), ends=True)
        attached = part.is_container and part.content_type in _MESSAGES
        if part.is_container or _is_sealed(part, message, search):
            continue
        if part.content_type in _SHOWN and not part.is_attachment:
            if not is_small:
                with search:
                    pieces = texts(octets(part, message.raw), part.params.get("charset", ""))
                    _show(body, part.content_type, pieces, budget)
        else:
            with search:
                _file(part, message, search, budget, inside=inside)


def _show(place: Place, kind: str, pieces: Iterator[str], budget: Budget) -> None:
    for piece in shown_pieces(pieces) if kind == "text/html" else pieces:
        budget.check()
        place.text(piece)
    place.text("", ends=True)


def _file(part: Part, message: Message, search: Search, budget: Budget, *, inside: bool) -> None:
    name = part.filename
    if sum(map(name.count, "0123456789")) >= 8:  # loonstrook BSN 123456782.pdf
        search.body.text(f"\n{name.replace('_', ' ')}\n", ends=True)
    chunks = octets(part, message.raw)
    if not inside and (part.content_type in _MESSAGES or name.lower().endswith(".eml")):
        try:
            raw = whole(chunks)
        except Broken as error:
            search.unreadable.append(str(error))
            return
        if _attached(raw, search, budget):
            return
        chunks = slices(raw)
    place = search.file(name)
    pieces = read_document(chunks, part.content_type, name, budget, charset=part.params.get("charset", ""))
    _take(pieces, place, search, budget, inside=inside)


def _take(pieces: Iterator[Piece], place: Place, search: Search, budget: Budget, *, inside: bool) -> None:
    for piece in pieces:
        if not isinstance(piece, Mail):
            search.take(place, piece)
        elif inside:
            search.unreadable.append("nested")
        elif not _attached(piece.content, search, budget):
            _take(read_document(slices(piece.content), "", "", budget), place, search, budget, inside=True)


def _attached(raw: bytes, search: Search, budget: Budget) -> bool:
    """Look at a mail inside of a mail; False where it is none."""
    attached = Message.split(raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    made = structure(attached) if isinstance(attached, Message) else attached
    if not isinstance(attached, Message) or isinstance(made, Malformed):
        return False
    names = b"\n".join(value_of(value) for name, value in attached.fields if name in _NAMING)
    search.body.text(decode_words(names), ends=True)
    _message(attached, made, search, budget, inside=True)
    return True
