"""Read a file of consents, CSV or JSON Lines, into batches of rows for `consent.import_rows` (contract, `consent import`).

Nothing here decides on consent: a row leaves as it was written, with its line number. What is refused here is what is
no row at all: bytes that are not UTF-8, values that do not fit the columns, text that is not JSON. Whether a file looks like
a bought list only a look at all of it can tell (CONSENT-7).
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from relay.consent.admit import CHUNK_ROWS, SAME_TIME_ROWS, Refusal, is_third_party, third_party_times
from relay.consent.record import COLUMNS, REQUIRED
from relay.consent.rows import written

MAX_LINE_BYTES = 256 * 1024
_DELIMITERS = (",", ";", "\t")  # spreadsheets in the Netherlands write semicolons
_NOT_CSV = (
    "is not CSV: put quotes around a value that holds one, write that twice, and keep each below 131,072 characters"
)
_NOT_UTF8 = "is not UTF-8: save the file as CSV UTF-8"


class Place(NamedTuple):
    """So far a file is read: always the end of a row."""

    done_bytes: int = 0
    done_lines: int = 0


START = Place()


class Batch(NamedTuple):
    """Up to 500 rows, each with its `line`, and what was refused on the way; `done` is where the next one begins."""

    rows: list[dict[str, object]]
    refused: list[Refusal]
    done: Place


class _Line(NamedTuple):
    number: int
    row: dict[str, object] | Refusal
    done: Place


class Bought(NamedTuple):
    """A file that looks like a bought list: how many rows are of a third party, and how many of them share one time."""

    digest: str  # SHA-256 of the file
    rows: int
    shared: int
    shared_at: float


def look_bought(path: Path) -> Bought | None:
    """What makes a file look bought; None where nothing does. Raises OSError where it cannot be read.

    More than SAME_TIME_ROWS third-party rows share one time of consent: that is the date of a file, not an act of each person.
    """
    if not _mentions(path, b"third_party"):
        return None
    with path.open("rb") as file:
        times = third_party_times(line.row for line in _lines(file) if not isinstance(line.row, Refusal))
    at, shared = max(times.items(), key=lambda item: (item[1], item[0] or 0.0), default=(None, 0))
    if at is None or shared <= SAME_TIME_ROWS:
        return None
    with path.open("rb") as file:
        return Bought(hashlib.file_digest(file, "sha256").hexdigest(), times.total(), shared, at)


def batches(path: Path, *, size: int = CHUNK_ROWS, start: Place = START, but_bought: bool = False) -> Iterator[Batch]:
    """The rows of the file at `path` behind `start`, in order; those of third parties left out with `but_bought`.

    Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        lines = _lines(file) if start == START else _lines_behind(file, start)
        yield from _batched((line for line in lines if not (but_bought and _is_third_party(line))), size)


def read(file: BinaryIO, *, size: int = CHUNK_ROWS) -> Iterator[Batch]:
    """The rows of an open binary file that is read once: the look at shared times is left to the owner."""
    yield from _batched(_lines(file), size)


def _batched(lines: Iterator[_Line], size: int) -> Iterator[Batch]:
    batch = Batch([], [], START)
    for line in lines:
        row = line.row
        if isinstance(row, Refusal):
            batch.refused.append(row)
        else:
            batch.rows.append({**row, "line": line.number})
        batch = batch._replace(done=line.done)
        if len(batch.rows) + len(batch.refused) >= size:
            yield batch
            batch = Batch([], [], line.done)
    if batch.rows or batch.refused:
        yield batch


def _is_third_party(line: _Line) -> bool:
    return not isinstance(line.row, Refusal) and is_third_party(line.row)


def _mentions(path: Path, word: bytes) -> bool:
    tail = b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if word in tail + block:
                return True
            tail = block[-len(word) :]
    return False


def _lines(file: BinaryIO) -> Iterator[_Line]:
    start = file.read(64)
    rest = io.BufferedReader(_Replay(start, file))
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield _Line(1, Refusal(1, "", f"the file {_NOT_UTF8}"), START)
        return
    if _is_json(start):
        yield from _json_lines(rest, START)
    else:
        yield from _csv_lines(rest)


def _lines_behind(file: io.BufferedReader, place: Place) -> Iterator[_Line]:
    """The lines behind a place that was the end of a row, of a file whose beginning was read before."""
    is_json = _is_json(file.read(64))
    file.seek(0)
    if is_json:
        file.seek(place.done_bytes)
        yield from _json_lines(file, place)
        return
    names, delimiter = _first_row(_Feed(file, START))
    file.seek(place.done_bytes)
    yield from _csv_rows(_Feed(file, place), names, delimiter)


def _is_json(start: bytes) -> bool:
    return start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _json_lines(file: io.BufferedIOBase, place: Place) -> Iterator[_Line]:
    done = place.done_bytes
    for number, (raw, size) in enumerate(_capped(file), place.done_lines + 1):
        done += size
        text = raw.removeprefix(codecs.BOM_UTF8).strip()
        if text:
            yield _Line(number, _json_row(number, text), Place(done, number))


class _Twice(Exception):
    """An object has a key that stands in it twice: one reader takes the first value and another the last."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Twice
    return made


def _json_row(number: int, text: bytes) -> dict[str, object] | Refusal:
    if len(text) >= MAX_LINE_BYTES:
        return Refusal(number, "", "the line is too long")
    try:
        row = orjson.loads(text)
        json.loads(text.decode(), object_pairs_hook=_once)
    except _Twice:
        return Refusal(number, "", "the line names the same key twice: write each once")
    except RecursionError:
        return Refusal(number, "", "the line is nested too deeply: an object with texts")
    except orjson.JSONDecodeError as error:
        reason = _NOT_UTF8 if "UTF-8" in str(error) or "surrogate" in str(error) else "is not JSON"
        return Refusal(number, "", f"the line {reason}")
    if not isinstance(row, dict):
        return Refusal(number, "", "the line is not a JSON object")
    return {name: value for name, value in row.items() if name != "line"}


def _csv_lines(file: io.BufferedIOBase) -> Iterator[_Line]:
    feed = _Feed(file, START)
    try:
        names, delimiter = _first_row(feed)
    except csv.Error:
        yield _Line(1, Refusal(1, "", "the first row is not CSV: end each row with a line feed"), feed.place)
        return
    problems = _header_problems(names)
    yield from (_Line(1, problem, feed.place) for problem in problems)
    if not problems:
        yield from _csv_rows(feed, names, delimiter)


def _first_row(feed: _Feed) -> tuple[list[str], str]:
    """The names of the columns and what stands between them. Raises csv.Error."""
    first = next(feed, "").removeprefix("\ufeff")
    delimiter = max(_DELIMITERS, key=first.count)
    return [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])], delimiter


def _csv_rows(feed: _Feed, names: list[str], delimiter: str) -> Iterator[_Line]:
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        number = feed.place.done_lines + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:
            refusal = _swallowed(number, feed.place.done_lines) or Refusal(number, "", _NOT_CSV)
            yield _Line(number, refusal, feed.place)
            continue
        if any(value.strip() for value in values):
            row = _csv_row(number, names, values)
            if isinstance(row, Refusal) and len(values) != len(names):
                row = _swallowed(number, feed.place.done_lines) or row
            yield _Line(number, row, feed.place)


def _swallowed(first: int, last: int) -> Refusal | None:
    """The refusal of lines that became one row through a quote, each of them a row that is not in; None for one line."""
    if last <= first:
        return None
    reason = f"lines {first} to {last} were read as one row, for a quote that opens in line {first} is not closed there"
    return Refusal(first, "", reason, "close that quote and import the file again: what is in already stays", last)


def _header_problems(names: list[str]) -> list[Refusal]:
    """What is wrong with the first row; one wrong name may be a misspelt proof, so no row is read then."""
    if names in ([], [""]):
        return [Refusal(1, "", "the file is empty: its first row must name the columns")]
    if any("@" in name for name in names):  # a row about somebody, whose address no message says
        return [Refusal(1, "", "the first row must name the columns, and holds an address: put their names above it")]
    problems = [
        Refusal(1, _printable(name), "is not a known column: rename it or take it out")
        for name in names
        if name not in COLUMNS
    ]
    problems += [
        Refusal(1, name, "is named twice") for name in dict.fromkeys(names) if name in COLUMNS and names.count(name) > 1
    ]
    problems += [Refusal(1, name, "is missing from the first row") for name in REQUIRED if name not in names]
    return problems


def _csv_row(number: int, names: list[str], values: list[str]) -> dict[str, object] | Refusal:
    if len(values) != len(names):
        return Refusal(number, "", f"has {len(values)} values where the first row names {len(names)} columns")
    for name, value in zip(names, values, strict=True):
        if not value.isascii() and any("\udc80" <= character <= "\udcff" for character in value):
            return Refusal(number, name, _NOT_UTF8)
    return {name: written(value) for name, value in zip(names, values, strict=True)}


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)[:60]


def _capped(file: io.BufferedIOBase) -> Iterator[tuple[bytes, int]]:
    """Lines with their length, the rest of an overlong one dropped: memory stays flat whatever the file holds."""
    while raw := file.readline(MAX_LINE_BYTES):
        piece, size = raw, len(raw)
        while len(piece) == MAX_LINE_BYTES and not piece.endswith(b"\n"):
            piece = file.readline(MAX_LINE_BYTES)
            size += len(piece)
        yield raw, size


class _Feed:
    """Lines as text for the csv module; bytes that are not UTF-8 come as lone surrogates and are found by `_csv_row`."""

    def __init__(self, file: io.BufferedIOBase, place: Place) -> None:
        self._lines = _capped(file)
        self.place = place

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        raw, size = next(self._lines)
        self.place = Place(self.place.done_bytes + size, self.place.done_lines + 1)
        return raw.decode("utf-8", "surrogateescape")


class _Replay(io.RawIOBase):
    """A stream with its first bytes put back, for files that cannot seek."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._start[: len(buffer)] if self._start else self._file.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
