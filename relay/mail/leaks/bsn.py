"""Citizen service numbers (DLP-1): the eleven test, and what must stand beside one before it is believed.

One number in eleven passes by chance, so a number alone says nothing. It counts where a word says what it is, or where it is
one of a crowd that passes: at least three, and four fifths of the numbers of that length in the same column or part.
"""

from __future__ import annotations

import re

from relay.mail.leaks.findings import MAX_DISTINCT
from relay.mail.leaks.numbers import Words

NEAR = 60  # octets between a number and its word
_SHARE = 0.8

_NAMES = (
    rb"(?<![a-z])b(?:sn|\.s\.n)|burger[ -]?service[ -]?(?:nummer|nr)|sofi[ -]{0,2}(?:nummer|nr)|citizen service number"
)
_STRONG = re.compile(_NAMES)
_WORD = re.compile(_NAMES + rb"|geboortedatum")
_CHAMBER = re.compile(rb"(?:kvk|k\.v\.k\.|koophandel)[- ]?(?:nummer|nr)?\.?:? ?$")
_TELEPHONE = re.compile(rb"(?:(?:\+|(?<![0-9])00)[1-9][0-9]{1,2}(?: ?\(0\))?|(?<![0-9])06)[ .\-/]{1,3}$")
_OTHER = re.compile(rb"(?:polis|dossier|order|bestel|factuur|rsin)[- ]?(?:nummer|nr)?[).:]{0,3} ?$")
_COMPANY = re.compile(rb"(?<![a-z])rsin(?![a-z])|loonheffing")
_YEAR = (b"19", b"20")


def passes(digits: bytes) -> bool:
    """The eleven test: 9a+8b+7c+6d+5e+4f+3g+2h-1i is divisible by 11. Eight digits lack their leading zero."""
    if len(digits) == 8:
        digits = b"0" + digits
    if len(digits) != 9 or digits == b"000000000":
        return False
    a, b, c, d, e, f, g, h, i = digits
    # The weights of the digits' code points add up to 48 * (9+8+7+6+5+4+3+2-1) = 48 * 43.
    return (9 * a + 8 * b + 7 * c + 6 * d + 5 * e + 4 * f + 3 * g + 2 * h - i - 2064) % 11 == 0


def is_date(digits: bytes) -> bool:
    """Eight digits that read as a day: 19840512, 12051984."""
    if len(digits) != 8:
        return False
    for year, month, day in ((digits[:4], digits[4:6], digits[6:]), (digits[4:], digits[2:4], digits[:2])):
        if year[:2] in _YEAR and b"01" <= month <= b"12" and b"01" <= day <= b"31":
            return True
    return False


def is_chamber(data: bytes, start: int) -> bool:
    """Whether the number at `start` says itself that it is a company's, of the chamber of commerce: eight digits too."""
    return _CHAMBER.search(data[max(0, start - 24) : start].lower()) is not None


def is_other(data: bytes, start: int) -> bool:
    """Whether what stands right before the number at `start` says that it is another: of a telephone, a policy, an order."""
    before = data[max(0, start - 24) : start]
    return _TELEPHONE.search(before) is not None or _OTHER.search(before.lower()) is not None


def names_bsn(text: bytes) -> bool:
    """Whether a column's name, in lower case, says that BSNs follow."""
    return _STRONG.search(text) is not None


def names_company(text: bytes) -> bool:
    """Whether a column's name, in lower case, says that numbers of legal persons follow: all of those pass the test."""
    return _COMPANY.search(text) is not None


def strong_words(data: bytes) -> Words:
    """The words in a text that mean a BSN and nothing else: what eight digits need beside them."""
    return Words(data, _STRONG, NEAR)


def words(data: bytes) -> Words:
    """The words in a text that make a number of nine digits beside them a BSN."""
    return Words(data, _WORD, NEAR)


class Crowd:
    """The numbers of one column or part; nothing of them leaves it but those that count."""

    __slots__ = ("_passed", "_seen")

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._passed: set[bytes] = set()

    def add(self, digits: bytes, good: bool) -> None:
        """One number of eight or nine digits that is no date; `good` where it passes the test."""
        if len(self._seen) < MAX_DISTINCT:
            self._seen.add(digits)
            if good:
                self._passed.add(digits.rjust(9, b"0"))

    def believed(self, least: int) -> set[bytes]:
        """Those that passed, where there are enough of them: among all, or among those of nine digits."""
        if len(self._passed) < least:
            return set()
        if len(self._passed) >= _SHARE * len(self._seen):
            return self._passed
        whole = [digits for digits in self._seen if len(digits) == 9]
        nine = self._passed.intersection(whole)
        return nine if len(nine) >= least and len(nine) >= _SHARE * len(whole) else set()
