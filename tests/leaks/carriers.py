"""Files as programs write them, around given lines or rows. Each carrier answers `(content, content type, file name)`."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from html import escape
from random import Random

import xlsxwriter

Made = tuple[bytes, str, str]
Lines = Sequence[str]
Rows = Sequence[Sequence[str]]

_ODS = "application/vnd.oasis.opendocument.spreadsheet"
_OOXML = "application/vnd.openxmlformats-officedocument."
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_ODS_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><office:document-content '
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>'
    '<table:table table:name="Blad1">'
)
_ODS_TAIL = "</table:table></office:spreadsheet></office:body></office:document-content>"


def encoded(chance: Random, text: str) -> bytes:
    """As Dutch office programs save text."""
    return text.encode(chance.choice(("utf-8", "utf-8", "utf-8-sig", "cp1252", "utf-16")))


def name(chance: Random, suffix: str) -> str:
    return (
        f"{chance.choice(('bijlage', 'overzicht', 'document', 'gegevens', 'bestand'))}{chance.randrange(100)}.{suffix}"
    )


def plain_mail(chance: Random, lines: Lines) -> Made:
    mark = chance.choice(("", "", "> "))
    return "\r\n".join(mark + line for line in lines).encode(), "text/plain; charset=utf-8", ""


def html_mail(chance: Random, lines: Lines) -> Made:
    pieces = [
        f"<p>{escape(line)}</p>" if chance.random() < 0.7 else f"<div><span>{escape(line)}</span><br></div>"
        for line in lines
    ]
    page = f"<html><head><style>p {{ margin: 0 }}</style></head><body>{''.join(pieces)}</body></html>"
    return page.encode(), "text/html; charset=utf-8", ""


def text_file(chance: Random, lines: Lines) -> Made:
    return encoded(chance, "\r\n".join(lines)), "text/plain", name(chance, "txt")


def docx(chance: Random, lines: Lines) -> Made:
    body = "".join(f"<w:p>{_runs(chance, line)}</w:p>" for line in lines)
    return _word(body), f"{_OOXML}wordprocessingml.document", name(chance, "docx")


def _runs(chance: Random, line: str) -> str:
    """A line in runs, cut wherever somebody corrected a letter once."""
    at = chance.randrange(len(line) + 1) if line and chance.random() < 0.3 else len(line)
    return "".join(
        f'<w:r><w:t xml:space="preserve">{escape(part)}</w:t></w:r>' for part in (line[:at], line[at:]) if part
    )


def _word(body: str) -> bytes:
    document = f'<?xml version="1.0" encoding="UTF-8"?><w:document {_W}><w:body>{body}</w:body></w:document>'
    types = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    return packed({"[Content_Types].xml": types.encode(), "word/document.xml": document.encode()})


def pdf(chance: Random, lines: Lines) -> Made:
    """Pages of forty lines, deflated as usual."""
    pages = [lines[at : at + 40] for at in range(0, len(lines), 40)] or [[]]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    kids = []
    for page in pages:
        shown = "".join(f"({_quoted(line)}) Tj 0 -16 Td " for line in page)
        stream = zlib.compress(f"BT /F1 9 Tf 40 800 Td {shown}ET".encode("cp1252", "replace"))
        objects.append(b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (len(stream), stream))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out), "application/pdf", name(chance, "pdf")


def _quoted(line: str) -> str:
    return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def separated(chance: Random, rows: Rows) -> Made:
    kind, mark, suffix = chance.choice(
        (("text/csv", ",", "csv"), ("text/csv", ";", "csv"), ("text/tab-separated-values", "\t", "tsv"))
    )
    text = io.StringIO()
    csv.writer(text, delimiter=mark, quoting=chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerows(rows)
    return encoded(chance, text.getvalue()), kind, name(chance, suffix)


def xlsx(chance: Random, rows: Rows) -> Made:
    """With shared strings or inline ones; digits as numbers, as people paste them, or as text."""
    out = io.BytesIO()
    as_numbers = chance.random() < 0.5
    book = xlsxwriter.Workbook(out, {"in_memory": True, "constant_memory": chance.random() < 0.5})
    sheet = book.add_worksheet("Blad1")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            is_number = as_numbers and cell.isdigit() and len(cell) < 16 and not cell.startswith("0")
            sheet.write_number(y, x, int(cell)) if is_number else sheet.write_string(y, x, cell)
    book.close()
    return out.getvalue(), f"{_OOXML}spreadsheetml.sheet", name(chance, "xlsx")


def ods(chance: Random, rows: Rows) -> Made:
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p></table:table-cell>'
            for cell in row
        )
        + "</table:table-row>"
        for row in rows
    )
    content = f"{_ODS_HEAD}{cells}{_ODS_TAIL}".encode()
    return packed({"mimetype": _ODS.encode(), "content.xml": content}), _ODS, name(chance, "ods")


def docx_table(chance: Random, rows: Rows) -> Made:
    body = "".join(
        "<w:tr>" + "".join(f"<w:tc><w:p>{_runs(chance, cell)}</w:p></w:tc>" for cell in row) + "</w:tr>" for row in rows
    )
    return _word(f"<w:tbl>{body}</w:tbl>"), f"{_OOXML}wordprocessingml.document", name(chance, "docx")


def vcards(chance: Random, people: Sequence[tuple[str, str]]) -> Made:
    """Name and address of each."""
    cards = (
        f"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:{who}\r\nEMAIL;TYPE=INTERNET:{where}\r\nEND:VCARD\r\n"
        for who, where in people
    )
    return "".join(cards).encode(), "text/vcard", name(chance, "vcf")


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue()


def zipped(chance: Random, made: Made) -> Made:
    """The file in an archive, beside one that is harmless."""
    content, _, path = made
    files = {"leesmij.txt": b"Zie het andere bestand.\r\n", path: content}
    return packed(files), "application/zip", name(chance, "zip")


TEXTS: tuple[Callable[[Random, Lines], Made], ...] = (plain_mail, plain_mail, html_mail, text_file, docx, pdf)
TABLES: tuple[Callable[[Random, Rows], Made], ...] = (separated, separated, xlsx, ods, docx_table)
