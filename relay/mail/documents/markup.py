"""HTML as the text that a reader sees, near enough to look for numbers in it: tags removed, entities undone. Linear.

A tag inside a line of text (Outlook puts them in the middle of an account number) leaves nothing behind; any other leaves a
TAB, over which no number goes on, so that two cells of a table never become one number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from urllib.parse import unquote

_MAILTO = re.compile(r"ailto:([^\s\"'<>?]{3,254})")
_MARKS = str.maketrans("<>=\"'/", "\t\t    ")
_LONG = re.compile(
    r"&(?=#[0-9]{9})"
)  # no letter has such a number, and Python refuses to read one of thousands of digits
MAX_TAG = 8 * 1024  # characters that a tag cut in two is waited for

_NAMES = ("span", "font", "b", "i", "u", "em", "strong", "small", "mark", "wbr", "o:p")
# Both cases written out: an expression that ignores case costs three times as much here.
_INLINE = re.compile(rf"</?(?:{'|'.join([*_NAMES, *(name.upper() for name in _NAMES)])})(?:\s[^<>]*+)?>")
_TAG = re.compile(r"<[^<>]*+>")


def shown(html: str) -> str:
    """The text of a piece of HTML, and behind it the addresses that its links write to."""
    if "ailto:" in html:
        html += "<br>" + " ".join(map(unquote, _MAILTO.findall(html)))
    if "<" in html:
        html = _TAG.sub("\t", _INLINE.sub("", html))
    return unescaped(html) if "&" in html else html


def unescaped(html: str) -> str:
    """Character references undone; one to a number that no letter has stays as it is written. Never raises."""
    try:
        return unescape(html)
    except ValueError:
        return unescape(_LONG.sub("&amp;", html))


def written(xml: str) -> str:
    """Everything that is written in a piece of XML: names of elements and attributes say what their values are."""
    return unescaped(xml.translate(_MARKS)) if "&" in xml else xml.translate(_MARKS)


def written_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The same for a long text in pieces."""
    return _whole_tags(pieces, written)


def shown_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The text of long HTML in pieces, none of whose tags is torn."""
    return _whole_tags(pieces, shown)


def _whole_tags(pieces: Iterable[str], read: Callable[[str], str]) -> Iterator[str]:
    left = ""
    for piece in pieces:
        left += piece
        cut = left.rfind("<")
        if cut < 0 or left.find(">", cut) >= 0 or len(left) - cut > MAX_TAG:
            cut = len(left)
        yield read(left[:cut])
        left = left[cut:]
    if left:
        yield read(left)
