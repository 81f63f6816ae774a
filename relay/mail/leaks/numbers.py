"""Numbers in text as people write them, found at the speed of memchr.

Theory of operation. An expression that begins with a class of characters costs 15 ns an octet, which for a mail of 10 KB is
more than the rest of its judgement. So the text is first turned into a text of classes (digit, letter, separator, other) by
one table look-up, and numbers are found there as fixed strings. Most mail has none of them, and that is all it costs.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

_SEPARATORS = b" .-\xa0"
CLASSES = bytes(
    48 if 48 <= octet < 58 else 97 if chr(octet).isalpha() and octet < 128 else 32 if octet in _SEPARATORS else 10
    for octet in range(256)
)
"""Digits become `0`, letters `a`, separators a blank, the rest a line feed."""

_EIGHT = b"00000000"
_RUN = re.compile(b"0+")
# No letter or digit touches it, and it is no amount, telephone number abroad or piece of a link.
_BEFORE, _AFTER = rb"(?<![0-9A-Za-z_/+&%])", rb"(?![0-9A-Za-z_])(?!\.[0-9])"
_WHOLE = re.compile(
    rb"(?<=[\[(,])(?<![0-9]\.)[0-9]{8,19}"  # among others in a list: [12,123456782,34]
    + _AFTER
    + rb"|(?:"
    + _BEFORE
    + rb"(?<![0-9]\.)|(?<=bsn)|(?<=BSN))[0-9]{8,19}"
    + _AFTER
    + rb"(?!,[0-9]{2}(?![0-9]))"
)
_GROUPED = (
    b"0000 00 000",  # BSN as on a passport
    b"000 000 000",
    b"0000 0000 0000 0000 000",
    b"0000 0000 0000 0000",
    b"0000 000000 00000",  # American Express
    b"0000 0000 0000 000",  # the same, as people type it
    b"0000 000000 0000",  # Diners Club
)
_GAP = rb"[ .\-\xa0]"


def _shaped(shape: bytes) -> re.Pattern[bytes]:
    """Groups of a shape with one kind of gap between them. A shorter group may follow, as a date or a check code does."""
    first, *more = (b"[0-9]{%d}" % len(group) for group in shape.split(b" "))
    groups = first + b"(" + _GAP + b")" + b"\\1".join(more)
    # No digits and gap before it, as in a telephone number, unless they are the year of a day or, at a card, its code.
    longest = max(len(group) for group in shape.split(b" "))
    much = 4 if shape.count(b"0") >= 13 else 1
    before = _BEFORE + rb"(?<![0-9][,.])(?:(?<![0-9]{%d}" % much + _GAP + rb")|(?<=[0-9][\-/][0-9]{4} ))"
    return re.compile(before + groups + _AFTER + rb"(?!,[0-9])(?!" + _GAP + b"[0-9]{%d})" % min(longest, 5))


_SHAPES = tuple((shape, _shaped(shape)) for shape in _GROUPED)
_BLANKS = (
    (b"\xc2\xa0", b" "),
    (b"\xc2\xad", b""),
    (b"\xe2\x81\xa0", b""),
    (b"\xe2\x88\x92", b"-"),
    (b"\xe3\x80\x80", b" "),
    (b"\xef\xbb\xbf", b""),
)
_SIGNS = re.compile(rb"\xe2\x80[\x80-\x93\xaa-\xaf]")
_KINDS = (
    (re.compile(rb"\xe2\x80[\x80-\x8a\xaf]"), b" "),  # blanks of every width
    (re.compile(rb"\xe2\x80[\x8b-\x8f\xaa-\xae]"), b""),  # of none, and those that join letters or turn the line
    (re.compile(rb"\xe2\x80[\x90-\x93]"), b"-"),  # hyphens, the one that does not break, en dash
)


class Words:
    """Where the words of one kind stand in a text; looked for when the first number asks."""

    __slots__ = ("_data", "_near", "_pattern", "_places")

    def __init__(self, data: bytes, pattern: re.Pattern[bytes], near: int) -> None:
        self._data = data
        self._pattern = pattern
        self._near = near
        self._places: list[tuple[int, int]] | None = None

    def beside(self, start: int, end: int) -> bool:
        """Whether a word ends or begins within so many octets of what stands from `start` to `end`."""
        if self._places is None:
            self._places = [match.span() for match in self._pattern.finditer(self._data.lower())]
        places = self._places
        after = bisect_right(places, (start, 0))
        if after and start - places[after - 1][1] <= self._near:
            return True
        return after < len(places) and places[after][0] - end <= self._near


Number = tuple[int, int, bytes]
"""`(start, end, digits)`: a number at `data[start:end]`, its digits without separators."""


def plain(text: str) -> bytes:
    """A text as octets in which what looks like a blank or a hyphen is one, and blanks that cannot be seen are gone."""
    octets = text.encode("utf-8", "replace")
    if not text.isascii():
        for blank, instead in _BLANKS:
            octets = octets.replace(blank, instead)
        if _SIGNS.search(octets):
            for signs, instead in _KINDS:
                octets = signs.sub(instead, octets)
    return octets


def numbers(data: bytes, classes: bytes) -> Iterator[Number]:
    """Every number of 8 to 19 digits that stands by itself: whole, or in the groups of a BSN or a card."""
    place = classes.find(_EIGHT)
    while place >= 0:
        match = _WHOLE.match(data, place)
        if match is None:
            match = _RUN.match(classes, place)
            end = match.end() if match else place + 8
        else:
            end = match.end()
            yield place, end, match[0]
        place = classes.find(_EIGHT, end)
    for shape, pattern in _SHAPES:
        place = classes.find(shape)
        while place >= 0:
            match = pattern.match(data, place)
            if match is not None:
                yield place, match.end(), match[0].replace(match[1], b"")
                place = classes.find(shape, match.end())
            else:
                place = classes.find(shape, place + 1)


def ends_longer(classes: bytes, start: int) -> bool:
    """Whether a digit and a separator stand right before a number, as in the middle of a telephone number."""
    return start >= 2 and classes[start - 2 : start] == b"0 "
