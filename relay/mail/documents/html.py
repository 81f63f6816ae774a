"""HTML files: their text as a reader sees it, and once more their tables as rows, as web programs export them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from relay.mail.documents.budget import Budget, Piece, Row, Text
from relay.mail.documents.markup import shown, shown_pieces
from relay.mail.documents.xml import MAX_CELL, MAX_COLUMNS

MAX_KEPT = 8_000_000  # characters of a file in which tables are looked for
ROWS_BETWEEN_CHECKS = 500

_TABLE = re.compile(r"<table[\s>]", re.IGNORECASE)
_ROW = re.compile(r"<tr[\s>]", re.IGNORECASE)
_END = re.compile(r"</t(?:able|r)\s*>", re.IGNORECASE)
_CELL = re.compile(r"<t[dh](?=[\s>])[^<>]*+>", re.IGNORECASE)


def read_html(pieces: Iterable[str], budget: Budget) -> Iterator[Piece]:
    """The text, and behind it the rows of every table with two cells or more in a row. Raises OutOfTime."""
    kept: list[str] = []
    size = 0

    def keeping() -> Iterator[str]:
        nonlocal size
        for piece in pieces:
            if size < MAX_KEPT:
                kept.append(piece)
                size += len(piece)
            yield piece

    for text in shown_pieces(keeping()):
        budget.check()
        yield Text(text)
    html = "".join(kept)
    kept.clear()
    first = _TABLE.search(html)
    if first is not None:
        yield Text("", ends=True)
        yield from _rows(html, first.start(), budget)


def _rows(html: str, start: int, budget: Budget) -> Iterator[Row]:
    begins, count = True, 0
    found = _ROW.search(html, start)
    while found is not None:
        begins = begins or _TABLE.search(html, start, found.start()) is not None
        start = found.end()
        found = _ROW.search(html, start)
        stop = min(found.start() if found else len(html), start + MAX_CELL)
        end = _END.search(html, start, stop)
        row = html[start : end.start() if end else stop]
        cells = [shown(cell).strip() for cell in _CELL.split(row)[1 : MAX_COLUMNS + 1]]
        if len(cells) > 1:
            yield Row(cells, range(len(cells)), begins)
            begins = False
        count += 1
        if count % ROWS_BETWEEN_CHECKS == 0:
            budget.check()
