"""Documents made from rows and texts, as small as their formats allow; nothing of the program is used."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from io import BytesIO
from xml.sax.saxutils import escape

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
X = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
)
Rows = Iterable[Sequence[str]]


def packed(entries: dict[str, str | bytes]) -> bytes:
    held = BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return held.getvalue()


def xlsx(rows: Rows, *, shared: bool = True, prefix: str = "") -> bytes:
    """A workbook: numbers as numbers, texts as shared or inline strings; `prefix` as some writers put before each name."""
    p = f"{prefix}:" if prefix else ""
    ns = X.replace("xmlns=", f"xmlns:{prefix}=") if prefix else X
    strings: dict[str, int] = {}
    lines = []
    for number, row in enumerate(rows, 1):
        cells = []
        for column, value in enumerate(row):
            place = f"{chr(65 + column)}{number}"
            if value.isdecimal() and not value.startswith("0"):
                cells.append(f'<{p}c r="{place}"><{p}v>{value}</{p}v></{p}c>')
            elif shared:
                at = strings.setdefault(value, len(strings))
                cells.append(f'<{p}c r="{place}" t="s"><{p}v>{at}</{p}v></{p}c>')
            else:
                cells.append(f'<{p}c r="{place}" t="inlineStr"><{p}is><{p}t>{escape(value)}</{p}t></{p}is></{p}c>')
        lines.append(f'<{p}row r="{number}">{"".join(cells)}</{p}row>')
    sheet = f"<{p}worksheet {ns}><{p}sheetData>{''.join(lines)}</{p}sheetData></{p}worksheet>"
    table = "".join(f"<{p}si><{p}t>{escape(text)}</{p}t></{p}si>" for text in strings)
    return packed({
        "[Content_Types].xml": "<Types/>",
        "xl/workbook.xml": "<workbook/>",
        "xl/worksheets/sheet1.xml": sheet,
        "xl/sharedStrings.xml": f"<{p}sst {ns}>{table}</{p}sst>",
    })  # fmt: skip


def docx(paragraphs: Iterable[str] = (), rows: Rows = ()) -> bytes:
    def shown(text: str) -> str:  # a word in each run, as Word does after corrections
        runs = [f'<w:r><w:t xml:space="preserve">{escape(word)} </w:t></w:r>' for word in text.split(" ")]
        return f"<w:p>{''.join(runs)}</w:p>"

    table = "".join(f"<w:tr>{''.join(f'<w:tc>{shown(cell)}</w:tc>' for cell in row)}</w:tr>" for row in rows)
    body = "".join(map(shown, paragraphs)) + (f"<w:tbl>{table}</w:tbl>" if table else "")
    return packed({"word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>"})


def ods(rows: Rows) -> bytes:
    number = 'office:value-type="float" office:value'
    lines = []
    for row in rows:
        cells = [
            f'<table:table-cell {number}="{value}"><text:p>{int(value):,}</text:p></table:table-cell>'
            if value.isdecimal()
            else f"<table:table-cell><text:p>{escape(value)}</text:p></table:table-cell>"
            if value
            else '<table:table-cell table:number-columns-repeated="1"/>'
            for value in row
        ]
        lines.append(f"<table:table-row>{''.join(cells)}</table:table-row>")
    many = '<table:table-cell table:number-columns-repeated="16384"/>'
    empty = f'<table:table-row table:number-rows-repeated="1048000">{many}</table:table-row>'
    table = f"<table:table>{''.join(lines)}{empty}</table:table>"
    content = f"<office:document-content {ODF}><office:body>{table}</office:body></office:document-content>"
    return packed({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": content})


def csv(rows: Rows, delimiter: str = ";") -> bytes:
    return "".join(f"{delimiter.join(row)}\r\n" for row in rows).encode()


def pdf(lines: Sequence[str]) -> bytes:
    """One page, one built-in font, the text as it is."""
    text = "BT /F1 10 Tf 40 800 Td 12 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(text)}>>stream\n{text}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    made, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj{body}endobj\n"
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    tail = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\n"
    return f"{made}{tail}startxref\n{len(made)}\n%%EOF\n".encode()


def mail(*files: tuple[str, str, bytes], text: str = "Zie bijlage.", head: str = "") -> bytes:
    """A letter with attachments `(name, type, content)`, CRLF line ends."""
    from email.message import EmailMessage
    from email.policy import SMTP

    made = EmailMessage(policy=SMTP)
    made["From"], made["To"], made["Subject"] = "info@sender.example", "ann@dest.example", "bestand"
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        made[name] = value
    made.set_content(text)
    for name, kind, content in files:
        main, _, sub = kind.partition("/")
        made.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return made.as_bytes()
