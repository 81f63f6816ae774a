"""Links of a mail's text, and whether a person can find a way out among them (UNSUB-10).

Theory of operation. Nothing is parsed into a tree. Words are found with `str.find`, the anchor around or beside a word
with `rfind`, and what hides it by following the one kind of element that has a hiding style. Every step runs forward over
the text at most once, which is cut to 64 KB before (MSG-11). Styles in a <style> sheet are not read: too often they hide
for one screen width only, and then the link is there after all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

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

_HREF = re.compile(r"""\bhref\s{0,20}=\s{0,20}(?:"([^"<>]*)"|'([^'<>]*)'|([^\s"'<>]+))""")
_PLAIN_LINK = re.compile(r"(?:https?://|mailto:|www\.)[^\s<>\"']{3,}|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,100}")
_NAME = re.compile(r"[a-z][a-z0-9]*")
_HIDES = (
    ("display", re.compile(r"display\s{0,9}:\s{0,9}none")),
    ("visibility", re.compile(r"visibility\s{0,9}:\s{0,9}hidden")),
    ("font-size", re.compile(r"font-size\s{0,9}:\s{0,9}(?:0(?![\d.])|[0-5](?:\.\d{1,4})?p[xt])")),
    ("opacity", re.compile(r"opacity\s{0,9}:\s{0,9}0(?![\d.])")),
    ("color", re.compile(r"color\s{0,9}:")),
)
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
    return WayOut(html, _in_plain(lower, known), _PLAIN_LINK.search(lower) is not None)


def links(html: str) -> list[str]:
    """Targets of the links in an HTML text, as written with `&amp;` undone."""
    found = _HREF.findall(html)
    return [(a or b or c).replace("&amp;", "&") for a, b, c in found]


def plain_links(text: str) -> list[str]:
    """Links and addresses in a plain text, as written."""
    return _PLAIN_LINK.findall(text)


def _in_html(lower: str, uris: list[str]) -> bool:
    for uri in uris:
        for place in _places(lower, uri.replace("&", "&amp;")) or _places(lower, uri):
            if not _is_hidden(lower, place):
                return True
    return any(_leads_out(lower, place) for word in OPT_OUT_WORDS for place in _places(lower, word))


def _leads_out(lower: str, place: int) -> bool:
    """Whether the opt-out word at `place` is in, or beside, a link that can be seen."""
    anchor = lower.rfind("<a", 0, place)
    if anchor >= 0 and "</a" not in lower[anchor:place]:
        return _is_link(lower, anchor) and not _is_hidden(lower, place)
    if anchor >= 0 and place - anchor < 2 * NEAR and _is_link(lower, anchor) and not _is_hidden(lower, anchor + 2):
        return True
    after = lower.find("<a", place, place + NEAR)
    if after >= 0 and _is_link(lower, after):
        return not _is_hidden(lower, after + 2)
    # An address to write to is a way out too (UNSUB-10: "link or address").
    near = lower[max(0, place - NEAR) : place + NEAR]
    return "@" in near and _PLAIN_LINK.search(near) is not None and not _is_hidden(lower, place)


def _is_link(lower: str, anchor: int) -> bool:
    end = lower.find(">", anchor)
    match = _HREF.search(lower, anchor, end if end >= 0 else len(lower))
    if match is None:
        return False
    target = (match[1] or match[2] or match[3] or "").strip()
    return len(target) > 1 and not target.startswith(("#", "javascript:"))


def _in_plain(lower: str, uris: list[str]) -> bool:
    if any(uri in lower for uri in uris):
        return True
    for word in OPT_OUT_WORDS:
        for place in _places(lower, word):
            if _PLAIN_LINK.search(lower, max(0, place - NEAR), min(len(lower), place + NEAR)):
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


def _is_hidden(lower: str, place: int) -> bool:
    """Whether an element around `place`, or the tag it stands in, has an inline style that hides it."""
    tag_end = lower.find(">", place)
    limit = (tag_end if tag_end >= 0 else place) if lower.rfind("<", 0, place) > lower.rfind(">", 0, place) else place
    return any(_hidden_by(lower, place, limit, key, pattern) for key, pattern in _HIDES)


def _hidden_by(lower: str, place: int, limit: int, key: str, pattern: re.Pattern[str]) -> bool:
    hit = lower.find(key, 0, limit)
    while hit >= 0:
        following = hit + len(key)
        tag = lower.rfind("<", 0, hit)
        if tag >= 0 and pattern.match(lower, hit) and lower.find(">", tag, hit) < 0:
            end = lower.find(">", hit)
            if end < 0:
                end = len(lower)
            if key != "color" or _same_colour(lower[tag:end]):
                close = _close_of(lower, tag, end, place)
                if close > place:
                    return True
                following = max(following, close)
        hit = lower.find(key, following, limit)
    return False


def _same_colour(tag: str) -> bool:
    colour, ground = _COLOUR.search(tag), _GROUND.search(tag)
    return colour is not None and ground is not None and colour[1].strip() == ground[1].strip()


def _close_of(lower: str, tag: int, end: int, place: int) -> int:
    """Where the element that starts at `tag` ends; some offset past `place` if it is still open there."""
    match = _NAME.match(lower, tag + 1)
    if match is None or match[0] in _VOID or lower[end - 1 : end] == "/":
        return end
    name = match[0]
    depth, position = 1, end
    while True:
        close = lower.find(f"</{name}", position, place)
        if close < 0:
            return place + 1
        opened = lower.find(f"<{name}", position, close)
        while opened >= 0:
            depth += 1
            opened = lower.find(f"<{name}", opened + 1, close)
        depth -= 1
        position = close + 2
        if depth <= 0:
            return close
