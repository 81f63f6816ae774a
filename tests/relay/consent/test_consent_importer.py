"""Files as people have them: what is no row is refused with its line, the rest goes on."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
from pathlib import Path

import pytest

from relay.consent.admit import SAME_TIME_ROWS
from relay.consent.importer import MAX_LINE_BYTES, batches, look_bought, read

NAMES = "email,purpose,basis,method,source,given_at,text,text_language,policy_url,jurisdiction,provenance,sensitive_audience"
LINE = "{email},newsletter,consent,web_form,https://s.example,2026-01-01T10:00:00Z,Ja,nl,https://s.example/p,NL,own,no"


def _read(content: bytes, size: int = 500) -> tuple[list[tuple[int, str]], list[tuple[int, str, str]]]:
    rows: list[tuple[int, str]] = []
    refused: list[tuple[int, str, str]] = []
    for batch in read(io.BytesIO(content), size=size):
        assert len(batch.rows) + len(batch.refused) <= size
        rows += [(int(str(row["line"])), str(row["email"])) for row in batch.rows]
        refused += [(refusal.line, refusal.field, refusal.reason) for refusal in batch.refused]
    return rows, refused


def _csv(*lines: str, names: str = NAMES, end: str = "\r\n") -> bytes:
    return end.join([names, *lines, ""]).encode()


ANN, BOB = LINE.format(email="ann@example.net"), LINE.format(email="bob@example.net")


@pytest.mark.parametrize(
    "content",
    [
        _csv(ANN, BOB),
        _csv(ANN, BOB, end="\n"),
        b"\xef\xbb\xbf" + _csv(ANN, BOB),
        _csv(ANN, BOB).rstrip(),
        _csv(ANN, BOB).replace(b",", b";"),
        _csv(ANN, BOB).replace(b",", b"\t"),
        _csv(ANN, BOB, names=NAMES.upper()),
    ],
    ids=["crlf", "lf", "bom", "no last line end", "semicolons", "tabs", "capitals"],
)
def test_csv_as_programs_write_it(content: bytes) -> None:
    assert _read(content) == ([(2, "ann@example.net"), (3, "bob@example.net")], [])


def test_lines_are_counted_through_quotes_and_empty_lines() -> None:
    quoted = ANN.replace(",Ja,", ',"Ja, graag\r\n""echt"" waar",')
    rows, refused = _read(_csv(quoted, "", BOB, ",,,,,,,,,,,"))
    assert rows == [(2, "ann@example.net"), (5, "bob@example.net")]
    assert refused == []


def test_the_text_keeps_its_lines_and_quotes() -> None:
    quoted = ANN.replace(",Ja,", ',"Ja, graag\r\n""echt"" waar",')
    batch = next(read(io.BytesIO(_csv(quoted))))
    assert batch.rows[0]["text"] == 'Ja, graag\r\n"echt" waar'


def test_a_row_of_another_length_is_refused_and_the_rest_goes_on() -> None:
    rows, refused = _read(_csv(ANN + ",extra", "ann@example.net,newsletter", BOB))
    assert rows == [(4, "bob@example.net")]
    assert refused == [
        (2, "", "has 13 values where the first row names 12 columns"),
        (3, "", "has 2 values where the first row names 12 columns"),
    ]


def test_bytes_that_are_not_utf8_are_named_by_field() -> None:
    rows, refused = _read(_csv(ANN.replace(",Ja,", ",Jë,"), BOB).replace("ë".encode(), b"\xeb"))
    assert rows == [(3, "bob@example.net")]
    assert refused == [(2, "text", "is not UTF-8: save the file as CSV UTF-8")]


def test_good_utf8_is_kept() -> None:
    batch = next(read(io.BytesIO(_csv(ANN.replace(",Ja,", ",Já 😀,")))))
    assert batch.rows[0]["text"] == "Já 😀"


def test_an_utf16_file_is_refused_as_a_whole() -> None:
    rows, refused = _read(_csv(ANN).decode().encode("utf-16"))
    assert (rows, [(line, field) for line, field, _ in refused]) == ([], [(1, "")])


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (NAMES.replace("given_at", "date"), [("date", "known"), ("given_at", "missing")]),
        (NAMES + ",naam", [("naam", "known")]),
        (NAMES + ",email", [("email", "twice")]),
        ("email,given_at", [("purpose", "missing")]),
        ("", [("", "empty")]),
    ],
)
def test_a_wrong_first_row_stops_the_file(names: str, found: list[tuple[str, str]]) -> None:
    rows, refused = _read(_csv(ANN, names=names))
    assert rows == []
    assert {line for line, _, _ in refused} == {1}
    for field, word in found:
        assert any(field == name and word in reason for _, name, reason in refused), (field, word)


def test_an_empty_file_says_so() -> None:
    assert [reason for _, _, reason in _read(b"")[1]] == ["the file is empty: its first row must name the columns"]


def test_a_quote_that_never_closes_does_not_eat_the_memory_or_the_answer() -> None:
    lines = [ANN.replace(",Ja,", ',"Ja,')] + [LINE.format(email=f"p{number}@example.net") for number in range(3_000)]
    rows, refused = _read(_csv(*lines))
    assert refused[0][0] == 2 and refused[0][2].startswith("lines 2 to ")
    assert len(rows) < 3_000


@pytest.mark.parametrize(
    ("broken", "last"),
    [
        (ANN.replace(",Ja,", ',"Ja,'), 302),  # nothing closes it
        (ANN.replace(",Ja,", ',"Ja,') + "\r\n" + BOB.replace(",Ja,", ',"Ja",'), 3),  # the next quote does, in its midst
        (ANN.replace(",Ja,", ',"Ja,') + "\r\n" + BOB + '"', 3),  # the next quote fits, the number of columns does not
    ],
    ids=["to the end", "to the next quote", "to a quote that fits"],
)
def test_every_line_that_an_open_quote_swallows_is_refused(broken: str, last: int) -> None:
    """300 rows were missing, and one was said to be refused."""
    lines = [*broken.split("\r\n")]
    lines += [LINE.format(email=f"p{number}@example.net") for number in range(301 - len(lines))]
    (batch,) = read(io.BytesIO(_csv(*lines)), size=1_000)
    (refusal,) = batch.refused
    assert (refusal.line, refusal.last_line) == (2, last)
    assert refusal.line_count + len(batch.rows) == 301
    assert f"lines 2 to {last} " in refusal.reason and "quote" in refusal.reason


def test_a_line_without_end_is_cut() -> None:
    rows, refused = _read(_csv(ANN.replace(",Ja,", "," + "J" * 3_000_000 + ","), BOB))
    assert rows == [(3, "bob@example.net")]
    assert refused[0][0] == 2


def test_json_lines() -> None:
    names = NAMES.split(",")
    ann = json.dumps(dict(zip(names, ANN.split(","), strict=True)))
    bob = json.dumps(dict(zip(names, BOB.split(","), strict=True)) | {"sensitive_audience": False, "line": 99})
    content = "\n".join([ann, "", "[1]", "{broken", bob]).encode() + b'\n{"email": "\xeb"}\n'
    rows, refused = _read(b"\xef\xbb\xbf" + content)
    assert rows == [(1, "ann@example.net"), (5, "bob@example.net")]
    assert [line for line, _, _ in refused] == [3, 4, 6]
    assert all(len(reason) > 10 for _, _, reason in refused)


def test_batches_have_a_size_and_tell_how_far_they_are() -> None:
    content = _csv(*(LINE.format(email=f"p{number}@example.net") for number in range(23)))
    found = list(read(io.BytesIO(content), size=10))
    assert [len(batch.rows) for batch in found] == [10, 10, 3]
    assert [batch.done for batch in found] == sorted(batch.done for batch in found)
    assert found[-1].done == (len(content), 24)


def test_a_bought_list_with_one_time_for_all_is_held(tmp_path: Path) -> None:
    """CONSENT-7: rows with the same time of consent; all that are bought wait, not only the later ones."""
    third = ANN.replace(",own,", ",third_party,")
    lines = [third.replace("ann@", f"p{number}@") for number in range(SAME_TIME_ROWS + 1)]
    other = third.replace("10:00:00Z", "10:00:01Z")
    path = tmp_path / "bought.csv"
    path.write_bytes(_csv(*lines, other, BOB))
    bought = look_bought(path)
    assert bought is not None
    assert (bought.rows, bought.shared) == (SAME_TIME_ROWS + 2, SAME_TIME_ROWS + 1)
    assert bought.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = list(batches(path, but_bought=True))
    assert [row["email"] for batch in found for row in batch.rows] == ["bob@example.net"]
    assert [row["line"] for batch in found for row in batch.rows] == [SAME_TIME_ROWS + 4]
    assert sum(len(batch.rows) for batch in batches(path)) == SAME_TIME_ROWS + 3, "and once it is let in, all of it"


def test_a_list_with_times_of_its_own_does_not_look_bought(tmp_path: Path) -> None:
    third = ANN.replace(",own,", ",third_party,")
    path = tmp_path / "asked.csv"
    path.write_bytes(_csv(*(third.replace("10:00:00Z", f"10:00:{second:02}Z") for second in range(40)), BOB))
    assert look_bought(path) is None
    path.write_bytes(_csv(*(third for _ in range(SAME_TIME_ROWS))))
    assert look_bought(path) is None
    path.write_bytes(_csv(*(ANN for _ in range(SAME_TIME_ROWS + 1)), BOB.replace("newsletter", "third_party")))
    assert look_bought(path) is None


def test_lines_that_end_as_on_old_machines_are_refused_with_the_remedy() -> None:
    rows, refused = _read(_csv(ANN, end="\r"))
    assert rows == []
    assert refused == [(1, "", "the first row is not CSV: end each row with a line feed")]


def test_no_refusal_says_an_address_or_the_words_of_a_library() -> None:
    """A file whose first row is about somebody already, and a row that the csv module cannot read."""
    rows, refused = _read(ANN.encode() + b"\n" + BOB.encode() + b"\n")
    assert (
        (rows, len(refused)) == ([], 1) and "ann@" not in str(refused) and "put their names above it" in refused[0][2]
    )
    rows, refused = _read(_csv(ANN, '"ann"x' + BOB[3:]))
    assert len(rows) == 1 and [(line, reason.split(":")[0]) for line, _, reason in refused] == [(3, "is not CSV")]
    assert "expected" not in refused[0][2]


def test_a_line_that_names_a_key_twice_is_refused() -> None:
    """One reader would take the first value and another the last."""
    twice = b'{"email": "ann@example.net", "email": "bob@example.net"}\n'
    rows, refused = _read(b'{"email": "ann@example.net"}\n' + twice)
    assert rows == [(1, "ann@example.net")]
    assert refused == [(2, "", "the line names the same key twice: write each once")]


ROWS = [LINE.format(email=f"p{number}@example.net") for number in range(9)]
ODD = [
    *ROWS[:3],
    ROWS[3].replace('"', '"a\n\nb ', 1),
    "",
    "too,few",
    ROWS[4],
    "x" * (MAX_LINE_BYTES * 2 + 7),
    *ROWS[5:],
    '"open',
]
FILES = {
    "csv": _csv(*ROWS),
    "odd": _csv(*ODD),
    "bom and semicolons": codecs.BOM_UTF8 + _csv(*ODD).replace(b",", b";"),
    "json": b"\n".join(
        [b'{"email": "a"}', b"", b'{"email": "b"}', b"{", b'"' + b"x" * (MAX_LINE_BYTES * 2 + 7), b'{"email": "c"}']
    ),
    "json with bom": codecs.BOM_UTF8 + b'{"email": "a"}\n{"email": "b"}\n{"email": "a", "email": "b"}\n',
}


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", FILES)
def test_from_the_end_of_each_batch_on_the_rest_is_the_same(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(FILES[name])
    found = list(batches(path, size=size))
    assert found and found[-1].done.done_bytes <= len(FILES[name])
    for number, batch in enumerate(found, 1):
        assert list(batches(path, size=size, start=batch.done)) == found[number:], number
