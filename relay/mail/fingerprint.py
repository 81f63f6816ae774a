"""What a body says once everything personal is gone: equal for the mails of one campaign (CLASS-9)."""

from __future__ import annotations

from hashlib import blake2b

from relay.mail.message import Message
from relay.mail.texts import read_texts

MAX_NORMAL_BYTES = 2 * 1024
MAX_WORDS = 600
_EDGES = ".,;:!?()[]{}<>\"'*_-"


def normalise(text: str) -> bytes:
    """At most 2 KB of the lower-case words of `text`: no names, numbers, addresses, links, tokens or markup.

    A word with a capital goes (names), one with a digit or a sign inside goes (links, tokens, order numbers).
    """
    words: list[str] = []
    for word in text[: 4 * MAX_NORMAL_BYTES].split():
        bare = word.strip(_EDGES)
        if bare.isalpha() and bare.islower() and len(bare) <= 40:
            words.append(bare)
            if len(words) >= MAX_WORDS:
                break
    return " ".join(words).encode()[:MAX_NORMAL_BYTES]


def fingerprint(message: Message) -> bytes:
    """16 octets for counting equal bodies; b"" for a body with too few words to say anything."""
    texts = read_texts(message, 4 * MAX_NORMAL_BYTES)
    normal = normalise(texts.plain or _without_tags(texts.html))
    return blake2b(normal, digest_size=16).digest() if normal.count(b" ") >= 4 else b""


def _without_tags(html: str) -> str:
    """Text between the tags; what stands between < and > is gone, in one pass."""
    return " ".join(piece.rpartition(">")[2] for piece in html.split("<"))
