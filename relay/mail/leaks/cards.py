"""Payment cards (DLP-3): length, first digits of a known issuer, the check digit of Luhn (ISO/IEC 7812-1 annex B).

One number in ten passes Luhn by chance, and a list of articles or parcels holds hundreds. So without a word beside it a card
counts only where three pass and these are more than chance would give: three tenths of those that look like cards.
"""

from __future__ import annotations

import re

from relay.mail.leaks.findings import MAX_DISTINCT
from relay.mail.leaks.numbers import Words

NEAR = 100  # octets between a number and its word
_SHARE = 0.3

_WORD = re.compile(
    rb"(?<![a-z])cv[cv](?![a-z])|geldig tot|credit ?card|card number|kaartnummer|valid (?:thru|until)|expiry date|vervaldatum"
    rb"|(?<![a-z])(?:visa|mastercard|amex|maestro)(?![a-z])"
)
_ISSUER = re.compile(
    rb"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    rb"|(?:5[1-5]|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12,14}"  # Mastercard: 16, checked below
    rb"|3[47][0-9]{13}"  # American Express
    rb"|3(?:0[0-59]|[689][0-9])[0-9]{11,16}"  # Diners Club
    rb"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB
    rb"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # Discover
    rb"|62[0-9]{14,17}"  # UnionPay
    rb"|(?:50[0-9]|5[6-8][0-9]|6[0137][0-9]|639|67[0-9])[0-9]{10,16}"  # Maestro
)
_MASTERCARD = re.compile(rb"5[1-5]|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)")
_VALUE = bytes(octet - 48 if 48 <= octet < 58 else 0 for octet in range(256))
_DOUBLE = bytes((2 * (octet - 48) - 9 * (octet > 52)) if 48 <= octet < 58 else 0 for octet in range(256))


def looks_like_card(digits: bytes) -> bool:
    """Length and first digits are those of an issuer."""
    if not 13 <= len(digits) <= 19 or _ISSUER.fullmatch(digits) is None:
        return False
    return len(digits) == 16 or _MASTERCARD.match(digits) is None


def passes(digits: bytes) -> bool:
    """The check digit is right (Luhn)."""
    return (sum(digits[-1::-2].translate(_VALUE)) + sum(digits[-2::-2].translate(_DOUBLE))) % 10 == 0


def names_card(text: bytes) -> bool:
    """Whether a column's name, in lower case, says that cards follow."""
    return _WORD.search(text) is not None


def words(data: bytes) -> Words:
    """The words in a text that make a number beside them a card."""
    return Words(data, _WORD, NEAR)


class Crowd:
    """The numbers of one part that look like cards."""

    __slots__ = ("_passed", "_seen")

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._passed: set[bytes] = set()

    def add(self, digits: bytes, good: bool) -> None:
        if len(self._seen) < MAX_DISTINCT:
            self._seen.add(digits)
            if good:
                self._passed.add(digits)

    def believed(self, least: int) -> set[bytes]:
        """Those that passed, where there are enough of them."""
        enough = len(self._passed) >= least and len(self._passed) >= _SHARE * len(self._seen)
        return self._passed if enough else set()
