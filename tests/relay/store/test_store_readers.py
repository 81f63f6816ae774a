"""Readers cannot write, and are told of a database that is not there; the counter crosses processes."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from relay import store
from relay.counters.table import Table
from relay.store import schema
from relay.store.generation import CONSENT, DIRECTORY, Generation


def test_a_reader_engine_refuses_to_write(tmp_path: Path) -> None:
    store.open(tmp_path / "zegel.db").dispose()
    reader = store.open_reader(tmp_path / "zegel.db")
    with reader.connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(schema.tenant.insert().values(name="x"))
    reader.dispose()
    bare = store.connect_reader(tmp_path / "zegel.db")
    with pytest.raises(sqlite3.OperationalError):
        bare.execute("INSERT INTO tenant (name) VALUES ('x')")
    bare.close()


@pytest.mark.parametrize("open_it", [store.open_reader, store.connect_reader])
def test_a_missing_database_is_named(tmp_path: Path, open_it: object) -> None:
    assert callable(open_it)
    with pytest.raises(store.StoreUnavailable, match="zegel init"):
        open_it(tmp_path / "nothing.db")
    assert not (tmp_path / "nothing.db").exists()


@pytest.mark.parametrize("database", ["mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_no_file(database: str) -> None:
    with pytest.raises(store.StoreUnavailable):
        store.sqlite_path(database)


def test_a_reader_sees_a_commit_and_waits_for_nobody(tmp_path: Path) -> None:
    writer = store.open(tmp_path / "zegel.db")
    reader = store.connect_reader(tmp_path / "zegel.db")
    with writer.connect() as connection:
        connection.execute(schema.tenant.insert().values(name="x"))
        assert reader.execute("SELECT count(*) FROM tenant").fetchone() == (0,)
        connection.commit()
    assert reader.execute("SELECT count(*) FROM tenant").fetchone() == (1,)
    reader.close()
    writer.dispose()


def test_a_bump_is_seen_by_every_mapping_of_the_file(tmp_path: Path) -> None:
    writer, reader = Generation.open(tmp_path), Generation.open(tmp_path / "generation")
    assert (reader.read(DIRECTORY), reader.read(CONSENT)) == (0, 0)
    assert writer.bump(CONSENT) == 1
    assert (reader.read(DIRECTORY), reader.read(CONSENT)) == (0, 1)
    reader.close()
    writer.close()
    again = Generation.open(tmp_path)
    assert again.read(CONSENT) == 1
    again.close()


def _bump(folder: Path) -> None:
    Generation.open(folder).bump(DIRECTORY)


def test_a_bump_crosses_processes(tmp_path: Path) -> None:
    mine = Generation.open(tmp_path)
    child = multiprocessing.get_context("spawn").Process(target=_bump, args=(tmp_path,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert mine.read(DIRECTORY) == 1
    mine.close()


def _read_while_it_is_cut(path: Path) -> None:
    reader = store.connect_reader(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM tenant").fetchone() == (2_000,)
    os.truncate(path, 0)
    with pytest.raises(sqlite3.DatabaseError):
        reader.execute("SELECT sum(length(text)) FROM consent_text").fetchall()


def test_a_file_that_is_cut_short_in_the_middle_of_a_read_is_an_error_and_no_signal(tmp_path: Path) -> None:
    writer = store.open(tmp_path / "zegel.db")
    with writer.begin() as connection:
        connection.execute(schema.tenant.insert(), [{"name": f"t{number}"} for number in range(2_000)])
        rows = [{"tenant_id": 1, "hash": os.urandom(32), "language": "nl", "text": "x" * 3_000} for _ in range(500)]
        connection.execute(schema.consent_text.insert(), rows)
    with sqlite3.connect(tmp_path / "zegel.db") as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    child = multiprocessing.get_context("spawn").Process(target=_read_while_it_is_cut, args=(tmp_path / "zegel.db",))
    child.start()
    child.join(60)
    writer.dispose()
    assert child.exitcode == 0


def test_an_empty_file_is_not_opened_for_its_log_would_go(tmp_path: Path) -> None:
    """SQLite takes it for new and deletes the log beside it, with what is not in the file yet."""
    path = tmp_path / "zegel.db"
    writer = store.open(path)
    with writer.begin() as connection:
        connection.execute(schema.tenant.insert().values(name="x"))
    whole = path.read_bytes()
    os.truncate(path, 0)
    for open_it in (store.open, store.open_reader, store.connect_reader, store.check_whole):
        with pytest.raises(store.StoreUnavailable, match="empty"):
            open_it(path)
    path.write_bytes(whole)
    store.check_whole(path)
    reader = store.connect_reader(path)
    assert reader.execute("SELECT name FROM tenant").fetchall() == [("x",)]
    reader.close()
    writer.dispose()


def test_what_somebody_else_did_to_the_file_is_noticed(tmp_path: Path) -> None:
    generation, path = Generation.open(tmp_path), tmp_path / "zegel.db"
    path.write_bytes(b"x" * 100)
    with generation.writing(path):
        path.write_bytes(b"y" * 100)
        assert generation.is_as_left(path), "its owner is writing"
    assert generation.is_as_left(path)
    aside = path.rename(tmp_path / "aside")
    assert not generation.is_as_left(path)
    path.write_bytes(b"y" * 100)
    assert not generation.is_as_left(path), "another file"
    aside.replace(path)
    assert generation.is_as_left(path)
    os.utime(path, ns=(0, 1))
    assert not generation.is_as_left(path), "written since"
    generation.close()


def test_shared_memory_has_its_room_on_the_disk(tmp_path: Path) -> None:
    """A page that a full disk cannot give ends the process that touches it."""
    Generation.open(tmp_path).close()
    Table(tmp_path).close()
    for path in tmp_path.iterdir():
        status = path.stat()
        assert status.st_blocks * 512 >= status.st_size > 0, path.name
