"""Each kind of document gives what stands in it to the detectors, and what cannot be read is told."""

from __future__ import annotations

import gzip
from base64 import encodebytes
from collections.abc import Callable

import pytest

from relay.mail.documents.budget import Budget
from relay.mail.leaks.findings import Findings, Terms
from relay.mail.leaks.inspect import inspect, inspect_message
from relay.mail.message import Message
from tests.relay.mail.documents import made
from tests.relay.mail.leaks.test_detectors import good_bsns, good_cards, good_ibans

PEOPLE = [["Naam", "Adres", "Postcode", "Woonplaats"]] + [
    [f"Klant {number}", f"Dorpsstraat {number}", "1234 AB", "Utrecht"] for number in range(60)
]
PAYROLL = [["Medewerker", "BSN", "Uren"]] + [[f"Jan {at}", number, "36"] for at, number in enumerate(good_bsns(12))]
UNNAMED = [["a", number, "3"] for number in good_bsns(6)]
WRITERS: dict[str, Callable[[list[list[str]]], bytes]] = {
    "a.xlsx": made.xlsx,
    "inline.xlsx": lambda rows: made.xlsx(rows, shared=False),
    "prefixed.xlsx": lambda rows: made.xlsx(rows, prefix="x"),
    "a.docx": lambda rows: made.docx(rows=rows),
    "a.ods": made.ods,
    "a.csv": made.csv,
    "a.tsv": lambda rows: made.csv(rows, "\t"),
    "comma.csv": lambda rows: made.csv(rows, ","),
    "utf16.csv": lambda rows: b"\xff\xfe" + made.csv(rows).decode().encode("utf-16-le"),
}


def message(raw: bytes) -> Findings:
    split = Message.split(raw)
    assert isinstance(split, Message)
    return inspect_message(split, Terms(), Budget())


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_of_people_is_an_address_file(name: str) -> None:
    assert inspect(WRITERS[name](PEOPLE), "", name).counts == {"address_file": 60}
    assert inspect(WRITERS[name]([["Lijst van klanten"], [], *PEOPLE]), "", name).counts == {"address_file": 60}
    assert inspect(WRITERS[name](PEOPLE[:40]), "", name).counts == {}


@pytest.mark.parametrize("name", WRITERS)
def test_citizen_numbers_are_known_by_their_column(name: str) -> None:
    assert inspect(WRITERS[name](PAYROLL), "", name).counts == {"bsn": 12}
    assert inspect(WRITERS[name](PAYROLL[:2]), "", name).counts == {"bsn": 1}, "the name of the column is word enough"
    assert inspect(WRITERS[name](UNNAMED), "", name).counts == {"bsn": 6}, "a crowd needs no name"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "row",
    [
        ["BSN", "123456782"],
        ["BSN 123456782", "x"],
        ["x", "123456782 (bsn)"],
        ["x", "zijn burgerservicenummer is 123456782"],
    ],
)
def test_a_cell_and_its_neighbour_say_what_a_number_is(name: str, row: list[str]) -> None:
    assert inspect(WRITERS[name]([["a", "b"], ["c", "d"], row]), "", name).counts == {"bsn": 1}


@pytest.mark.parametrize("name", WRITERS)
def test_another_column_says_nothing(name: str) -> None:
    rows = [["geboortedatum", "bsn", "order"], *([f"1984051{n}", "", str(300_000_000 + 7 * n)] for n in range(1, 9))]
    assert inspect(WRITERS[name](rows), "", name).counts == {}


@pytest.mark.parametrize("name", WRITERS)
def test_accounts_cards_and_addresses_are_found_in_cells(name: str) -> None:
    rows = [
        [f"lid{n}@leden.example", account, card]
        for n, (account, card) in enumerate(zip(good_ibans(60), good_cards(60), strict=True))
    ]
    assert inspect(WRITERS[name](rows), "", name).counts == {"iban": 60, "card": 60, "address_file": 60}


def test_paragraphs_of_a_document_are_text() -> None:
    text = ["Beste lezer,", f"mijn burgerservicenummer is {good_bsns(1)[0]} en", *good_ibans(5)]
    assert inspect(made.docx(text), "", "brief.docx").counts == {"bsn": 1, "iban": 5}


@pytest.mark.parametrize("lines", [60, 4_000])
def test_a_quote_that_nobody_closes_hides_nothing(lines: int) -> None:
    """Neither the rows that it swallows nor, past what a field may hold, the text."""
    rows = [["naam", "bsn", "adres", "postcode"], ["Jan", "", '"de Lange', "1234 AB"]]
    rows += [["Piet", number, "Dorpsstraat", "1234 AB"] for number in good_bsns(12)]
    rows += [["Klaas", "", "Dorpsstraat", "1234 AB"]] * lines
    found = inspect(made.csv(rows), "", "a.csv")
    assert found.counts.get("bsn") == 12


def test_cards_of_people_are_a_table() -> None:
    lines = ("BEGIN:VCARD", "item1.FN:Klant {0}", "TEL;TYPE=work:020 {0}", "ADR:;;Straat {0};Utrecht", "END:VCARD", "")
    card = "\r\n".join(lines)
    assert inspect("".join(map(card.format, range(60))).encode(), "text/vcard", "a.vcf").counts == {"address_file": 60}
    assert inspect("".join(map(card.format, range(40))).encode(), "text/vcard", "a.vcf").counts == {}


def test_one_level_of_archives_is_opened() -> None:
    files: dict[str, str | bytes] = {"map/klanten.csv": made.csv(PEOPLE), "loon.xlsx": made.xlsx(PAYROLL)}
    assert inspect(made.packed(files), "application/zip", "alles.zip").counts == {"bsn": 12, "address_file": 60}
    inner = inspect(made.packed({"binnen.zip": made.packed(files)}), "", "buiten.zip")
    assert inner.counts == {"unreadable": 1} and inner.unreadable == ("nested",)
    assert inspect(gzip.compress(made.csv(PEOPLE)), "", "klanten.csv.gz").counts == {"address_file": 60}


def test_a_file_is_known_by_its_octets_first() -> None:
    assert inspect(made.xlsx(PAYROLL), "text/plain", "foto.txt").counts == {"bsn": 12}
    assert inspect(made.csv(PEOPLE), "application/octet-stream", "klanten").counts == {"address_file": 60}
    assert inspect(b"\x89PNG" + made.csv(PEOPLE), "image/png", "foto").counts == {}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"Rar!\x1a\x07\x00rest", "unsupported"),
        (b"7z\xbc\xaf\x27\x1crest", "unsupported"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1old", "unsupported"),
        (made.xlsx(PAYROLL)[:300], "broken"),
        (b"PK\x03\x04nothing", "broken"),
        (b"\x1f\x8b\x08nothing at all", "broken"),
        (made.packed({"word/document.xml": "<a><b></a>"}), "broken"),
        (made.packed({"word/document.xml": b"\xff\xfe\x00"}), "broken"),
    ],
)
def test_what_cannot_be_read_is_told(content: bytes, why: str) -> None:
    found = inspect(content, "", "bestand")
    assert found.unreadable == (why,) and found.counts == {"unreadable": 1} and not found.crashes


def test_what_a_broken_document_showed_before_counts() -> None:
    sheet = '<worksheet><row><c t="inlineStr"><is><t>BSN</t></is></c><c><v>123456782</v></c></row><oeps>'
    found = inspect(made.packed({"xl/workbook.xml": "<w/>", "xl/worksheets/sheet1.xml": sheet}), "", "a.xlsx")
    assert found.counts == {"bsn": 1, "unreadable": 1}


def test_every_part_of_a_mail_is_looked_at() -> None:
    bsn = good_bsns(1)[0]
    assert message(made.mail(head=f"X-Other: {bsn}", text="niets")).counts == {}
    assert message(made.mail(text=f"BSN {bsn}")).counts == {"bsn": 1}
    assert message(b"Subject: =?utf-8?q?BSN_" + bsn.encode() + b"?=\r\n\r\nniets\r\n").counts == {"bsn": 1}
    files = [("a.csv", "text/csv", made.csv(PEOPLE)), ("b.xlsx", "application/octet-stream", made.xlsx(PAYROLL))]
    found = message(made.mail(*files))
    assert found.counts == {"bsn": 12, "address_file": 60}
    assert [each.counts for each in found.files] == [{"address_file": 60}, {"bsn": 12}]
    assert all("a.csv" not in each.name_hash and "b.xlsx" not in each.name_hash for each in found.files)


@pytest.mark.parametrize("encoding", ["7bit", "base64"])
def test_an_attached_mail_is_a_mail(encoding: str) -> None:
    """Its head too: the old To line of a mail that is forwarded as an attachment (DLP-4)."""
    people = ", ".join(f"person{number}@people{number}.example" for number in range(40))
    inner = f"From: a@b.example\r\nTo: {people}\r\nSubject: feest\r\n\r\nBSN 123456782\r\n".encode()
    body = encodebytes(inner).replace(b"\n", b"\r\n") if encoding == "base64" else inner
    raw = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n"
    )
    raw += b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    assert message(raw).counts["bsn"] == 1
    if encoding == "7bit":
        assert message(raw).counts["address_list"] == 41


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("size", [10, 70_000, 400_000])
def test_large_texts_are_read_in_every_encoding(encoding: str, size: int) -> None:
    import quopri

    text = ("regel zonder iets é\n" * (size // 20) + "bsn 123456782\n").encode()
    coded = {"base64": encodebytes, "quoted-printable": quopri.encodestring, "8bit": bytes}[encoding](text)
    head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    assert message(head + coded.replace(b"\n", b"\r\n")).counts == {"bsn": 1}


def test_an_encrypted_mail_cannot_be_checked() -> None:
    raw = b"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\n"
    found = message(raw + b"Version: 1\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\nabc\r\n--b--\r\n")
    assert found.unreadable == ("encrypted",)


def test_a_pdf_without_a_reader_is_told() -> None:
    assert inspect(made.pdf(["BSN 123456782"]), "application/pdf", "a.pdf").counts == {"unreadable": 1}


CARE = "Met groet, ons kantoor\r\nBetreft pati\u00ebnt Bos, pati\u00ebntnummer 7490866: een depressie waarvoor medicatie.\r\n"


@pytest.mark.parametrize("charset", ["utf-8", "cp1252", "utf-8-sig", "utf-16"])
def test_a_text_file_without_a_charset_is_read_as_it_was_saved(charset: str) -> None:
    assert "special" in inspect(CARE.encode(charset), "text/plain", "brief.txt").counts


def test_a_letter_cut_by_the_end_of_a_chunk_or_of_the_file_changes_nothing_else() -> None:
    cut = ("x" * (64 * 1024 - 1) + "\u00eb\r\n" + CARE).encode()
    assert "special" in inspect(cut, "text/plain", "brief.txt").counts
    assert "special" in inspect(CARE.encode() + b"\xc3", "text/plain", "brief.txt").counts


def test_sentences_with_a_comma_each_are_no_table() -> None:
    number = good_bsns(1)[0]
    lines = f"Goedemorgen, hierbij het stuk.\r\nGeboortedatum 24-01-1954, nummer {number}\r\nMet groet, Tess\r\n"
    assert inspect(lines.encode(), "text/plain", "brief.txt").counts == {"bsn": 1}
