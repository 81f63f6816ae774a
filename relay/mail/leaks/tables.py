"""Tables of people (DLP-5): the columns that an address file is known by."""

from __future__ import annotations

from collections.abc import Sequence

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


def column_kinds(cells: Sequence[str]) -> int:
    """How many of the eight columns of an address file a row names."""
    kinds = {_KIND_OF.get("".join(filter(str.isalpha, cell)).lower()) for cell in cells if len(cell) <= MAX_NAME}
    kinds.discard(None)
    return len(kinds)
