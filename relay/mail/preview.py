"""What a person may see of a mail that waits, without opening it: who writes to whom about what, its text, its files by name.

Nothing here is safe to show as it is: HTML comes as it was written, for whoever shows it to clean. Names and fields come without
characters that could turn the reading of a line around or break it. All is bounded, whatever the mail holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from relay.mail import calendar
from relay.mail.message import Malformed, Message
from relay.mail.mime import Part, decode_text, structure, walk
from relay.mail.words import decode_words

MAX_HTML_OCTETS = 400_000
MAX_PLAIN_OCTETS = 200_000
MAX_FILES = 200
MAX_NAME = 120
MAX_FIELD = 2_000
MAX_SUBJECT = 200
FIELDS = (b"from", b"to", b"cc", b"reply-to", b"date")

_TEXTS = frozenset(("text/html", "text/plain"))
_SEALED = frozenset(("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"))


class File(NamedTuple):
    """An attachment. `size` in octets, about, as it would be saved; `content_type` is what the mail says of it."""

    name: str
    content_type: str
    size: int


class Content(NamedTuple):
    """`html` and `plain` as written, "" for none. `is_cut`: there is more. `is_sealed`: encrypted, or signed opaquely."""

    subject: str
    fields: dict[str, str]
    html: str
    plain: str
    files: tuple[File, ...]
    is_cut: bool
    is_sealed: bool

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "files": [one._asdict() for one in self.files]}


def subject_of(message: Message) -> str:
    """The decoded subject, on one line; "" where there is none."""
    return _shown(message, b"subject", MAX_SUBJECT)


def content(message: Message) -> Content:
    """What there is to see. Never raises."""
    made = structure(message)
    parts = list(walk(message)) if isinstance(made, Malformed) else list(made.parts)
    is_sealed = any(part.content_type in _SEALED for part in parts)
    texts: dict[str, list[str]] = {"text/html": [], "text/plain": []}
    room = {"text/html": MAX_HTML_OCTETS, "text/plain": MAX_PLAIN_OCTETS}
    files: list[File] = []
    is_cut = isinstance(made, Malformed)
    for part in parts:
        if part.is_container and not part.is_attachment:
            continue
        if part.content_type not in _TEXTS or part.is_attachment:
            is_cut = is_cut or len(files) >= MAX_FILES
            if len(files) < MAX_FILES:
                files.append(_file(part))
            continue
        left = room[part.content_type]
        is_cut = is_cut or part.end - part.start > left
        if left > 0:  # shown one after another, as mail programs do
            texts[part.content_type].append(decode_text(part, message.raw, left))
            room[part.content_type] -= part.end - part.start
    if not any(
        text.strip() for found in texts.values() for text in found
    ):  # an invitation may have nothing else to say
        texts["text/plain"] += [
            _invitation(part, message.raw) for part in parts if part.content_type in calendar.TYPES
        ][:1]
    fields = {name.decode(): _shown(message, name, MAX_FIELD) for name in FIELDS}
    return Content(
        subject_of(message),
        fields,
        "".join(texts["text/html"]),
        "".join(texts["text/plain"]),
        tuple(files),
        is_cut,
        is_sealed,
    )


def _invitation(part: Part, raw: bytes) -> str:
    return calendar.told(decode_text(part, raw, calendar.MAX_TOLD))


def _file(part: Part) -> File:
    size = part.end - part.start
    name = visible(part.filename)[:MAX_NAME]
    return File(name, visible(part.content_type)[:MAX_NAME], size * 3 // 4 if part.encoding == "base64" else size)


def _shown(message: Message, name: bytes, limit: int) -> str:
    value = message.get(name)
    return visible(decode_words(value[: 4 * limit]))[:limit].strip() if value else ""


def visible(text: str) -> str:
    """One line: what does not show itself (line ends, marks that turn the direction of reading) becomes a blank."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
