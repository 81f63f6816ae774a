"""HTML as lines of words, for whoever looks for words next to each other: `20% <b>korting</b>` is one offer (CLASS-8). Linear."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mail.entities import unescape

APART = "<"  # stands between what two cells or paragraphs say

_NAMES = "a|b|i|u|s|em|strong|span|font|small|big|mark|sub|sup|wbr|o:p|ins|del|code|label|tt|abbr|bdo"
# A value may hold a > of its own. Both bounds keep a quote that is never closed from being read over and over.
_INLINE = re.compile(rf"</?(?:{_NAMES})(?=[\s/>])(?:[^<>\"']++|\"[^\"]{{0,500}}\"|'[^']{{0,500}}'){{0,40}}+>")
_BLANK = re.compile(r"[\t\r\n]++")
_BREAK = re.compile(r"<br(?=[\s/>])[^<>]*+>")
_TAG = re.compile(r"<[^<>]*+>")
_NO_WIDTH = "\u00ad\u034f\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"


def flat(html: str) -> str:
    """The words of an HTML text in lower case, as a reader reads them: one blank between them, a line for each <br>."""
    text = _BLANK.sub(" ", html) if "\t" in html else html.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    if "<" in text:
        if "<!--" in text:
            text = _without_comments(text)
        text = _TAG.sub(APART, _BREAK.sub("\n", _INLINE.sub("", text)))
    text = unescape(text).lower() if "&" in text else text
    if not text.isascii():
        text = text.replace("\xa0", " ")
        for mark in _NO_WIDTH:  # ten times as fast as one expression
            text = text.replace(mark, "")
    while "  " in text:  # halves every run
        text = text.replace("  ", " ")
    return text


def comments(html: str, *, unclosed: bool = False) -> Iterator[tuple[int, int]]:
    """`(start, end)` of every comment; of one that is never closed only where asked: some readers show it."""
    start = html.find("<!--")
    while start >= 0:
        inside = start + 4
        if html.startswith((">", "->"), inside):  # "<!-->" is a whole comment
            end = html.index(">", inside) + 1
        else:
            end = html.find("-->", inside) + 3
            if end < 3:
                if unclosed:
                    yield start, len(html)
                return
        yield start, end
        start = html.find("<!--", end)


def _without_comments(html: str) -> str:
    kept: list[str] = []
    done = 0
    for start, end in comments(html):
        kept.append(html[done:start])
        done = end
    return "".join([*kept, html[done:]])
