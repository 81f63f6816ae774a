"""Files in files, files under a wrong label, and what stands in a document beside its text: read, or told as unreadable."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from base64 import encodebytes
from io import BytesIO

import pytest

from relay.mail.documents.budget import Budget, Limits
from relay.mail.leaks.findings import Findings, Terms
from relay.mail.leaks.inspect import inspect, inspect_message, is_plain
from relay.mail.message import Message
from tests.relay.mail.documents import made
from tests.relay.mail.leaks.test_detectors import good_bsns

PEOPLE = [["Naam", "Adres", "Postcode"], *([f"Klant {n}", f"Straat {n}", f"{n + 1000} AB"] for n in range(60))]
LIST = made.csv(PEOPLE)
BOOK = made.xlsx(PEOPLE)
ADDRESSES = [f"person{n}@people{n}.example" for n in range(60)]
FOUND = {"address_file": 60}
EMPTY = made.packed({})


def tar(*files: tuple[str, bytes], mode: str = "w") -> bytes:
    held = BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:  # type: ignore[call-overload]  # the mode is one of two
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    return held.getvalue()


def twice() -> bytes:
    held = BytesIO()
    with zipfile.ZipFile(held, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("klanten.csv", LIST)
        archive.writestr("klanten.csv", b"leeg")
    return held.getvalue()


MAIL = b"Subject: x\r\nContent-Type: text/csv; name=k.csv\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encodebytes(
    LIST
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tar", tar(("x" * 150, b"niets"), ("klanten.csv", LIST))),
        ("a.tgz", tar(("leeg", b""), ("klanten.csv", LIST), mode="w:gz")),
        ("a.csv.gz", gzip.compress(b"datum;x\n") + gzip.compress(LIST) + b"\0" * 512),
        ("a.csv.gz", gzip.compress(b"") + gzip.compress(LIST)),
        ("a.exe", b"MZ\0\0" + made.packed({"klanten.csv": LIST})),
        ("a.exe", b"MZ" + b"\0" * 100_000 + made.packed({"klanten.csv": LIST})),
        ("a.exe", b"MZ" + b"\0" * 100_000 + made.packed({"klanten.csv": LIST}) + b"signed" * 9_000),
        ("a.txt", b"MZ" + b"\0" * 100_000 + made.packed({"klanten.csv": LIST})),
        ("a.csv", b"MZ;\0\n" + LIST),
        ("a.zip", twice()),
        ("a.zip", made.packed({"bericht.eml": MAIL})),
        ("a.docx", made.packed({"word/document.xml": "<a/>", "word/embeddings/Sheet1.xlsx": BOOK})),
        ("a.pptx", made.packed({"ppt/presentation.xml": "<a/>", "ppt/embeddings/w.xlsx": BOOK})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_lies_in_a_container_is_read(name: str, content: bytes) -> None:
    found = inspect(content, "", name)
    assert found.counts == FOUND and not found.unreadable and not found.crashes


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (made.packed({"xl/workbook.bin": b"\0" * 50, "xl/worksheets/sheet1.bin": b"\0"}), "unsupported"),
        (b"SQLite format 3\0" + b"\0" * 50, "unsupported"),
        (b"\x78\x9f\x3e\x22" + b"\0" * 50, "unsupported"),
        (b"\0\1\0\0Standard Jet DB\0" + b"\0" * 50, "unsupported"),
        (made.packed({"a.tar": tar(("a.csv", LIST))}), "nested"),
        (tar(("a.tar", tar(("a.csv", LIST)))), "nested"),
        (tar(("a.csv", LIST))[:1_000], "broken"),
        (gzip.compress(b"niets") + b"rest", "broken"),
        (made.packed({"a.eml": MAIL.replace(b"text/csv; name=k.csv", b"application/zip; name=k.zip")}), ""),
        (
            made.packed({"word/document.xml": "<a/>", "word/embeddings/o.bin": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"}),
            "unsupported",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # archives hold the time at which they were made
)
def test_what_cannot_be_opened_is_told(content: bytes, why: str) -> None:
    found = inspect(content, "", "bestand")
    assert not found.crashes and found.unreadable == ((why,) if why else ())
    assert ("address_file" in found.counts) is not bool(why)


def test_a_program_is_a_program() -> None:
    stub = b"MZ" + b"\0" * 100_000
    for program in (stub, b"MZ", stub + b"PK\5\6", stub + LIST):
        assert not inspect(program, "", "a.exe").counts
    broken = stub + made.packed({"klanten.csv": LIST})[300:]
    assert inspect(broken, "", "a.exe").unreadable == ("broken",)


def test_of_a_very_long_program_the_end_is_read() -> None:
    program = b"MZ" + bytes(33_600_000) + made.packed({"klanten.csv": LIST})
    assert inspect(program, "", "a.exe").counts == FOUND


def test_a_mail_in_a_mail_in_an_archive_ends_there() -> None:
    inner = made.packed({"b.eml": MAIL})
    outer = made.mail(("b.zip", "application/zip", inner), text="niets")
    found = inspect(made.packed({"a.eml": outer}), "", "a.zip")
    assert found.unreadable == ("nested",) and not found.crashes


def test_a_tape_of_many_files_is_a_bomb() -> None:
    tape = tar(*((f"{n}.txt", b"") for n in range(20)))
    assert inspect(tape, "", "a.tar", budget=Budget(Limits(entries=19))).bomb == "entries"
    assert not inspect(tape, "", "a.tar", budget=Budget(Limits(entries=20))).bomb


def test_what_stands_beside_the_cells_of_a_workbook_is_read() -> None:
    sheet = {"xl/workbook.xml": "<w/>", "xl/worksheets/sheet1.xml": "<s/>"}
    links = "".join(f'<Relationship Target="mailto:{address}"/>' for address in ADDRESSES)
    notes = "".join(f"<comment><text><t>{address}</t></text></comment>" for address in ADDRESSES)
    records = "".join(f'<r><s v="Klant"/><s v="{address}"/></r>' for address in ADDRESSES)
    for name, text in (
        ("xl/worksheets/_rels/sheet1.xml.rels", f"<Relationships>{links}</Relationships>"),
        ("xl/comments1.xml", f"<comments>{notes}</comments>"),
        ("xl/threadedComments/threadedComment1.xml", f"<x>{notes}</x>"),
        ("xl/pivotCache/pivotCacheRecords1.xml", f"<pivotCacheRecords>{records}</pivotCacheRecords>"),
    ):
        assert inspect(made.packed({**sheet, name: text}), "", "a.xlsx").counts == FOUND, name


LINKED = "".join(
    f'<row r="{n}"><cell r="A{n}" t="str"><v>{address}</v></cell><cell r="B{n}"><v>{n}</v></cell></row>'
    for n, address in enumerate(ADDRESSES, 1)
)


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("xl/externalLinks/externalLink1.xml", f"<l><sheetDataSet>{LINKED}</sheetDataSet></l>", FOUND),
        (
            "xl/externalLinks/externalLink2.xml",
            "<l><row><cell r='A1' t='str'><v>BSN</v></cell><cell r='B1'><v>123456782</v></cell></row></l>",
            {"bsn": 1},
        ),
        ("xl/externalLinks/externalLink3.xml", "<l><value t='str'><val>BSN 123456782</val></value></l>", {"bsn": 1}),
        ("xl/drawings/drawing1.xml", "<d><a:p><a:t>BSN 1234</a:t><a:t>56782</a:t></a:p></d>", {"bsn": 1}),
        ("xl/drawings/drawing1.xml", "<d><a:t>BSN</a:t><x:col>1234</x:col><x:row>56782</x:row></d>", {}),
        ("xl/worksheets/sheet2.xml", "<s><oddHeader>&amp;LBSN 123456782&amp;RPagina &amp;P</oddHeader></s>", {"bsn": 1}),
        ("xl/worksheets/sheet2.xml", "<s><firstFooter>&amp;C&amp;\"Arial,Bold\"&amp;8BSN 1234&amp;B56782</firstFooter></s>",
         {"bsn": 1}),
        ("xl/chartsheets/sheet1.xml", "<s><evenHeader>J&amp;&amp;L BSN 123456782</evenHeader></s>", {"bsn": 1}),
    ],
)  # fmt: skip
def test_what_stands_around_the_sheets_of_a_workbook_is_read(name: str, text: str, counts: dict[str, int]) -> None:
    text = text.replace("<d>", '<d xmlns:a="a" xmlns:x="x">')
    found = inspect(made.packed({"xl/workbook.xml": "<w/>", name: text}), "", "a.xlsx")
    assert found.counts == counts and not found.crashes


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("comments2", {"bsn": 1}),
        ("glossary/document", {"bsn": 1}),
        ("commentsExtended", {"bsn": 1}),
        ("diagrams/data1", {"bsn": 1}),
        ("styles", {}),
        ("glossary/settings", {}),
    ],
)
def test_every_part_of_a_letter_is_read_that_holds_text(part: str, counts: dict[str, int]) -> None:
    text = f"<w:x {made.W}><w:p><w:t>BSN 1234</w:t><w:t>56782</w:t></w:p></w:x>"
    found = inspect(made.packed({"word/document.xml": "<a/>", f"word/{part}.xml": text}), "", "a.docx")
    assert found.counts == counts and not found.unreadable


def test_what_was_struck_out_of_a_letter_and_where_its_links_lead_is_read() -> None:
    struck = "".join(f"<w:p><w:del><w:r><w:delText>{address}</w:delText></w:r></w:del></w:p>" for address in ADDRESSES)
    number = good_bsns(1)[0]
    half = f"<w:t>BSN {number[:4]}</w:t><w:delText>99</w:delText><w:t>{number[4:]}</w:t>"
    text = f"<w:document {made.W}>{struck}<w:p>{half}</w:p></w:document>"
    assert inspect(made.packed({"word/document.xml": text}), "", "a.docx").counts == {"bsn": 1, **FOUND}
    links = "".join(f'<Relationship Target="mailto:{address}"/>' for address in ADDRESSES)
    parts: dict[str, str | bytes] = {
        "word/document.xml": "<a/>",
        "word/_rels/document.xml.rels": f"<Relationships>{links}</Relationships>",
    }
    assert inspect(made.packed(parts), "", "a.docx").counts == FOUND


@pytest.mark.parametrize("name", ["a.xls", "a.html"])
def test_a_table_of_a_web_page_is_a_table(name: str) -> None:
    rows = "".join("<TR class=x>" + "".join(f"<td>{cell}" for cell in row) + "</tr>" for row in PEOPLE)
    page = f"<html><body><p>Overzicht</p><table>{rows}</table>Einde</body></html>"
    assert inspect(page.encode(), "application/vnd.ms-excel", name).counts == FOUND


def test_xml_is_read_with_its_names() -> None:
    numbers = good_bsns(60)
    for form in ('<p bsn="{}" naam="x"/>', "<p><BSN>{}</BSN><nr>300000001</nr></p>"):
        text = "<?xml version='1.0'?><lijst>" + "".join(map(form.format, numbers)) + "</lijst>"
        assert inspect(text.encode(), "text/xml", "a.xml").counts == {"bsn": 60}
    text = "<l>" + "".join(f"<p email='{address}'/>" for address in ADDRESSES) + "</l>"
    assert inspect(text.encode(), "", "a.xml").counts == FOUND


@pytest.mark.parametrize("size", [0, 70_000])
def test_links_that_write_to_people_are_a_list(size: int) -> None:
    links = "".join(f'<a href="mailto:{address}?subject=x">Jan</a>, ' for address in ADDRESSES)
    message = Message.split(f"Content-Type: text/html\r\n\r\n{'x ' * size}{links}\r\n".encode())
    assert isinstance(message, Message)
    assert inspect_message(message, Terms(), Budget()).counts == {"address_list": 60}


def typed(kind: str, content: bytes) -> Message:
    raw = b"Content-Type: " + kind.encode() + b"; name=klanten.csv\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    message = Message.split(raw + encodebytes(content).replace(b"\n", b"\r\n"))
    assert isinstance(message, Message)
    return message


def seen(message: Message) -> Findings:
    return inspect_message(message, Terms(), Budget())


@pytest.mark.parametrize(
    "kind",
    [
        "pgp-signature",
        "pgp-encrypted",
        "pgp-keys",
        "pkcs7-signature",
        "x-pkcs7-signature",
        "pkcs7-mime; smime-type=signed-data",
    ],
)
def test_a_label_hides_no_file(kind: str) -> None:
    message = typed(f"application/{kind}", LIST)
    assert seen(message).counts == FOUND and not is_plain(message)
    assert not is_plain(typed("image/png", made.packed({"klanten.csv": LIST})))


def test_a_signature_is_none_and_a_sealed_letter_is_told() -> None:
    der = b"0\x82\x01\x00" + b"\1" * 256
    for kind in ("application/pkcs7-signature", "application/x-pkcs7-signature"):
        assert seen(typed(kind, der)).counts == {} and is_plain(typed(kind, der))
    sealed = typed("application/pkcs7-mime; smime-type=signed-data", der + LIST)
    assert seen(sealed).unreadable == ("unsupported",) and "address_file" not in seen(sealed).counts
    assert seen(typed("application/pkcs7-mime", der)).unreadable == ("encrypted",)


@pytest.mark.parametrize("name", ["loonstrook BSN 123456782.pdf", "BSN_123456782.png"])
def test_the_name_of_a_file_is_read(name: str) -> None:
    assert seen(Message.split(made.mail((name, "image/png", b"\x89PNG\0")))).counts == {"bsn": 1}  # type: ignore[arg-type]
    other = name.replace("BSN", "scan")
    assert seen(Message.split(made.mail((other, "image/png", b"\x89PNG\0")))).counts == {}  # type: ignore[arg-type]


def test_pdf_without_a_reader_is_told_once() -> None:
    files = [(f"{n}.pdf", "application/pdf", made.pdf(["BSN 123456782"])) for n in range(3)]
    message = Message.split(made.mail(*files))
    assert isinstance(message, Message)
    assert seen(message).unreadable == ("unsupported",)
