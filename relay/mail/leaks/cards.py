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

_WORD = re.compile(rb"(?<![a-z])cv[cv]2?(?![a-z])|geldig (?:tot|t/m)|valid (?:thru|until)|credit ?-?(?:card|kaart)")
_BRANDS = {
    b"visa": re.compile(rb"4"),
    b"master": re.compile(rb"5[1-5]|2[2-7]"),
    b"amex": re.compile(rb"3[47]"),
    b"americ": re.compile(rb"3[47]"),
    b"maestr": re.compile(rb"5[0678]|6"),
}
_BRAND = rb"(?<![a-z])(visa|master ?card|amex|american express|maestro)"
_NUMBER = rb"[ -]?(?:nummer|number|nr|no)?[\s\x00-\x2f:]{0,4}(?:is[\s:]{1,3})?$"
_BEHIND_BRAND = re.compile(_BRAND + rb"(?:[ -]?(?:card|kaart))?" + _NUMBER)
_BEFORE_BRAND = re.compile(rb"[\s,.(/-]{0,4}" + _BRAND)
_BEHIND_CARD = re.compile(rb"(?<![a-z-])(?:kaart|card)[ -]?(?:nummer|number|nr|no)" + _NUMBER)
_EXPIRY = re.compile(
    rb"[\s,.;:(-]{0,4}(?:vervaldatum|expiry date|expir(?:y|es)|exp\.?|verloopt)?[\s:]{0,3}"
    rb"(?:0[1-9]|1[0-2])[/-][2-4][0-9](?![0-9/-])"
)
_OF_A_SHOP = re.compile(
    rb"klanten|spaarp|spaark|leden|bonus|tank|biblio|toegang|cadeau|chip|loyalty|member|gift|library"
)
_WELL_KNOWN = re.compile(rb"4[0-9]{15}|(?:5[1-5]|2[2-7])[0-9]{14}|3[47][0-9]{13}")
_TRAVEL = b"3528"  # every OV-chipkaart, and one in sixty of the cards of JCB
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


def is_named(data: bytes, start: int, end: int, digits: bytes) -> bool:
    """Whether what touches a number makes it a card: its brand, `kaartnummer`, or a month and year in which it ends.

    Such words stand in orders and reminders too, so they count beside the number only, and a brand with its own first digits.
    """
    before, after = data[max(0, start - 60) : start].lower(), data[end : end + 40].lower()
    brand = _BEHIND_BRAND.search(before) or _BEFORE_BRAND.match(after)
    if brand is not None and _BRANDS[brand[1][:6]].match(digits):
        return True
    if _WELL_KNOWN.fullmatch(digits) is None or _OF_A_SHOP.search(before) is not None:
        return False
    return _BEHIND_CARD.search(before) is not None or _EXPIRY.match(after) is not None


def may_be_travel(digits: bytes) -> bool:
    """Whether it is as likely a ticket of the Dutch railways, which passes too: only a word makes it a card."""
    return digits.startswith(_TRAVEL)


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
