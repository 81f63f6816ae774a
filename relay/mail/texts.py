"""The text that a person reads: HTML and plain parts of a message, decoded and cut to a bounded length (MSG-11)."""

from __future__ import annotations

from typing import NamedTuple

from relay.mail.message import Malformed, Message
from relay.mail.mime import decode_text, structure, walk

MAX_TEXT_BYTES = 64 * 1024  # of both kinds together


class Texts(NamedTuple):
    """HTML and plain text of the parts that are shown, each "" when there is none."""

    html: str
    plain: str


class _Kept(NamedTuple):
    limit: int
    whole: bool  # nothing was cut, so that a larger limit gives the same
    texts: Texts


def read_texts(message: Message, limit: int = MAX_TEXT_BYTES) -> Texts:
    """The shown texts of a message, from at most `limit` octets of it. Attachments are left out. Never raises.

    Decoded once for all who ask, where their limits allow; `Message.texts` keeps it until intake lets go.
    """
    kept = message.texts
    if isinstance(kept, _Kept) and (kept.limit == limit or (kept.whole and kept.limit < limit)):
        return kept.texts
    html: list[str] = []
    plain: list[str] = []
    left = limit
    made = structure(message)
    for part in walk(message) if isinstance(made, Malformed) else made.parts:
        if left <= 0:
            break
        kind = part.content_type
        if kind not in ("text/html", "text/plain") or part.is_attachment:
            continue
        text = decode_text(part, message.raw, left)
        left -= len(text)
        (html if kind == "text/html" else plain).append(text)
    found = Texts("\n".join(html), "\n".join(plain))
    message.texts = _Kept(limit, message.size <= limit, found)
    return found
