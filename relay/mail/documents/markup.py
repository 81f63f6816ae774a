"""HTML as the text that a reader sees, near enough to look for numbers in it: tags removed, entities undone. Linear.

A tag inside a line of text (Outlook puts them in the middle of an account number) leaves nothing behind; any other leaves a
TAB, over which no number goes on, so that two cells of a table never become one number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import unescape

_LONG = re.compile(
    r"&(?=#[0-9]{9})"
)  # no letter has such a number, and Python refuses to read one of thousands of digits
MAX_TAG = 8 * 1024  # characters that a tag cut in two is waited for

_NAMES = ("span", "font", "b", "i", "u", "em", "strong", "small", "mark", "wbr", "o:p")
# Both cases written out: an expression that ignores case costs three times as much here.
_INLINE = re.compile(rf"</?(?:{'|'.join([*_NAMES, *(name.upper() for name in _NAMES)])})(?:\s[^<>]*+)?>")
_TAG = re.compile(r"<[^<>]*+>")


def shown(html: str) -> str:
    """The text of a piece of HTML."""
    if "<" in html:
        html = _TAG.sub("\t", _INLINE.sub("", html))
    return unescaped(html) if "&" in html else html


def unescaped(html: str) -> str:
    """Character references undone; one to a number that no letter has stays as it is written. Never raises."""
    try:
        return unescape(html)
    except ValueError:
        return unescape(_LONG.sub("&amp;", html))


def shown_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The same for a long text in pieces, none of whose tags is torn."""
    left = ""
    for piece in pieces:
        left += piece
        cut = left.rfind("<")
        if cut < 0 or left.find(">", cut) >= 0 or len(left) - cut > MAX_TAG:
            cut = len(left)
        yield shown(left[:cut])
        left = left[cut:]
    if left:
        yield shown(left)
