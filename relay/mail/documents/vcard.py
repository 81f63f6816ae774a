"""Address cards (vCard, RFC 6350): a table of those fields that address files are known by, one row a card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.mail.documents.budget import Budget, Piece, Row, Text
from relay.mail.documents.separated import lines

COLUMNS = {
    "FN": "naam",
    "N": "achternaam",
    "ADR": "adres",
    "TEL": "telefoon",
    "EMAIL": "e-mail",
    "BDAY": "geboortedatum",
}
_ORDER = list(COLUMNS)
MAX_FIELD = 4_000  # characters of one field of a card; more of it is text all the same
CARDS_BETWEEN_CHECKS = 1_000


def read_vcards(pieces: Iterable[str], budget: Budget) -> Iterator[Piece]:
    """The cards as rows below a row of column names, and every other line as text. Raises OutOfTime."""
    card: dict[str, str] = {}
    named: set[str] = set()
    rest: list[str] = []
    count = size = 0
    for line in lines(pieces):
        name, colon, value = line.partition(":")
        field = name.partition(";")[0].rpartition(".")[2].strip().upper()
        if colon and field in COLUMNS and len(card.get(field, "")) < MAX_FIELD:
            card[field] = f"{card[field]} {value.strip()}" if field in card else value.strip()
        elif field == "END":
            if count == 0:
                yield Row(list(COLUMNS.values()), range(len(COLUMNS)), True)
            named |= card.keys()
            yield Row(list(card.values()), [_ORDER.index(each) for each in card])
            card = {}
            count += 1
            if count % CARDS_BETWEEN_CHECKS == 0:
                budget.check()
        else:
            rest.append(line)
            size += len(line)
        if size > 64 * 1024:
            yield Text("".join(rest))
            rest, size = [], 0
            budget.check()
    if rest or card:
        yield Text("".join(rest) + "\n".join(card.values()))
