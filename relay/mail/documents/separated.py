"""Tables in plain text: CSV and its like, with the delimiter guessed from the first lines; what is no table is text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from relay.mail.documents.budget import Budget, Piece, Row, Text

DELIMITERS = ";,\t|"
MAX_LINE = 64 * 1024  # characters; a longer line is text, given out in pieces
SAMPLE_LINES = 20
MAX_ROW_LINES = 50  # of one row: cells may hold line ends
MAX_ROW = 4 * MAX_LINE  # characters of one row
ROWS_BETWEEN_CHECKS = 1_000
_QUOTED = re.compile(r'"[^"]*"')


class _EndlessError(Exception):
    """A row that goes on for too long: a quote that nobody closed swallows the lines after it."""


def read_separated(pieces: Iterable[str], budget: Budget) -> Iterator[Piece]:
    """The rows of a table in text, or the text of what is none. Raises OutOfTime."""
    found = lines(pieces)
    sample: list[str] = []
    for line in found:
        sample.append(line)
        if len(sample) >= SAMPLE_LINES:
            break
    delimiter = sniff(sample)
    everything = chain(sample, found)
    if not delimiter:
        yield from _as_text(everything, budget)
        return
    held: list[str] = []  # lines of the row that is being read
    reader = csv.reader(_remembered(everything, held), delimiter=delimiter)
    count = unchecked = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error:  # a field over the limit of the csv module, or a NUL: the rest of it is read as text
            yield from _as_text(chain(held, everything), budget)
            return
        except _EndlessError:  # its lines are rows of their own, and the reader begins anew behind them
            rows = [line.rstrip("\r\n").split(delimiter) for line in held]
            reader = csv.reader(_remembered(everything, held), delimiter=delimiter)
        else:
            if row is None:
                return
            rows = [row]
        unchecked += len(held)
        held.clear()
        for cells in rows:
            yield Row(cells, range(len(cells)), count == 0)
            count += 1
        if unchecked >= ROWS_BETWEEN_CHECKS:
            unchecked = 0
            budget.check()


def _remembered(found: Iterable[str], held: list[str]) -> Iterator[str]:
    """The lines, each held until its row is out. Raises _EndlessError where a row does not end."""
    size = 0
    for line in found:
        size = size + len(line) if held else len(line)
        held.append(line)
        if len(held) > MAX_ROW_LINES or size > MAX_ROW:
            raise _EndlessError
        yield line


def sniff(sample: list[str]) -> str:
    """The delimiter that stands equally often, at least once, in most of the lines; "" where none does.

    Sentences have a comma each too: one with a blank after it makes no table.
    """
    return _delimiter(_without_quoted(sample)) or _delimiter(sample)


def _without_quoted(sample: list[str]) -> list[str]:
    """The rows of the sample without what stands in quotes, where a cell may hold delimiters and line ends: an address does."""
    return _QUOTED.sub("", "".join(sample)).split("\n") if any('"' in line for line in sample) else []


def _delimiter(lines: list[str]) -> str:
    rows = [line for line in lines if line.strip()]
    best, most = "", 0
    for delimiter in DELIMITERS:
        counts = [line.count(delimiter) for line in rows]
        usual = max(set(counts), key=counts.count, default=0)
        agreed = counts.count(usual)
        is_prose = delimiter == "," and usual == 1 and sum(", " in line for line in rows) * 2 > len(rows)
        if usual > 0 and agreed >= 2 and agreed * 10 >= len(counts) * 7 and usual * agreed > most and not is_prose:
            best, most = delimiter, usual * agreed
    return best


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, each with its line end; a line over MAX_LINE is cut."""
    left = ""
    for piece in pieces:
        left += piece
        split = left.split("\n")
        left = split.pop()
        for line in split:
            yield line + "\n"
        while len(left) > MAX_LINE:
            yield left[:MAX_LINE]
            left = left[MAX_LINE:]
    if left:
        yield left


def _as_text(found: Iterable[str], budget: Budget) -> Iterator[Piece]:
    held: list[str] = []
    size = 0
    for line in found:
        held.append(line)
        size += len(line)
        if size >= MAX_LINE:
            yield Text("".join(held))
            held, size = [], 0
            budget.check()
    if held:
        yield Text("".join(held))
