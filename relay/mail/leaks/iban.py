"""Bank accounts (DLP-2): the form of the country by the registry of ISO 13616, and the check digits (ISO 7064, mod 97-10)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

_STARTS = (b"aa00", b"aa 00")  # in classes: two letters of a country, two check digits
_GAP = rb"[ .\-\xa0\r\n\t]{0,2}"
_FIELD = re.compile(r"(\d+)!([nac])")
_LETTERS = {"n": b"[0-9]", "a": b"[A-Za-z]", "c": b"[0-9A-Za-z]"}
_NO_GAPS = b" .-\xa0\r\n\t"
_VALUES = {octet: str(int(chr(octet), 36)) for octet in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def ibans(data: bytes, classes: bytes) -> Iterator[str]:
    """Every valid IBAN in a text, without blanks and in capitals."""
    for start in _STARTS:
        yield from _beginning(start, data, classes)


def _beginning(start: bytes, data: bytes, classes: bytes) -> Iterator[str]:
    place = classes.find(start)
    while place >= 0:
        if place == 0 or classes[place - 1] not in b"a0" or data[max(0, place - 4) : place].upper() == b"IBAN":
            form = _form(data[place : place + 2].upper().decode("ascii"))
            match = form.match(data, place) if form is not None else None
            if match is not None:
                number = match[0].translate(None, _NO_GAPS).upper()
                if passes(number):
                    yield number.decode("ascii")
                    place = match.end() - 1
        place = classes.find(start, place + 1)


def passes(number: bytes) -> bool:
    """The check digits are right: the number as digits, first four moved to the end, is 1 modulo 97."""
    return int("".join([_VALUES[octet] for octet in number[4:] + number[:4]])) % 97 == 1


def read_registry() -> None:
    """Read the registry now, about 60 ms, rather than under the first mail that asks."""
    _form("NL")


@cache
def _form(country: str) -> re.Pattern[bytes] | None:
    """The account of a country with gaps between its letters, ended but for a currency; None for no country."""
    from stdnum import numdb  # late: it reads the registry, which most mail never needs

    found = numdb.get("iban").info(country)
    structure = str(found[0][1].get("bban", "")) if found else ""
    fields = _FIELD.findall(structure)
    if not fields:
        return None
    letters = [b"[A-Za-z]", b"[A-Za-z]", b"[0-9]", b"[0-9]"]
    for count, kind in fields:
        letters += [_LETTERS[kind]] * int(count)
    return re.compile(_GAP.join(letters) + rb"(?:(?![0-9A-Za-z])|(?=EUR(?![A-Za-z])))")
