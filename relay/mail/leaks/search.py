"""One mail under the detectors: text and rows go in, counts come out. The values live in here and die with it (DLP-10)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from relay.mail.documents.budget import Bomb, Crashed, OutOfTime, Piece, Row, Text, Unreadable
from relay.mail.leaks import bsn, cards, tables
from relay.mail.leaks.addresses import Addresses
from relay.mail.leaks.findings import MAX_DISTINCT, FileCounts, Findings, Terms
from relay.mail.leaks.iban import ibans
from relay.mail.leaks.numbers import CLASSES, ends_longer, numbers, plain
from relay.mail.leaks.special import about_somebody, care_words

_OVERLAP = 256  # octets of a piece that are looked at again with the next: a number and its word may be torn
_PIECE = 32 * 1024  # octets of text, or of rows, that are looked at together
MAX_CROWDED = 100_000  # numbers in the crowds of all columns of a table; the first rows stand for the rest
_CELL = 14  # characters: the longest way to write a BSN, and then some

_WIDE_DIGIT = re.compile(rb"\xef\xbc([\x90-\x99])")  # as East Asian keyboards write it: U+FF10 to U+FF19
_GAP = re.compile(rb"(?<![0-9]) (?![0-9])")

T = TypeVar("T")


class Search:
    """The whole mail."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.body = Place(terms, terms.text_addresses)
        self.unreadable: list[str] = []
        self.crashes: list[str] = []
        self._files: list[tuple[str, Place]] = []

    def __enter__(self) -> None:
        """What follows is one part of the mail: should reading it fail unforeseen, the others are read all the same."""

    def __exit__(
        self, kind: type[BaseException] | None, bug: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(bug, Exception) or isinstance(bug, Bomb | OutOfTime):
            return False
        self.crashes.append(Crashed.by(bug).place)
        self.unreadable.append("broken")
        return True

    def file(self, name: str) -> Place:
        """The place for an attachment."""
        place = Place(self.terms, self.terms.file_addresses)
        self._files.append((name, place))
        return place

    def take(self, place: Place, piece: Piece) -> None:
        """One piece of what stands in `place`."""
        if isinstance(piece, Text):
            place.text(piece.text, ends=piece.ends)
        elif isinstance(piece, Row):
            place.row(piece)
        elif isinstance(piece, Unreadable):
            self.unreadable.append(piece.why)
        elif isinstance(piece, Crashed):
            self.crashes.append(piece.place)

    def findings(self, bomb: str = "") -> Findings:
        """The counts of everything that was taken so far."""
        terms, places = self.terms, [self.body, *(place for _, place in self._files)]
        for place in places:
            with self:
                place.end()
        seen = frozenset(self.body.addresses.found)
        outside = terms.outsiders(seen) if len(seen) >= terms.text_addresses else 0
        counts = {
            "bsn": len(set().union(*(place.bsns for place in places))),
            "iban": len(set().union(*(place.ibans for place in places))),
            "card": len(set().union(*(place.cards for place in places))),
            "address_list": outside if outside >= terms.text_addresses else 0,
            "address_file": max((place.people() for _, place in self._files), default=0),
            "special": max(place.special for place in places),
            "unreadable": len(self.unreadable),
        }
        if counts["iban"] < terms.iban_numbers:
            counts["iban"] = 0
        return Findings(
            {detector: count for detector, count in counts.items() if count},
            tuple(counted for name, place in self._files if (counted := self._counted(name, place)).counts),
            bomb,
            tuple(self.unreadable),
            tuple(self.crashes),
        )

    def _counted(self, name: str, place: Place) -> FileCounts:
        found = {
            "bsn": len(place.bsns),
            "iban": len(place.ibans),
            "card": len(place.cards),
            "address_file": place.people(),
        }
        return FileCounts(self.terms.hash_name(name), {detector: count for detector, count in found.items() if count})


class Place:
    """One text or attachment: what it holds, each value once."""

    def __init__(self, terms: Terms, addresses: int) -> None:
        self.bsns: set[bytes] = set()
        self.ibans: set[str] = set()
        self.cards: set[bytes] = set()
        self.addresses = Addresses(addresses)
        self.special = 0
        self._terms = terms
        self._held = bytearray()  # text that has not been looked at, and a little of what has
        self._crowd = bsn.Crowd()
        self._cards = cards.Crowd()
        self._table: _Table | None = None
        self._largest = 0  # rows of the largest table of people

    def people(self) -> int:
        """Addresses, or rows of a table of people, where there are enough for an address file (DLP-5); else 0."""
        found = len(self.addresses.found)
        return max(found if found >= self._terms.file_addresses else 0, self._largest)

    def text(self, text: str, *, ends: bool = False) -> None:
        """A piece of text; `ends` where the next one is no continuation of it."""
        self._end_table()
        self._held += plain(text)
        if ends:
            self._end_text()
            self._end_part()
        elif len(self._held) >= _PIECE:
            data = bytes(self._held)
            cut = _cut(data)
            self._look(data[:cut])
            self._held = bytearray(data[_again(data, cut) :])

    def row(self, row: Row) -> None:
        """One row of a table."""
        if row.first or self._table is None:
            self._end_text()
            self._end_table()
            self._table = _Table()
        table = self._table
        table.take(row, self.bsns)
        if table.size >= _PIECE:
            self._look(table.emptied(), table)

    def end(self) -> None:
        """Nothing follows. May be said more than once."""
        self._end_text()
        self._end_table()
        self._end_part()

    def _end_text(self) -> None:
        if self._held:
            data, self._held = bytes(self._held), bytearray()
            self._look(data)

    def _end_part(self) -> None:
        _add(self.bsns, self._crowd.believed(self._terms.bsn_numbers))
        _add(self.cards, self._cards.believed(self._terms.card_numbers))
        self._crowd, self._cards = bsn.Crowd(), cards.Crowd()

    def _end_table(self) -> None:
        table, self._table = self._table, None
        if table is None:
            return
        self._look(table.emptied(), table)
        for crowd in table.crowds.values():
            _add(self.bsns, crowd.believed(self._terms.bsn_numbers))
        if table.kinds >= self._terms.file_columns and table.rows >= self._terms.file_rows:
            self._largest = max(self._largest, table.rows)

    def _look(self, data: bytes, table: _Table | None = None) -> None:
        if b"\xef\xbc" in data:
            data = _WIDE_DIGIT.sub(_narrow, data)
        self.addresses.see(data)
        classes = data.translate(CLASSES)
        if b"00" not in classes:
            return  # no two digits stand side by side
        chance = self._numbers(data, classes, table)
        for account in ibans(data, classes):
            if account not in self._terms.own_ibans:
                _add(self.ibans, (account,))
        if self.special == 0 and (chance or self.bsns or (b"0000" in classes and about_somebody(data))):
            found = care_words(data)
            self.special = found if found > 1 or not chance else 0

    def _numbers(self, data: bytes, classes: bytes, table: _Table | None) -> bool:
        """Cards and, outside of tables, BSNs; whether a number passed that may be a BSN by chance."""
        chance = False
        found = list(numbers(data, classes))
        if not found:
            return chance
        card_words, words, strong = cards.words(data), bsn.words(data), bsn.strong_words(data)
        for start, end, digits in found:
            if len(digits) >= 13:
                if cards.looks_like_card(digits):
                    good = cards.passes(digits)
                    if not cards.may_be_travel(digits):
                        self._cards.add(digits, good)
                    if good and (
                        (table is not None and table.has_cards)
                        or card_words.beside(start, end)
                        or cards.is_named(data, start, end, digits)
                    ):
                        _add(self.cards, (digits,))
            elif len(digits) <= 9 and table is None and not bsn.is_date(digits):
                if len(digits) == 8 and (ends_longer(classes, start) or bsn.is_chamber(data, start)):
                    continue  # the end of a telephone number, or a company's
                good = bsn.passes(digits)
                if good and bsn.is_other(data, start):
                    continue
                chance = chance or (good and len(digits) == 9)
                self._crowd.add(digits, good)
                if good and (words if len(digits) == 9 else strong).beside(start, end):
                    _add(self.bsns, (digits.rjust(9, b"0"),))
        return chance


class _Table:
    """A table that is being read: its columns by place, its rows as text until they are looked at."""

    __slots__ = ("_companies", "_lines", "_named", "_room", "crowds", "has_cards", "kinds", "rows", "size")

    def __init__(self) -> None:
        self.kinds = 0
        self.rows = 0  # below the row of column names
        self.size = 0
        self.has_cards = False
        self.crowds: dict[int, bsn.Crowd] = {}
        self._room = MAX_CROWDED
        self._named: set[int] = set()  # columns whose name says BSN
        self._companies: set[int] = set()  # and RSIN
        self._lines: list[str] = []

    def emptied(self) -> bytes:
        """The rows since the last time as text; cells are a TAB apart, over which no number goes on."""
        text = "\n".join(self._lines)
        self._lines, self.size = [], 0
        return plain(text)

    def take(self, row: Row, found: set[bytes]) -> None:
        """One row; BSNs whose column or neighbour says so go into `found`, the rest into the crowd of the column."""
        if not any(map(str.strip, row.cells)):  # spreadsheet programs put out their empty rows too: ;;;
            return
        line = "\t".join(row.cells)
        self._lines.append(line)
        self.size += len(line) + 1
        self.rows += 1
        if self.rows <= tables.HEAD_ROWS:
            self._head(row)
        left = ""
        for column, cell in zip(row.columns, row.cells, strict=True):
            if len(cell) > 7:
                self._cell(column, cell, left, found)
            left = cell

    def _head(self, row: Row) -> None:
        kinds = tables.column_kinds(row.cells)
        if kinds > self.kinds:
            self.kinds, self.rows = kinds, 0
        for column, cell in zip(row.columns, row.cells, strict=True):
            if len(cell) <= tables.MAX_NAME and not cell.isdigit():
                name = cell.lower().encode(errors="replace")
                if bsn.names_bsn(name):
                    self._named.add(column)
                elif bsn.names_company(name):
                    self._companies.add(column)
                elif cards.names_card(name):
                    self.has_cards = True

    def _cell(self, column: int, cell: str, left: str, found: set[bytes]) -> None:
        if cell[0] in "='":  # ="012345678" and '012345678 is how a sheet is told to keep the zero
            cell = cell.strip("='\"")
        if len(cell) <= 2 * _CELL and not cell.isascii():
            cell = plain(cell).decode()
        if len(cell) > _CELL or cell.strip(" .-0123456789"):
            self._long(cell, found)
            return
        digits = "".join(filter(str.isdigit, cell)).encode()
        if not 8 <= len(digits) <= 9 or column in self._companies:
            return
        named = column in self._named
        if bsn.is_date(digits) and not named:
            return
        good = bsn.passes(digits)
        if good and (named or bsn.names_bsn(left[-bsn.NEAR :].lower().encode(errors="replace"))):
            _add(found, (digits.rjust(9, b"0"),))
        crowd = self.crowds.get(column)
        if crowd is None:
            crowd = self.crowds[column] = bsn.Crowd()
        if self._room:
            self._room -= 1
            crowd.add(digits, good)

    def _long(self, cell: str, found: set[bytes]) -> None:
        """Running text in a cell."""
        if not bsn.names_bsn(cell.lower().encode(errors="replace")):
            return
        data = plain(cell)
        words = bsn.words(data)
        for start, end, digits in numbers(data, data.translate(CLASSES)):
            if len(digits) <= 9 and bsn.passes(digits) and words.beside(start, end):
                _add(found, (digits.rjust(9, b"0"),))


def _narrow(digit: re.Match[bytes]) -> bytes:
    return bytes((digit[1][0] - 0x60,))


def _cut(data: bytes) -> int:
    """Where a piece may be cut so that no word or number is torn; its whole length where there is no such place near."""
    near = max(0, len(data) - 4096)
    line = data.rfind(b"\n", near)
    if line >= 0:
        return line
    gaps = [match.start() for match in _GAP.finditer(data, near)]  # not between groups of digits
    return gaps[-1] if gaps else max(data.rfind(b" ", near), 0) or len(data)


def _again(data: bytes, cut: int) -> int:
    """Where the look at the next piece begins: before the cut, at the start of a word, or at the cut."""
    start = max(0, cut - _OVERLAP)
    if start == 0:
        return 0
    for end in (b"\n", b" "):
        place = data.find(end, start, cut)
        if place >= 0:
            return place
    return cut


def _add(found: set[T], more: Iterable[T]) -> None:
    if len(found) < MAX_DISTINCT:
        found.update(more)
