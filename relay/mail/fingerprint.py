"""What a mail says once everything personal is gone: alike for the mails of one campaign, in whoever's name (CLASS-9).

Theory of operation. Of a bounded piece of the text that its sender wrote himself (no quotes, no signature below the greeting)
the lower-case words are kept. Every three words in a row are hashed; in each of some bins of the hashes the smallest stays, so
that two texts agree in a bin with the chance that is their likeness (one permutation min-hash). Two bins make a mark: texts of
which nine tenths are alike share each mark in four of five cases, unrelated ones never. A short text has one mark, of all of it.
Only marks are kept, and nobody gets back from them to a text.
"""

from __future__ import annotations

import re
from itertools import islice
from zlib import crc32

from relay.mail.message import Message
from relay.mail.texts import read_texts

MAX_NORMAL_BYTES = 2 * 1024
MAX_WORDS = 200
MIN_WORDS = 5  # fewer say nothing: "thanks, see you then" is no campaign
LONG_WORDS = 12  # fewer are alike by chance: "thank you for your message, we will answer soon"
MAX_BELOW = 120  # words below a greeting that are signature and disclaimer, alike in everybody's mail; more are a text
MARKS = 3
_BINS = 2 * MARKS
_NONE = 1 << 32
_EDGES = ".,;:!?()[]{}<>\"'*_-"
_READ = 2 * MAX_NORMAL_BYTES
_QUOTES_BEGIN = frozenset("-_bofvBOFV")
# Each pattern is tried at the start of a line of bounded length, without repetition of what repeats: linear.
_QUOTE = re.compile(
    r"-{2,}\s?(?:original message|oorspronkelijk bericht|forwarded message|doorgestuurd bericht)|begin forwarded message"
    r"|(?:op|on)\b.{4,200}\b(?:schreef|wrote)\b.{0,80}:$|_{20,}$|(?:van|from): .{0,200}@",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"(?:(?:met )?(?:vriendelijke|hartelijke|zonnige) groet|groeten|groetjes|groet,|mvg\b|hoogachtend"
    r"|(?:kind |best |warm )?regards|best wishes|yours |sincerely|cheers,?$)",
    re.IGNORECASE,
)
_QUOTED_HTML = re.compile(r"<blockquote|gmail_quote|divRplyFwdMsg|moz-cite-prefix|yahoo_quoted", re.IGNORECASE)
_BREAKS = ("br", "p", "/p", "div", "/div", "tr", "/tr", "li", "h1", "h2", "h3", "table", "/td")


def normalise(text: str) -> bytes:
    """At most 2 KB of the lower-case words of `text`: no names, numbers, addresses, links, tokens or markup.

    A word with a capital goes (names), one with a digit or a sign inside goes (links, tokens, order numbers).
    """
    words: list[str] = []
    for word in text[:_READ].split():
        if not word.isalpha():
            word = word.strip(_EDGES)
            if not word.isalpha():
                continue
        if word.islower() and len(word) <= 40:
            words.append(word)
            if len(words) >= MAX_WORDS:
                break
    return " ".join(words).encode()[:MAX_NORMAL_BYTES]


def text_of(message: Message) -> bytes:
    """The normalised text that the sender wrote; b"" for one with too few words to be counted at all."""
    texts = read_texts(message, 2 * _READ)
    answers = bool(message.get(b"in-reply-to") or message.get(b"references"))
    html = texts.html
    if not texts.plain and html:
        quote = _QUOTED_HTML.search(html, 0, _READ) if answers else None
        html = html[: quote.start()] if quote else html
    normal = normalise(own_text(texts.plain or _without_tags(html), answers=answers))
    return normal if normal.count(b" ") >= MIN_WORDS - 1 else b""


def own_text(text: str, *, answers: bool) -> str:
    """`text` without what is not its sender's own: quoted lines, the mail that he `answers`, what stands below the greeting.

    A mail that answers none may say "forwarded message" above whatever it likes, so there that is its own text.
    """
    lines = text[:_READ].splitlines()
    kept: list[str] = []
    greeted = 0
    for line in lines:
        bare = line.strip()
        if bare[:1] == ">":
            continue
        if bare == "--":
            break
        if answers and bare[:1] in _QUOTES_BEGIN and len(bare) < 300 and _QUOTE.match(bare):
            break
        if len(bare) < 60 and _GREETING.match(bare):
            greeted = len(kept)
        kept.append(line)
    if greeted and len(" ".join(kept[greeted:]).split()) <= MAX_BELOW:
        kept = kept[:greeted]
    return "\n".join(kept)


def marks_of(text: bytes) -> tuple[int, ...]:
    """MARKS numbers of 32 bits that say what a normalised text is like; one for a short text, none for no text."""
    words = text.split(b" ")
    if len(words) < LONG_WORDS:
        return (crc32(text),) if len(words) >= MIN_WORDS else ()
    least = [_NONE] * _BINS
    for hashed in map(crc32, map(b" ".join, zip(words, islice(words, 1, None), islice(words, 2, None), strict=False))):
        place = hashed % _BINS
        if hashed < least[place]:
            least[place] = hashed
    return tuple(crc32(b"%d %d %d" % (mark, *least[2 * mark : 2 * mark + 2])) for mark in range(MARKS))


def _without_tags(html: str) -> str:
    """Text between the tags, a line for each block; what stands between < and > is gone, in one pass."""
    parts: list[str] = []
    for piece in html[: 4 * _READ].split("<"):
        tag, _, text = piece.rpartition(">")
        name = tag[:8].partition(" ")[0].rstrip("/").lower()
        parts.append(f"\n{text}" if name in _BREAKS else text)
    return " ".join(parts)
