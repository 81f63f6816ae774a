"""Excel workbooks (XLSX, ECMA-376 part 1 section 18): each sheet row by row, cell values as they are stored.

Shared strings are kept up to a bound; those beyond it are given out as text when they are read, so that nothing in them
goes unseen, and stand as empty cells later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mail.documents.archive import Archive
from relay.mail.documents.budget import Budget, Piece, Row, Text
from relay.mail.documents.xml import MAX_CELL, MAX_COLUMNS, Reader, Values, read_xml

MAX_SHARED = 200_000
MAX_SHARED_CHARACTERS = 8_000_000

_SHEET = re.compile(r"xl/(?:worksheets|macrosheets|chartsheets|dialogsheets)/[^/]+\.xml", re.IGNORECASE)
_LINKED = re.compile(r"xl/externalLinks/[^/]+\.xml", re.IGNORECASE)  # the rows of other workbooks, as they last were
_DRAWING = re.compile(r"xl/drawings/[^/]+\.xml", re.IGNORECASE)
_PIVOT = re.compile(r"xl/pivotCache/[^/]+\.xml", re.IGNORECASE)  # the rows behind a table of sums
_LINKS = re.compile(r"xl/(?:worksheets|drawings)/_rels/[^/]+\.rels", re.IGNORECASE)
_COMMENTS = re.compile(r"xl/(?:comments\d*|comments/[^/]+|threadedComments/[^/]+)\.xml", re.IGNORECASE)
_STRINGS = "xl/sharedstrings.xml"
_MARGINS = frozenset(f"{pages}{place}" for pages in ("odd", "even", "first") for place in ("Header", "Footer"))
_CODE = re.compile(r'&(?:"[^"&]*"|[0-9]{1,3}|K[0-9A-F]{6}|K[0-9]{2}[+-][0-9]{3}|.)')  # font, size, colour, the rest
_SAID = {"&&": "&", "&L": "\n", "&C": "\n", "&R": "\n"}  # in a header: left, centre, right


def is_xlsx(names: list[str]) -> bool:
    return any(name.lower() == "xl/workbook.xml" for name in names)


def read_xlsx(archive: Archive, budget: Budget) -> Iterator[Piece]:
    """Every sheet of a workbook. Raises Broken, Bomb, OutOfTime."""
    strings = _Strings()
    for name in archive.names:
        if name.lower() == _STRINGS:
            yield from read_xml(archive.chunks(name), strings, budget)
    for name in archive.names:
        if _SHEET.fullmatch(name):
            yield from read_xml(archive.chunks(name), _Sheet(strings.kept), budget)
    for name in archive.names:
        if _PIVOT.fullmatch(name):
            yield from read_xml(archive.chunks(name), Values("v"), budget)
        elif _LINKS.fullmatch(name):
            yield from read_xml(archive.chunks(name), Values("Target"), budget)
        elif _COMMENTS.fullmatch(name):
            yield from read_xml(archive.chunks(name), _Comments(), budget)
        elif _LINKED.fullmatch(name):
            yield from read_xml(archive.chunks(name), _Sheet(None), budget)
        elif _DRAWING.fullmatch(name):
            yield from read_xml(archive.chunks(name), _Drawing(), budget)


class _Comments(Reader):
    """xl/comments1.xml and its threads: everything that is written there."""

    def end(self, name: str) -> None:
        self.depth -= 1
        if self.local[name] in ("text", "threadedComment", "si"):
            self.out.append(Text("\n"))

    def text(self, data: str) -> None:
        self.out.append(Text(data))


class _Drawing(Reader):
    """xl/drawings/drawing1.xml: text boxes, their text in `t`; the other numbers say where they stand."""

    def __init__(self) -> None:
        super().__init__()
        self._inside = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        name = self.local[name]
        if name == "t":
            self._inside += 1
        elif name == "br":
            self.out.append(Text("\n"))

    def end(self, name: str) -> None:
        self.depth -= 1
        name = self.local[name]
        if name == "t":
            self._inside -= 1
        elif name in ("p", "txBody"):
            self.out.append(Text("\n"))

    def text(self, data: str) -> None:
        if self._inside:
            self.out.append(Text(data))


class _Strings(Reader):
    """xl/sharedStrings.xml: one `si` a string, its text in `t`, that of phonetic runs left out."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self._size = 0
        self._text = ""
        self._reads = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        name = self.local[name]
        self._reads = name == "t"
        if name == "si":
            self._text = ""

    def end(self, name: str) -> None:
        self.depth -= 1
        name = self.local[name]
        self._reads = False
        if name != "si":
            return
        text = self._text
        if len(self.kept) < MAX_SHARED and self._size < MAX_SHARED_CHARACTERS:
            self.kept.append(text)
            self._size += len(text)
        elif text:
            self.out.append(Text(text, ends=True))

    def text(self, data: str) -> None:
        if self._reads and len(self._text) < MAX_CELL:
            self._text += data


class _Sheet(Reader):
    """xl/worksheets/sheet1.xml: `row` > `c r="B7" t="s"` > `v`, or `is` > `t`; what stands above and below its pages.

    Without `strings` the rows of another workbook, `cell` for `c` and each value as itself; or its answers, `value` > `val`.
    """

    def __init__(self, strings: list[str] | None) -> None:
        super().__init__()
        self._strings = strings
        self._first = True
        self._cells: list[str] = []
        self._columns: list[int] = []
        self._column = -1
        self._kind = ""
        self._reads = False
        self._value = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        name = self.local[name]
        if name == "c" or name == "cell":
            self._kind = attributes.get("t", "")
            self._value = ""
            place = attributes.get("r", "")
            self._column = _column(place) if place else self._column + 1
        elif name == "v" or name == "t":
            self._reads = True
        elif name == "val" or name in _MARGINS:
            self._reads, self._value = True, ""

    def text(self, data: str) -> None:
        if self._reads and len(self._value) < MAX_CELL:
            self._value += data

    def end(self, name: str) -> None:
        self.depth -= 1
        name = self.local[name]
        if name == "v" or name == "t":
            self._reads = False
        elif name == "val" or name in _MARGINS:
            self._reads = False
            text = self._value if name == "val" else _CODE.sub(_said, self._value)
            self.out.append(Text(text + "\n"))
        elif name == "c" or name == "cell":
            value = self._said()
            if value and self._column < MAX_COLUMNS:
                self._cells.append(value)
                self._columns.append(self._column)
        if (name == "row" and self._cells) or len(self._cells) >= MAX_COLUMNS:
            self.out.append(Row(self._cells, self._columns, self._first))
            self._first, self._cells, self._columns = False, [], []
        if name == "row":
            self._column = -1

    def _said(self) -> str:
        value = self._value
        if self._kind == "s" and self._strings is not None:
            is_index = len(value) < 9 and value.isdecimal() and int(value) < len(self._strings)
            return self._strings[int(value)] if is_index else ""
        if "E" in value and not self._kind:  # 1.23456782E8 is how some programs store a long number
            try:
                return f"{float(value):.0f}"
            except (ValueError, OverflowError):
                return value
        return value.removesuffix(".0")


def _said(code: re.Match[str]) -> str:
    return _SAID.get(code[0], "")


def _column(place: str) -> int:
    """0 for A1, 27 for AB3; MAX_COLUMNS where it is no place."""
    number = 0
    for letter in place:
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
        if number > MAX_COLUMNS:
            return MAX_COLUMNS
    return number - 1 if number else MAX_COLUMNS
