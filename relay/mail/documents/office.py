"""Texts of office programs: DOCX and PPTX (ECMA-376), and ODS, ODT, ODP (ISO 26300): paragraphs as text, tables as rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mail.documents.archive import Archive
from relay.mail.documents.budget import Budget, Piece, Row, Text
from relay.mail.documents.xml import MAX_CELL, MAX_COLUMNS, Reader, Values, read_xml

MAX_DEPTH = 8  # tables in tables; the cells of deeper ones join the cell around them

# Of a letter every part, whatever its name, but those that hold no text and the files in it.
_PARTS = re.compile(
    r"word/(?!embeddings/|theme/|afchunk)(?:[^/]+/)*"
    r"(?!(?:styles|stylesWithEffects|settings|webSettings|fontTable|numbering)\.xml)[^/]+\.xml"
    r"|ppt/(?:slides|notesSlides)/[^/]+\.xml",
    re.IGNORECASE,
)
_LINKS = re.compile(r"(?:word(?:/glossary)?|ppt/slides)/_rels/[^/]+\.rels", re.IGNORECASE)
_ASIDE = frozenset(("delText", "instrText"))  # what was struck out and can be brought back, and where links lead
MAX_ASIDE = 20_000  # pieces of such text in one part that are kept until its end
_OPEN = "content.xml"
_PARAGRAPHS = frozenset(("p", "h"))
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "line-break": "\n", "s": " "}


def is_ooxml(names: list[str]) -> bool:
    return "word/document.xml" in names or "ppt/presentation.xml" in names


def is_open_document(names: list[str]) -> bool:
    return _OPEN in names and ("META-INF/manifest.xml" in names or "mimetype" in names)


def read_ooxml(archive: Archive, budget: Budget) -> Iterator[Piece]:
    """Text and tables of a DOCX or PPTX, headers, footers and notes included. Raises Broken, Bomb, OutOfTime."""
    for name in archive.names:
        if _PARTS.fullmatch(name):
            body = _Body(("t",))
            yield from read_xml(archive.chunks(name), body, budget)
            yield Text("\n".join(body.aside), ends=True)
        elif _LINKS.fullmatch(name):
            yield from read_xml(archive.chunks(name), Values("Target"), budget)


def read_open_document(archive: Archive, budget: Budget) -> Iterator[Piece]:
    """Text and tables of an ODS, ODT or ODP. Raises Broken, Bomb, OutOfTime."""
    return read_xml(archive.chunks(_OPEN), _Body(("p", "h")), budget)


class _Table:
    """A table that is open: the row so far, and the cell so far."""

    __slots__ = ("cell", "cells", "column", "columns", "first")

    def __init__(self) -> None:
        self.first = True
        self.cells: list[str] = []
        self.columns: list[int] = []
        self.cell = ""
        self.column = 0


class _Body(Reader):
    """`where`: the elements whose text counts."""

    def __init__(self, where: tuple[str, ...]) -> None:
        super().__init__()
        self.aside: list[str] = []  # text that does not stand in the line it was found in
        self._where = where
        self._beside = False
        self._inside = 0
        self._tables: list[_Table] = []
        self._deep = 0
        self._line = ""
        self._value = ""
        self._repeats = 1

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        name = self.local[name]
        if name in self._where:
            self._inside += 1
        self._beside = name in _ASIDE
        if name in _BREAKS:
            self._add(_BREAKS[name])
        elif name in ("tbl", "table"):
            self._open()
        elif name in ("tc", "table-cell") and self._tables:
            self._tables[-1].cell = ""
            # A number is shown as the format says (123.456.782) and stored as it is.
            is_number = attributes.get("office:value-type") == "float"
            self._value = attributes.get("office:value", "") if is_number else ""
            repeats = attributes.get("table:number-columns-repeated", "1")
            self._repeats = min(int(repeats), MAX_COLUMNS) if repeats.isdecimal() and len(repeats) < 9 else 1

    def text(self, data: str) -> None:
        if self._inside:
            self._add(data)
        elif self._beside:
            self.aside.append(data)
            if len(self.aside) > MAX_ASIDE:
                self.out.append(Text("\n".join(self.aside)))
                self.aside = []

    def end(self, name: str) -> None:
        self.depth -= 1
        name = self.local[name]
        self._beside = False
        if name in self._where:
            self._inside -= 1
        if name in _PARAGRAPHS:
            self._paragraph()
        elif name in ("tc", "table-cell") and self._tables and not self._deep:
            self._cell(self._tables[-1])
        elif name in ("tr", "table-row") and self._tables and not self._deep:
            self._row(self._tables[-1])
        elif name in ("tbl", "table"):
            self._close()

    def _add(self, data: str) -> None:
        if self._tables:
            table = self._tables[-1]
            if len(table.cell) < MAX_CELL:
                table.cell += data
            return
        self._line += data
        if len(self._line) > MAX_CELL:  # a paragraph without an end
            self.out.append(Text(self._line))
            self._line = ""

    def _paragraph(self) -> None:
        if self._tables:
            self._add(" ")
        elif self._line:
            self.out.append(Text(self._line + "\n"))
            self._line = ""

    def _open(self) -> None:
        if len(self._tables) >= MAX_DEPTH:
            self._deep += 1
        else:
            self._tables.append(_Table())

    def _close(self) -> None:
        if self._deep:
            self._deep -= 1
        elif self._tables:
            self._tables.pop()

    def _cell(self, table: _Table) -> None:
        value = self._value or table.cell.strip()
        self._value, table.cell = "", ""
        if value and table.column < MAX_COLUMNS:
            table.cells.append(value)
            table.columns.append(table.column)
        table.column += self._repeats
        self._repeats = 1

    def _row(self, table: _Table) -> None:
        if table.cells:
            self.out.append(Row(table.cells, table.columns, table.first))
            table.first, table.cells, table.columns = False, [], []
        table.column = 0
