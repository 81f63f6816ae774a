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
LINES_BETWEEN_CHECKS = 5_000


def read_vcards(pieces: Iterable[str], budget: Budget) -> Iterator[Piece]:
    """The cards as rows below a row of column names, and every other line as text. Raises OutOfTime."""
    card: dict[str, str] = {}
    rest: list[str] = []
    has_cards = False
    size = 0
    for number, line in enumerate(lines(pieces)):
        if number % LINES_BETWEEN_CHECKS == 0:
            budget.check()
        name, colon, value = line.partition(":")
        field = name.partition(";")[0].rpartition(".")[2].strip().upper()
        if colon and field in COLUMNS and len(card.get(field, "")) < MAX_FIELD:
            card[field] = f"{card[field]} {value.strip()}" if field in card else value.strip()
        elif field == "END":
            if card and not has_cards:
                yield Row(list(COLUMNS.values()), range(len(COLUMNS)), True)
                has_cards = True
            if card:
                yield Row(list(card.values()), [_ORDER.index(each) for each in card])
            card = {}
        else:
            rest.append(line)
            size += len(line)
        if size > 64 * 1024:
            yield Text("".join(rest))
            rest, size = [], 0
    if rest or card:
        yield Text("".join(rest) + "\n".join(card.values()))
