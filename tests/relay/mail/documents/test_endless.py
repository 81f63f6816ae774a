"""What has no end, no bottom or no sense: a scan reads on past it, in flat memory, and never fails."""

from __future__ import annotations

import random

import pytest

from relay.mail.documents.budget import Budget, OutOfTime, Row
from relay.mail.documents.separated import MAX_ROW_LINES, read_separated
from relay.mail.leaks.findings import Findings, Terms
from relay.mail.leaks.inspect import inspect, inspect_message
from relay.mail.leaks.search import Place
from relay.mail.message import Message
from tests.harness.timing import rounds
from tests.relay.mail.documents import made
from tests.relay.mail.documents.test_bombs import MEGABYTE, measured, peak_of

NO_LETTER = "&#" + "1" * 4_400 + ";"


def body(text: str, kind: str = "text/html") -> Findings:
    message = Message.split(f"Subject: x\r\nContent-Type: {kind}\r\n\r\n{text}\r\n".encode())
    assert isinstance(message, Message)
    return inspect_message(message, Terms(), Budget())


@pytest.mark.parametrize("reference", [NO_LETTER, NO_LETTER[:-1], "&#x" + "1" * 60_000 + ";", "&#55555555555;"])
def test_a_reference_to_no_letter_is_text(reference: str) -> None:
    """A mail with one used to be told 451 for ever: Python refuses to make a number of so many digits."""
    text = f"<p>{reference}</p><p>BSN&#58; 123456782</p>"
    for found in (body(text), body("x" * 70_000 + text), inspect(text.encode(), "text/html", "a.html")):
        assert found.counts == {"bsn": 1} and not found.crashes


@pytest.mark.parametrize("size", [10, 70_000])
def test_what_fails_in_one_text_is_told_and_the_rest_is_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Whatever a body does to a reader of ours, the mail is judged by what could be read (PIPE-6)."""
    looked = Place.text

    def fails(place: Place, text: str, *, ends: bool = False) -> None:
        if "oeps" in text:
            raise ZeroDivisionError(text)
        looked(place, text, ends=ends)

    monkeypatch.setattr(Place, "text", fails)
    raw = made.mail(("a.csv", "text/csv", b"BSN;123456782\n" * 5), text="oeps" + "x" * size)
    message = Message.split(raw)
    assert isinstance(message, Message)
    found = inspect_message(message, Terms(), Budget())
    assert found.counts == {"bsn": 1, "unreadable": 1} and found.unreadable == ("broken",)
    assert len(found.crashes) == 1 and "ZeroDivisionError" in found.crashes[0] and "oeps" not in found.crashes[0]


def test_a_record_without_an_end_is_read_line_by_line() -> None:
    content = b'"a\n";' * (MEGABYTE // 5)
    few = peak_of(lambda: inspect(content[: MEGABYTE // 10], "", "a.csv"))
    found, peak = measured(lambda: inspect(content, "", "a.csv"), 4.0)
    assert not found.counts and peak < few + 3, "memory grows with the record"
    rows = list(read_separated(iter(['"a\n";' * 10_000]), Budget()))
    assert all(isinstance(row, Row) and len(row.cells) <= 3 for row in rows)
    assert len(rows) > 10_000 - MAX_ROW_LINES


def test_a_record_without_an_end_is_left_when_the_time_is_over() -> None:
    looks = iter(range(1_000_000))
    with pytest.raises(OutOfTime):
        inspect(b'"a\n";' * MEGABYTE, "", "a.csv", budget=Budget(expired=lambda: next(looks) >= 3))
    assert next(looks) == 4


def test_a_record_of_long_lines_is_cut_too() -> None:
    text = 'a;b\na;b\na;b\n"' + (";" * 60_000 + "\n") * 40 + '";BSN;123456782\n'
    found, peak = measured(lambda: inspect(text.encode(), "", "a.csv"), 4.0)
    assert found.counts == {"bsn": 1} and peak < 20


def test_xml_of_open_tags_is_left_early() -> None:
    tags = b"<a>" * MEGABYTE
    book = made.packed({"word/document.xml": tags, "a.bin": random.Random(1).randbytes(len(tags) // 90)})
    found, peak = measured(lambda: inspect(book, "", "a.docx"), 1.0)
    assert found.unreadable == ("broken",) and peak < 12


def test_ends_of_address_cards_are_no_people() -> None:
    for timed in rounds(1.0):
        with timed:
            found = inspect(b"END\n" * (MEGABYTE // 4), "text/vcard", "a.vcf")
    assert not found.counts
    empty = "BEGIN:VCARD\nEND:VCARD\n" * 60
    assert not inspect(empty.encode(), "text/vcard", "a.vcf").counts
    assert inspect((empty + "N:a\nEND:VCARD\n" * 50).encode(), "text/vcard", "a.vcf").counts == {"address_file": 50}


def test_address_cards_are_left_when_the_time_is_over() -> None:
    looks = iter(range(1_000_000))
    with pytest.raises(OutOfTime):
        inspect(b"N:a\n" * MEGABYTE, "", "a.vcf", budget=Budget(expired=lambda: next(looks) >= 3))


def test_a_crowd_for_each_of_thousands_of_columns_has_its_bound() -> None:
    def table(rows: int) -> bytes:
        lines = (
            ";".join(str(100_000_000 + row * 7 + column * 45_000) for column in range(2_000)) for row in range(rows)
        )
        return "\n".join(lines).encode()

    content = table(100)
    assert peak_of(lambda: inspect(content, "", "a.csv")) < 45


@pytest.mark.parametrize("blank", [";;;", " ; ;;", ""])
def test_empty_rows_are_no_people(blank: str) -> None:
    """Spreadsheet programs put out every row that was ever touched."""
    rows = "".join(f"Filiaal {n};Dorpsstraat {n};Zwolle;{n}\n" for n in range(10))
    text = "Naam;Adres;Plaats;Omzet\n" + rows + f"{blank}\n" * 90
    assert not inspect(text.encode(), "text/csv", "filialen.csv").counts
    assert inspect((text + rows * 4).encode(), "text/csv", "filialen.csv").counts == {"address_file": 50}


def test_cells_of_several_lines_leave_a_table_a_table() -> None:
    """Address books write a whole address into one cell; its line ends and commas are not the table's."""
    people = [f'"P {at}","Dorpsstraat {at}\n{1000 + at} AB, Ede","06-123456{at:02}"\n' for at in range(60)]
    rows = list(read_separated(iter(['"Naam","Adres","Telefoon"\n', *people]), Budget()))
    assert [len(row.cells) for row in rows if isinstance(row, Row)] == [3] * 61
    assert [len(row.cells) for row in read_separated(iter(['19" scherm;2\n21" scherm;3\n']), Budget())] == [2, 2]
