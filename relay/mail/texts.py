"""The text that a person reads: HTML and plain parts of a message, decoded and cut to a bounded length (MSG-11).

Theory of operation. A part is text because a reader shows it, not because of what it is called: a name makes no attachment
of the first part, nor of one that is to be shown inline. Of a text over the limit, what no reader shows (comments, styles)
counts last, so that a long comment in front does not hide what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relay.mail.message import Malformed, Message
from relay.mail.mime import Part, decode_text, structure, walk

MAX_TEXT_BYTES = 64 * 1024  # of both kinds together
MAX_HTML_BYTES = 1024 * 1024  # of one part that are decoded to find MAX_TEXT_BYTES that are shown
MAX_UNSEEN = 2_000  # characters of one comment or style that are kept, behind the text

HTML = frozenset(("text/html", "application/xhtml+xml", "text/x-amp-html", "text/watch-html"))
_NO_TEXT = frozenset(("text/calendar", "text/vcard", "text/x-vcard", "text/directory"))
_WOVEN = frozenset(("multipart/alternative", "multipart/related"))  # what they hold is the body, or belongs to it
_UNSEEN = re.compile(r"<(?:(!--)(-?>)?|(style|script)(?=[\s/>]))", re.IGNORECASE)
_CLOSES = {
    "!--": re.compile(r"--!?>"),
    "style": re.compile(r"</style", re.IGNORECASE),
    "script": re.compile(r"</script", re.IGNORECASE),
}


class Texts(NamedTuple):
    """HTML and plain text of the parts that are shown, each "" when there is none."""

    html: str
    plain: str


class _Kept(NamedTuple):
    limit: int
    whole: bool  # nothing was cut, so that a larger limit gives the same
    texts: Texts


def read_texts(message: Message, limit: int = MAX_TEXT_BYTES) -> Texts:
    """The shown texts of a message, at most `limit` characters of them. Attachments are left out. Never raises.

    Decoded once for all who ask, where their limits allow; `Message.texts` keeps it until intake lets go.
    """
    kept = message.texts
    if isinstance(kept, _Kept) and (kept.limit == limit or (kept.whole and kept.limit < limit)):
        return kept.texts
    html: list[str] = []
    plain: list[str] = []
    left = limit
    made = structure(message)
    for part in shown_parts(tuple(walk(message)) if isinstance(made, Malformed) else made.parts):
        if left <= 0:
            break
        if part.content_type in HTML:
            text = _read_html(part, message.raw, left)
            html.append(text)
        else:
            text = decode_text(part, message.raw, left)
            plain.append(text)
        left -= len(text)
    found = Texts("\n".join(html), "\n".join(plain))
    message.texts = _Kept(limit, message.size <= limit, found)
    return found


def shown_parts(parts: Sequence[Part]) -> Iterator[Part]:
    """The text parts that a reader shows, in order, whatever their names (RFC 2183 section 2).

    Shown is what Content-Disposition does not call an attachment; and even then the first text, which may be all there is,
    and what multipart/alternative holds.
    """
    above: dict[int, str] = {}  # containers that the walk is inside of, by depth
    is_first = True
    for part in parts:
        kind = part.content_type
        if part.is_container:
            above[part.depth] = kind
        elif kind in HTML or (kind.startswith("text/") and kind not in _NO_TEXT):
            if is_first or above.get(part.depth - 1) in _WOVEN or not part.is_saved:
                yield part
            is_first = False


def _read_html(part: Part, raw: bytes, limit: int) -> str:
    if part.end - part.start <= limit:
        return decode_text(part, raw, limit)
    text = decode_text(part, raw, max(limit, MAX_HTML_BYTES))
    return text if len(text) <= limit else _seen_first(text, limit)


def _seen_first(html: str, limit: int) -> str:
    """At most `limit` characters: the text without its comments, styles and scripts, then the beginnings of those.

    They are not dropped: Outlook shows what stands in conditional comments, and what looks like a style may be none.
    """
    seen: list[str] = []
    unseen: list[str] = []
    done = room = 0
    found = _UNSEEN.search(html)
    while found is not None and room < limit:
        following = found.end()
        if found[2] is None:  # "<!-->" is a whole comment
            close = _CLOSES[(found[1] or found[3]).lower()].search(html, following)
            if close is None:
                break  # a reader may show the rest
            following = close.end()
            seen.append(html[done : found.start()])
            room += found.start() - done
            inside = html[found.start() : close.start()]
            unseen += (inside[:MAX_UNSEEN], close[0])
            done = following
        found = _UNSEEN.search(html, following)
    seen.append(html[done:])
    return ("".join(seen)[:limit] + "".join(unseen))[:limit]
