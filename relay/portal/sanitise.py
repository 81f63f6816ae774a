"""Hostile HTML made harmless for reading: an allow-list of tags that only lay out text, and nothing that fetches or acts.

No image, style, form, frame, script or link is left, so nothing is loaded and nothing can be pressed; where a link led stands
behind its text, since that is what people check. The page that shows it is sandboxed besides (relay.portal.held_pages).
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

import nh3
from selectolax.lexbor import LexborHTMLParser

TAGS = {
    *("a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "del", "div", "dl", "dt", "em"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "s", "small", "span"),
    *("strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "center", "font"),
}  # fmt: skip
# What stands in these is no text: it goes with them.
EMPTIED = {
    "script",
    "style",
    "title",
    "template",
    "noscript",
    "svg",
    "math",
    "iframe",
    "object",
    "head",
    "select",
    "textarea",
}
ATTRIBUTES: dict[str, set[str]] = {
    "*": set(),
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "ol": {"start"},
}
MAX_LINKS = 500
MAX_SHOWN = 200  # characters of where a link leads
MAX_ELEMENTS = 10_000  # elements within elements, and ends of none, cost their square by the rules of HTML
_EDGES = (re.compile(r"<[a-zA-Z]"), re.compile(r"</[a-zA-Z]"))
# What parsers open again in every cell and paragraph until it is closed. Of those alike it is three at most, so attributes go.
_REOPENED = re.compile(r"<(b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)[\s/][^>]*+>?", re.IGNORECASE)


class Cleaned(NamedTuple):
    """HTML that was made harmless; `is_cut`: there was more."""

    html: str
    is_cut: bool


def clean(html: str) -> Cleaned:
    """The text of `html` with its layout, as far as `bounded` leaves it. In a thread where that is long."""
    kept = bounded(html)
    made = nh3.clean(
        _with_links_told(kept.html),
        tags=TAGS,
        clean_content_tags=EMPTIED,
        attributes=ATTRIBUTES,
        link_rel=None,
        strip_comments=True,
        generic_attribute_prefixes=set(),
        url_schemes=set(),
    )
    return kept._replace(html=made)


def bounded(html: str) -> Cleaned:
    """As much of it as a parser can be given, and nothing in it that grows there: still as hostile as it was."""
    surplus = [next(itertools.islice(edge.finditer(html), MAX_ELEMENTS, None), None) for edge in _EDGES]
    end = min((match.start() for match in surplus if match is not None), default=len(html))
    return Cleaned(_REOPENED.sub(r"<\1>", html[:end]), end < len(html))


def _with_links_told(html: str) -> str:
    """The same with the address of each link, and the words in place of each image, as text behind it."""
    if "<" not in html:
        return html
    tree = LexborHTMLParser(html)
    for link in tree.css("a[href]")[:MAX_LINKS]:
        where = (link.attributes.get("href") or "").strip()
        if where and not where.startswith("#") and where not in link.text():
            link.insert_after(f" [{where[:MAX_SHOWN]}]")
    for image in tree.css("img[alt]")[:MAX_LINKS]:
        words = (image.attributes.get("alt") or "").strip()
        if words:
            image.insert_after(f"[{words[:MAX_SHOWN]}]")
    return tree.html or ""
