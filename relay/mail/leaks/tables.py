"""Tables of people (DLP-5): the columns that an address file is known by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

HEAD_ROWS = 20  # rows in which the names of the columns are looked for: titles may stand above them
MAX_NAME = 40  # characters of a column's name

_COLUMNS = {
    "naam": "naam voornaam roepnaam voornamen volledigenaam klantnaam contactpersoon name firstname fullname givenname",
    "achternaam": "achternaam familienaam surname lastname familyname",
    "adres": "adres straat straatnaam straatenhuisnummer adresregel address street streetaddress addressline",
    "postcode": "postcode zip zipcode postalcode",
    "woonplaats": "woonplaats plaats plaatsnaam stad city town",
    "telefoon": "telefoon telefoonnummer telefoonnr tel telnr mobiel mobielnummer gsm phone phonenumber telephone mobile",
    "e-mail": "email emailadres mail mailadres emailaddress mailaddress",
    "geboortedatum": "geboortedatum gebdatum dateofbirth birthdate dob",
}
_KIND_OF = {name: kind for kind, names in _COLUMNS.items() for name in names.split()}


# As people and address books name them: `Straat (thuis)`, `Phone 1 - Value`, `Postcode + plaats`, `Naam klant`.
_APART = re.compile(r"\([^)]*\)?|\s-\s|[+/&,]|\s(?:en|and)\s")
_WORD = re.compile(r"[^\W\d_]+")
_WHOSE = {
    *(
        "thuis",
        "privé",
        "prive",
        "werk",
        "zakelijk",
        "overig",
        "home",
        "personal",
        "work",
        "business",
        "other",
        "value",
    ),
    *("mobiel", "mobiele", "mobile", "vast", "klant", "lid", "deelnemer", "cliënt", "client", "relatie", "medewerker"),
}


def column_kinds(cells: Sequence[str]) -> int:
    """How many of the eight columns of an address file a row names."""
    kinds: set[str] = set()
    for cell in cells:
        if len(cell) <= MAX_NAME:
            kinds.update(_kinds(cell.lower()))
    return len(kinds)


def _kinds(name: str) -> Iterator[str]:
    """Those that one column's name says: as a whole, or in its parts without the words for whose it is."""
    words = _WORD.findall(name)
    whole = _KIND_OF.get("".join(words))
    if whole is not None:
        yield whole
        return
    for part in _APART.split(name):
        words = [word for word in _WORD.findall(part) if word not in _WHOSE]
        kind = _KIND_OF.get("".join(words))
        if kind is not None:
            yield kind
