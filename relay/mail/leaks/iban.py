"""Bank accounts (DLP-2): the form of the country by the registry of ISO 13616, and the check digits (ISO 7064, mod 97-10)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

_START = b"aa00"  # in classes: two letters of a country, two check digits
_GAP = rb"[ .\-\xa0\r\n\t]{0,2}"
_FIELD = re.compile(r"(\d+)!([nac])")
_LETTERS = {"n": b"[0-9]", "a": b"[A-Za-z]", "c": b"[0-9A-Za-z]"}
_NO_GAPS = b" .-\xa0\r\n\t"
_VALUES = {octet: str(int(chr(octet), 36)) for octet in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def ibans(data: bytes, classes: bytes) -> Iterator[str]:
    """Every valid IBAN in a text, without blanks and in capitals."""
    place = classes.find(_START)
    while place >= 0:
        if classes[place - 1 : place] not in (b"a", b"0") or place == 0:
            form = _form(data[place : place + 2].upper().decode("ascii"))
            match = form.match(data, place) if form is not None else None
            if match is not None:
                number = match[0].translate(None, _NO_GAPS).upper()
                if passes(number):
                    yield number.decode("ascii")
                    place = match.end() - 1
        place = classes.find(_START, place + 1)


def passes(number: bytes) -> bool:
    """The check digits are right: the number as digits, first four moved to the end, is 1 modulo 97."""
    return int("".join([_VALUES[octet] for octet in number[4:] + number[:4]])) % 97 == 1


def read_registry() -> None:
    """Read the registry now, about 60 ms, rather than under the first mail that asks."""
    _form("NL")


@cache
def _form(country: str) -> re.Pattern[bytes] | None:
    """The account of a country with gaps between its letters, and nothing that goes on after it; None for no country."""
    from stdnum import numdb  # late: it reads the registry, which most mail never needs

    found = numdb.get("iban").info(country)
    structure = str(found[0][1].get("bban", "")) if found else ""
    fields = _FIELD.findall(structure)
    if not fields:
        return None
    letters = [b"[A-Za-z]", b"[A-Za-z]", b"[0-9]", b"[0-9]"]
    for count, kind in fields:
        letters += [_LETTERS[kind]] * int(count)
    return re.compile(_GAP.join(letters) + rb"(?![0-9A-Za-z])")
