"""The shared table: growth, reuse, and what an accident leaves behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.counters.embedded import EmbeddedCounters
from relay.counters.table import FIRST_CELL, FIRST_SLOTS, GRACE_SECONDS, MAGIC, Table, digest_of
from tests.fakes.clock import START


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    """A table that this test holds the lock of."""
    table = Table(tmp_path)
    table.lock()
    yield table
    table.unlock()
    table.close()


def names(count: int, prefix: str = "name") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def test_every_name_keeps_its_slot_while_the_table_grows(table: Table) -> None:
    for number, name in enumerate(names(10_000)):
        place = table.claim(name, START)
        table.cells[place // 4 + FIRST_CELL] = number
    assert [table.cells[table.find(name) // 4 + FIRST_CELL] for name in names(10_000)] == list(range(10_000))
    assert table.slots == 16_384


def test_slots_that_are_over_are_taken_again_instead_of_growing(table: Table) -> None:
    for round_ in range(20):
        for name in names(2_000, f"round-{round_}"):
            table.claim(name, START + round_ * (GRACE_SECONDS + 1))
    assert table.slots <= 2 * FIRST_SLOTS
    assert table.find("round-19-1999") >= 0


def test_a_name_behind_a_slot_that_is_over_is_still_found(table: Table) -> None:
    """Taking over a slot keeps the way to those behind it."""
    mask = table.slots - 1
    wanted = int.from_bytes(digest_of("first")[:8], "little") & mask
    same = [n for n in names(60_000, "n") if int.from_bytes(digest_of(n)[:8], "little") & mask == wanted][:3]
    places = [table.claim(name, START) for name in ("first", *same)]
    assert len(set(places)) == 4
    later = START + GRACE_SECONDS + 1
    assert table.claim(same[2], later) == places[3], "found, not placed anew in front"


def test_another_process_notices_that_the_table_has_grown(tmp_path: Path) -> None:
    first, second = EmbeddedCounters(tmp_path), EmbeddedCounters(tmp_path)
    first.hit("before", 600, START)
    for name in names(5_000):
        second.hit(name, 600, START)
    assert first.count("name-4999", 600, START) == 1
    assert first.hit("before", 600, START) == 2
    assert second.count("before", 600, START) == 2
    first.close()
    second.close()


def test_growth_that_was_cut_short_loses_nothing(tmp_path: Path) -> None:
    """The next generation was written, in part, but the header was not told: nobody reads it."""
    counters = EmbeddedCounters(tmp_path)
    counters.hit("kept", 600, START)
    (tmp_path / "counters.2").write_bytes(b"half")
    for name in names(5_000):
        counters.hit(name, 600, START)
    assert counters.count("kept", 600, START) == 1
    counters.close()


def test_a_table_that_was_deleted_begins_anew(tmp_path: Path) -> None:
    EmbeddedCounters(tmp_path).close()
    (tmp_path / "counters.1").unlink()
    counters = EmbeddedCounters(tmp_path)
    assert counters.hit("a", 600, START) == 1
    counters.close()


def test_a_file_of_another_kind_is_not_misread(tmp_path: Path) -> None:
    (tmp_path / "counters").write_bytes(b"\xff" * 8 + bytes(4088))
    counters = EmbeddedCounters(tmp_path)
    assert counters.hit("a", 600, START) == 1
    counters.close()
    assert (tmp_path / "counters").read_bytes()[:8] == MAGIC


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    EmbeddedCounters(tmp_path).close()
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_names_of_different_shape_never_share_a_slot() -> None:
    shapes: list[object] = ["block\0a", ("block", "a"), ("bloc", "ka"), ("block", "a", ""), "blocka"]
    assert len({digest_of(shape) for shape in shapes}) == 5
