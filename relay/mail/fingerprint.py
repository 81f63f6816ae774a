"""What a body says once everything personal is gone: equal for the mails of one campaign (CLASS-9)."""

from __future__ import annotations

from relay.mail.message import Message
from relay.mail.texts import read_texts

MAX_NORMAL_BYTES = 2 * 1024
MAX_WORDS = 600
MIN_WORDS = 5  # fewer say nothing: "thanks, see you then" is no campaign
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


def text_of(message: Message) -> bytes:
    """The normalised text of a message, to be hashed and counted; b"" for one with too few words to be counted at all."""
    texts = read_texts(message, 4 * MAX_NORMAL_BYTES)
    normal = normalise(texts.plain or _without_tags(texts.html))
    return normal if normal.count(b" ") >= MIN_WORDS - 1 else b""


def _without_tags(html: str) -> str:
    """Text between the tags; what stands between < and > is gone, in one pass."""
    return " ".join(piece.rpartition(">")[2] for piece in html.split("<"))
