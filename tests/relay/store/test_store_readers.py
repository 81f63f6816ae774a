"""Readers cannot write, and are told of a database that is not there; the counter crosses processes."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from relay import store
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
