"""Bad input: bombs are refused fast and in flat memory, hostile texts take linear time, and a scan ends when its time does."""

from __future__ import annotations

import gzip
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from io import BytesIO

import pytest

from relay.mail.documents.budget import Budget, Limits, OutOfTime
from relay.mail.leaks.findings import Findings
from relay.mail.leaks.inspect import inspect
from tests.harness.timing import rounds
from tests.relay.mail.documents import made

MEGABYTE = 1_000_000
SECONDS = 1.0  # of CPU for a megabyte of the worst text: four times what it takes on two slow cores


def peak_of(scan: Callable[[], Findings]) -> float:
    """With how many megabytes more at the most."""
    tracemalloc.start()
    scan()
    peak = tracemalloc.get_traced_memory()[1] / MEGABYTE
    tracemalloc.stop()
    return peak


def measured(scan: Callable[[], Findings], most: float) -> tuple[Findings, float]:
    """What was found, in less than `most` seconds of CPU, and with how many megabytes more at the peak."""
    for timed in rounds(most):
        with timed:
            found = scan()
    return found, peak_of(scan)


def recursive() -> bytes:
    """As 42.zip is built: archives in archives in archives."""
    deepest = made.packed({f"{n}.txt": b"0" * 100_000 for n in range(16)})
    middle = made.packed({f"lib{n}.zip": deepest for n in range(16)})
    return made.packed({f"book{n}.zip": middle for n in range(16)})


def overlapping() -> bytes:
    """As zbsm.zip is built: 250 entries that share the same octets."""
    held = BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * (20 * MEGABYTE))
        first = archive.infolist()[0]
        for number in range(250):
            twin = zipfile.ZipInfo(f"b{number}")
            for name in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, name, getattr(first, name))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    return held.getvalue()


def lying() -> bytes:
    """An entry that says it is ten octets and is forty million."""
    raw = bytearray(made.packed({"a.txt": b"0" * (40 * MEGABYTE)}))
    directory = raw.rfind(b"PK\x01\x02")
    struct.pack_into("<L", raw, directory + 24, 10)
    struct.pack_into("<L", raw, 22, 10)
    return bytes(raw)


def crowded() -> bytes:
    return made.packed({f"{number}.txt": b"" for number in range(5_000)})


def huge_directory() -> bytes:
    """Half a million entries would be read before anybody could count them."""
    entry = b"PK\x01\x02" + b"\0" * 42
    directory = entry * 400_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 4, 0)
    return b"PK\x03\x04" + directory + end


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "flat": (lambda: made.packed({"a.txt": b"\0" * (43 * MEGABYTE)}), "ratio"),
    "several": (lambda: made.packed({f"{n}.csv": b"x" * (3 * MEGABYTE) for n in range(14)}), "ratio"),
    "recursive": (recursive, "depth"),
    "overlapping": (overlapping, "unpacked_bytes"),
    "entries": (crowded, "entries"),
    "directory": (huge_directory, "entries"),
    "workbook": (
        lambda: made.packed({"xl/workbook.xml": "", "xl/worksheets/sheet1.xml": b"<a>" * (14 * MEGABYTE)}),
        "ratio",
    ),
    "gzip": (lambda: gzip.compress(b"0" * (43 * MEGABYTE)), "ratio"),
    "gzip of nothing to read": (lambda: gzip.compress(b"\0" * (43 * MEGABYTE)), "ratio"),
    "gzip of a tape and more": (lambda: gzip.compress(b"\0" * 257 + b"ustar" + b"\0" * (43 * MEGABYTE)), "ratio"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once_and_in_flat_memory(name: str) -> None:
    make, limit = BOMBS[name]
    bomb = make()
    found, peak = measured(lambda: inspect(bomb, "", "bestand"), 1.0)
    assert found.bomb == limit
    assert peak < 20 + len(bomb) / MEGABYTE


def test_an_archive_that_lies_about_its_sizes_is_stopped_while_it_unpacks() -> None:
    bomb = lying()
    found, peak = measured(lambda: inspect(bomb, "", "a.zip"), 1.0)
    assert found.bomb or found.unreadable == ("broken",)
    assert peak < 20


def test_the_limit_of_all_files_together_holds_over_files() -> None:
    noise = random.Random(1).randbytes(600_000).hex()
    archive = made.packed({f"{n}.txt": noise for n in range(4)})
    assert not inspect(archive, "", "a.zip", budget=Budget(Limits(unpacked_bytes=5_000_000))).bomb
    assert inspect(archive, "", "a.zip", budget=Budget(Limits(unpacked_bytes=4_000_000))).bomb == "unpacked_bytes"


def test_a_packed_picture_passes_and_is_paid_for() -> None:
    picture = b"\x89PNG\0" + random.Random(3).randbytes(6 * MEGABYTE)
    packed, budget = gzip.compress(picture, 1), Budget()
    for timed in rounds(SECONDS / 4):
        budget = Budget()
        with timed:
            found = inspect(packed, "", "foto.png.gz", budget=budget)
    assert not found.counts and not found.bomb
    assert budget.limits.unpacked_bytes - budget.left == len(picture)
    peak = peak_of(lambda: inspect(packed, "", "foto.png.gz"))
    assert peak < 3 + 2 * len(packed) / MEGABYTE  # in pieces, and as a whole
    assert inspect(packed, "", "foto.png.gz", budget=Budget(Limits(unpacked_bytes=MEGABYTE))).bomb == "unpacked_bytes"


@pytest.mark.parametrize("kind", ["internal", "external", "laughs"])
def test_xml_with_a_document_type_is_not_read(kind: str) -> None:
    entity = {
        "internal": '<!ENTITY a "BSN 123456782">',
        "external": '<!ENTITY a SYSTEM "file:///etc/passwd">',
        "laughs": '<!ENTITY b "ha">'
        + "".join(f'<!ENTITY {chr(99 + n)} "{f"&{chr(98 + n)};" * 10}">' for n in range(9))
        + '<!ENTITY a "&k;">',
    }[kind]
    text = f"<!DOCTYPE d [{entity}]><w:document {made.W}><w:p><w:t>&a;</w:t></w:p></w:document>"
    found = inspect(made.packed({"word/document.xml": text}), "", "a.docx")
    assert found.unreadable == ("broken",) and "bsn" not in found.counts


def test_a_tag_without_an_end_is_not_waited_for() -> None:
    noise = random.Random(2).randbytes(4 * MEGABYTE).hex()
    book = made.packed({"word/document.xml": f'<w:document {made.W} w:a="{noise}"/>'})
    found, peak = measured(lambda: inspect(book, "", "a.docx"), SECONDS)
    assert found.unreadable == ("broken",) and peak < 12


def test_a_shared_string_of_a_number_without_end_is_none() -> None:
    sheet = f'<s><row><c t="s"><v>{"9" * 10_000}</v></c><c t="s"><v>{"9" * 8}</v></c></row></s>'
    found = inspect(made.packed({"xl/workbook.xml": "", "xl/worksheets/sheet1.xml": sheet}), "", "a.xlsx")
    assert not found.crashes and not found.counts


def test_a_sheet_of_a_million_cells_is_read_as_a_stream() -> None:
    def book(rows: int) -> bytes:
        draw = random.Random(4)
        some = [
            f"<row>{''.join(f'<c><v>{draw.randrange(10**6)}</v></c>' for _ in range(20))}</row>" for _ in range(2_000)
        ]
        last = '<row><c t="inlineStr"><is><t>BSN</t></is></c><c><v>123456782</v></c></row>'
        sheet = f"<worksheet><sheetData>{''.join(draw.choices(some, k=rows))}{last}</sheetData></worksheet>"
        return made.packed({"xl/workbook.xml": "", "xl/worksheets/sheet1.xml": sheet})

    large = book(50_000)
    for timed in rounds(15 * SECONDS):
        with timed:
            assert inspect(large, "", "groot.xlsx").counts == {"bsn": 1}
    few, many = (peak_of(partial(inspect, book(rows), "", "a.xlsx")) for rows in (500, 3_000))
    assert many < few + 3, "memory grows with the sheet"


def test_a_cell_far_to_the_right_costs_what_it_says() -> None:
    rows = "".join(f'<row><c r="XFD{n}"><v>{n}</v></c></row>' for n in range(1, 20_000))
    book = made.packed({"xl/workbook.xml": "", "xl/worksheets/sheet1.xml": f"<s>{rows}</s>"})
    found, peak = measured(lambda: inspect(book, "", "breed.xlsx"), SECONDS)
    assert not found.counts and peak < 20


TEXTS = {
    "a@": "a@",
    "addresses": "a@b.nl ",
    "digits": "123456782 ",
    "groups": "000 ",
    "long number": "1",
    "accounts": "NL91",
    "accounts apart": "NL91 ",
    "words": "bsn ",
    "tags": "<",
    "open tags": "<a ",
    "entities": "&lt",
    "delimiters": ";;;;;\n",
    "quotes": '"\n',
    "fields": "EMAIL:a@b.nl\n",
    "cards": "BEGIN:VCARD\nN:a\nEND:VCARD\n",
}


def test_five_megabytes_of_half_addresses_take_less_than_a_second() -> None:
    found, peak = measured(lambda: inspect(b"a@" * (5 * MEGABYTE // 2), "text/plain"), 1.0)
    assert not found.counts and peak < 12


@pytest.mark.parametrize("name", ["", "a.csv", "a.html", "a.vcf"])
@pytest.mark.parametrize("piece", TEXTS)
def test_hostile_text_takes_linear_time_and_flat_memory(piece: str, name: str) -> None:
    def scan(octets: int) -> Findings:
        content = (TEXTS[piece] * (octets // len(TEXTS[piece]))).encode()
        return inspect(content, "" if name else "text/plain", name)

    small = peak_of(lambda: scan(MEGABYTE // 40))
    found, peak = measured(lambda: scan(MEGABYTE // 8), SECONDS / 8)
    assert not found.crashes and not found.bomb
    assert peak < small + 3


@pytest.mark.parametrize("name", ["", "a.csv", "a.html", "a.vcf", "a.xlsx", "a.zip"])
def test_a_scan_ends_when_its_time_is_over(name: str) -> None:
    rows = [[f"klant {n}", str(n), "tekst"] for n in range(40_000)]
    content = made.xlsx(rows) if name == "a.xlsx" else made.csv(rows)
    if name == "a.zip":
        content = made.packed({"a.csv": content})
    looks = iter(range(1_000_000))
    budget = Budget(expired=lambda: next(looks) >= 3)
    with pytest.raises(OutOfTime):
        inspect(content, "" if name else "text/plain", name, budget=budget)
    assert next(looks) == 4, "it went on after its end"
