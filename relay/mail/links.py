"""Links of a mail's text, and whether a person can find a way out among them (UNSUB-10).

Theory of operation. Nothing is parsed into a tree. Words are found with `str.find`, the anchor around or beside a word
with `rfind`, and what hides it by following the one kind of element that has a hiding style. Every step runs forward over
the text at most once, which is cut to 64 KB before (MSG-11). Styles in a <style> sheet are not read: too often they hide
for one screen width only, and then the link is there after all.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from relay.mail.flat import comments
from relay.mail.texts import Texts

OPT_OUT_WORDS = (
    "unsubscri",
    "afmeld",
    "uitschrijv",
    "uitschrijf",
    "opt-out",
    "opt out",
    "optout",
    "meld je af",
    "meld u af",
    "meld mij af",
    "schrijf je uit",
    "schrijf u uit",
    "abmeld",
    "abbestell",
    "austragen",
    "désabonn",
    "desabonn",
    "désinscri",
    "desinscri",
)  # en, nl, de, fr
NEAR = 200  # characters between a word and the link that it is about
MAX_HITS = 60  # places of one word that are looked at
MAX_TAG = 4_000  # characters of a tag with its attributes

# No expression begins with a class or \b: a literal in front lets the engine skip.
_HREF = re.compile(r"""href\s{0,20}=\s{0,20}(?:"([^"<>]*)"|'([^'<>]*)'|([^\s"'<>]+))""")
_PLAIN_URL = re.compile(r"https?://[^\s<>\"']{3,}")
_AT_DOMAIN = re.compile(r"@[\w-]{1,63}\.[\w.-]{1,100}")
_WORDS = re.compile(r">([^<]++)")
_UNREAD = ("style", "script", "title", "template")
_NAME = re.compile(r"[a-z][a-z0-9]{0,30}")
_HIDES = (
    re.compile(r"display\s{0,9}:\s{0,9}none"),
    re.compile(r"visibility\s{0,9}:\s{0,9}hidden"),
    re.compile(r"font-size\s{0,9}:\s{0,9}(?:0(?![\d.])|[0-5](?:\.\d{1,4})?p[xt])"),
    re.compile(r"opacity\s{0,9}:\s{0,9}0(?![\d.])"),
)
_GROUNDED = re.compile(r"background(?:-color)?\s{0,9}:")  # hides where the letters have the same colour
_COLOUR = re.compile(r"(?<![\w-])color\s{0,9}:\s{0,9}([#\w(),. %]{1,40})")
_GROUND = re.compile(r"(?<![\w-])background(?:-color)?\s{0,9}:\s{0,9}([#\w(),. %]{1,40})")
_VOID = frozenset(("img", "br", "hr", "input", "meta", "link", "area", "base", "col", "source", "wbr"))


class WayOut(NamedTuple):
    """What was found: `html` and `plain` are None when the mail has no such part."""

    html: bool | None
    plain: bool | None
    plain_has_link: bool


def find_way_out(texts: Texts, uris: Iterable[str] = ()) -> WayOut:
    """Whether each part of the mail holds an opt-out link that a person can find; `uris` are those of the header."""
    known = [uri.lower() for uri in uris]
    html = _in_html(texts.html.lower(), known) if texts.html else None
    if not texts.plain:
        return WayOut(html, None, False)
    lower = texts.plain.lower()
    return WayOut(html, _in_plain(lower, known), _has_link(lower))


def links(html: str) -> list[str]:
    """Targets of the links in an HTML text, as written with `&amp;` undone."""
    found = _HREF.findall(html)
    return [(a or b or c).replace("&amp;", "&") for a, b, c in found]


def plain_links(text: str) -> list[str]:
    """Web links in a plain text, as written."""
    return _PLAIN_URL.findall(text)


def _has_link(text: str) -> bool:
    """Whether a text holds a web link or an address to write to."""
    return "http" in text or "www." in text or ("@" in text and _AT_DOMAIN.search(text) is not None)


def _in_html(lower: str, uris: list[str]) -> bool:
    page = _Page(lower)
    for uri in uris:
        for place in _places(lower, uri.replace("&", "&amp;")) or _places(lower, uri):
            if _is_offered(page, place):
                return True
    return any(_leads_out(page, place) for word in OPT_OUT_WORDS for place in _places(lower, word))


def _is_offered(page: _Page, place: int) -> bool:
    """Whether the address at `place` is that of a link with something to click on, or stands in the text (UNSUB-10)."""
    lower = page.lower
    if not page.shows(place):
        return False
    tag = lower.rfind("<", max(0, place - MAX_TAG), place)
    end = lower.find(">", place, place + MAX_TAG)
    if tag < 0 or lower.find(">", tag, place) >= 0:
        return True
    if (
        end < 0
        or not lower.startswith(("<a ", "<a\t", "<a\r", "<a\n", "<area", "<form"), tag)
        or not _is_href(lower, tag, place)
    ):
        return False
    if not lower.startswith("<a", tag) or lower.startswith("<area", tag):
        return True
    close = lower.find("</a", end)
    close = min(len(lower) if close < 0 else close, end + MAX_TAG)
    if page.shows_some(lower.find("<img", end, close)):
        return True
    return any(match[1].strip() and page.shows(match.start(1)) for match in _WORDS.finditer(lower, end, close))


def _is_href(lower: str, tag: int, place: int) -> bool:
    """Whether what stands at `place` is the value of href or action, not of another attribute."""
    return lower[tag:place].rstrip("\"' \t\r\n").endswith(("href=", "href =", "action=", "action ="))


def _leads_out(page: _Page, place: int) -> bool:
    """Whether the opt-out word at `place` is in, or beside, a link that can be seen."""
    lower = page.lower
    anchor = lower.rfind("<a", 0, place)
    if anchor >= 0 and lower.find("</a", anchor, place) < 0:
        return _is_link(lower, anchor) and page.shows(place)
    if anchor >= 0 and place - anchor < 2 * NEAR and _is_link(lower, anchor) and page.shows(anchor):
        return True
    after = lower.find("<a", place, place + NEAR)
    if after >= 0 and _is_link(lower, after):
        return page.shows(after)
    # An address to write to is a way out too (UNSUB-10: "link or address").
    near = lower[max(0, place - NEAR) : place + NEAR]
    return _AT_DOMAIN.search(near) is not None and page.shows(place)


def _is_link(lower: str, anchor: int) -> bool:
    end = lower.find(">", anchor)
    match = _HREF.search(lower, anchor, end if end >= 0 else len(lower))
    if match is None:
        return False
    target = (match[1] or match[2] or match[3] or "").strip()
    return len(target) > 1 and not target.startswith(
        ("#", "javascript:", "{{")
    )  # a placeholder leads nowhere by itself


def _in_plain(lower: str, uris: list[str]) -> bool:
    if any(uri in lower for uri in uris):
        return True
    for word in OPT_OUT_WORDS:
        for place in _places(lower, word):
            if _has_link(lower[max(0, place - NEAR) : place + NEAR]):
                return True
    return False


def _places(lower: str, word: str) -> list[int]:
    """Where `word` stands, last first, since the way out is at the foot; at most MAX_HITS."""
    result: list[int] = []
    place = lower.rfind(word)
    while place >= 0 and len(result) < MAX_HITS:
        result.append(place)
        place = lower.rfind(word, 0, place)
    return result


class _Page:
    """An HTML text in lower case and the stretches of it that nobody sees, found when first asked for."""

    __slots__ = ("_hidden", "lower")

    def __init__(self, lower: str) -> None:
        self.lower = lower
        self._hidden: list[tuple[int, int]] | None = None

    def shows(self, place: int) -> bool:
        if self._hidden is None:
            self._hidden = _merged(
                [*_styled_away(self.lower), *comments(self.lower, unclosed=True), *_unread(self.lower)]
            )
        at = bisect_right(self._hidden, (place, len(self.lower)))
        return not at or place >= self._hidden[at - 1][1]

    def shows_some(self, place: int) -> bool:
        """The same for what `find` gave."""
        return place >= 0 and self.shows(place)


def _merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, those that overlap as one."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def _styled_away(lower: str) -> Iterator[tuple[int, int]]:
    for pattern in (*_HIDES, _GROUNDED):
        yield from _hidden_by(lower, pattern, needs_same_colour=pattern is _GROUNDED)


def _unread(lower: str) -> Iterator[tuple[int, int]]:
    """Elements that are no text of the page."""
    for name in _UNREAD:
        start = lower.find(f"<{name}")
        while start >= 0:
            end = lower.find(f"</{name}", start)
            if end < 0:
                break
            yield start, end
            start = lower.find(f"<{name}", end)


def _hidden_by(lower: str, pattern: re.Pattern[str], *, needs_same_colour: bool) -> Iterator[tuple[int, int]]:
    """The elements whose own style attribute matches `pattern`, from their tag to their close; inner ones once."""
    hit = pattern.search(lower)
    while hit is not None:
        following = hit.end()
        tag = lower.rfind("<", max(0, following - MAX_TAG), hit.start())
        if tag >= 0 and lower.find(">", tag, following) < 0:
            end = lower.find(">", following, tag + MAX_TAG)
            if end >= 0 and not (needs_same_colour and not _same_colour(lower[tag:end])):
                close = _close_of(lower, tag, end)
                yield tag, close
                following = max(following, close)
        hit = pattern.search(lower, following)


def _same_colour(tag: str) -> bool:
    colour, ground = _COLOUR.search(tag), _GROUND.search(tag)
    return colour is not None and ground is not None and colour[1].strip() == ground[1].strip()


def _close_of(lower: str, tag: int, end: int) -> int:
    """Where the element that starts at `tag` ends; the end of the text if it is never closed."""
    match = _NAME.match(lower, tag + 1)
    if match is None or match[0] in _VOID or lower[end - 1 : end] == "/":
        return end
    depth = 1
    for found in _tags_of(match[0]).finditer(lower, end):
        depth += -1 if found[1] else 1
        if depth == 0:
            return found.start()
    return len(lower)


@lru_cache(maxsize=64)
def _tags_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"<(/?){name}(?=[\s/>])")
