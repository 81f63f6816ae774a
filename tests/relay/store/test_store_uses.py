"""Use records: what is written is found, by months; what has had its time is gone (CONSENT-15, GDPR-14)."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from relay.store import uses
from relay.store.uses import Use, UseFiles

JANUARY, FEBRUARY = 1_767_348_000.0, 1_770_026_400.0  # the 2nd of each, 2026


def use(number: int, at: float = JANUARY, **changes: object) -> Use:
    return Use(7, at, number, 1, 3, "CONSENT-1")._replace(**changes)  # type: ignore[arg-type]  # fields of Use


@pytest.fixture
def files(tmp_path: Path) -> UseFiles:
    return UseFiles(tmp_path / "uses", "0")


def test_what_was_written_is_found_by_its_hash_in_the_order_of_time(files: UseFiles) -> None:
    files.write([use(2, JANUARY + 5), use(1), use(3, hash=8), use(4, FEBRUARY)])
    UseFiles(files.folder, "1").write([use(5, JANUARY + 2)])
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [1, 5, 2, 4]
    assert [row.id for row in uses.read(files.folder, [8, 9], FEBRUARY)] == [3]
    assert [row.id for row in uses.read(files.folder, [7], JANUARY + 3)] == [1, 5], "as it was known then"
    assert uses.read(files.folder, [], FEBRUARY) == uses.read(files.folder / "none", [7], FEBRUARY) == []


def test_more_hashes_than_one_statement_takes(files: UseFiles) -> None:
    files.write([use(number, hash=number) for number in range(1, 1_203)])
    assert len(uses.read(files.folder, range(1, 1_203), FEBRUARY)) == 1_202


def test_a_month_is_forgotten_when_all_of_it_has_had_its_time(files: UseFiles) -> None:
    files.write([use(1), use(2, FEBRUARY)])
    files.close()
    assert uses.forget_before(files.folder, FEBRUARY - 3 * 86_400) == 0
    assert uses.forget_before(files.folder, FEBRUARY) == 1
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [2]
    assert {path.name[:7] for path in files.folder.iterdir()} == {"2026-02"}


def test_what_is_not_in_the_file_of_a_month_that_is_over_is_read_from_its_log(files: UseFiles) -> None:
    files.write([use(1)])
    UseFiles(files.folder, "1").write([use(2, FEBRUARY)])
    assert (files.folder / "2026-01-0.uses-wal").stat().st_size
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [1, 2]
    files.close()
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [1, 2]
    files.write([use(3)])
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [1, 3, 2]


def test_a_batch_that_is_written_again_is_told_once(files: UseFiles) -> None:
    files.write([use(1), use(2)])
    files.write([use(1), use(2), use(3)])
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [1, 2, 3]


def test_a_file_that_was_deleted_is_made_again(files: UseFiles) -> None:
    files.write([use(1)])
    uses.forget_before(files.folder, FEBRUARY)
    files.write([use(2)])
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [2]


def test_nothing_of_a_batch_is_there_where_it_could_not_be_written(files: UseFiles) -> None:
    with pytest.raises(sqlite3.Error):
        files.write([use(1), use(2, rule=None)])
    files.write([use(3)])
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [3]


def test_a_file_of_which_nothing_but_the_name_is_there_yet_has_no_rows(files: UseFiles) -> None:
    files.folder.mkdir()
    (files.folder / "2026-01-9.uses").touch()
    files.write([use(1)])
    assert [row.id for row in uses.read(files.folder, [7], FEBRUARY)] == [1]


def test_it_is_read_while_another_thread_writes(files: UseFiles) -> None:
    def write() -> None:
        own = UseFiles(files.folder, "0")
        for number in range(200):
            own.write([use(number)])
        own.close()

    thread = threading.Thread(target=write)
    thread.start()
    seen = [0]
    while thread.is_alive():
        seen.append(len(uses.read(files.folder, [7], FEBRUARY)))
    thread.join()
    assert seen == sorted(seen) and len(uses.read(files.folder, [7], FEBRUARY)) == 200
