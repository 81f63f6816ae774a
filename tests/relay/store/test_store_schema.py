"""The schema, its migrations and its data map say the same."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Engine
from sqlalchemy.schema import CreateTable

import relay.store
from relay import store
from relay.consent.subject import state_id
from relay.policy.ageing import month_of
from relay.store import migrate, schema
from relay.store.uses import FOLDER, Use, UseFiles

UPGRADE = migrate.upgrade  # the program's own: tests are collected before any of them runs
MAP = tomllib.loads((Path(relay.store.__file__).parent / "datamap.toml").read_text())


def test_every_column_has_purpose_basis_and_retention() -> None:
    """GDPR-1: a new column without an entry fails here, and so does an entry without a column."""
    mapped = {(table, column) for table, entry in MAP["tables"].items() for column in entry["columns"]}
    built = {(table.name, column.name) for table in schema.metadata.sorted_tables for column in table.columns}
    assert mapped == built
    for table, entry in MAP["tables"].items():
        assert entry["basis"] in MAP["basis"], table
        assert entry["retention"] in MAP["retention"], table
        for column, said in entry["columns"].items():
            purpose = said if isinstance(said, str) else said["purpose"]
            assert len(purpose) > 5, (table, column)
            if isinstance(said, dict):
                assert said.get("retention", entry["retention"]) in MAP["retention"], (table, column)
                assert said.get("basis", entry["basis"]) in MAP["basis"], (table, column)


def test_every_column_of_the_use_records_is_in_the_map(tmp_path: Path) -> None:
    files = UseFiles(tmp_path / FOLDER, "0")
    files.write([Use(1, 0.0, 1, 1, 1, "CONSENT-1")])
    (path,) = tmp_path.glob(f"{FOLDER}/*.uses")
    entry = MAP["files"][f"{FOLDER}/*"]
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert set(entry["columns"]) == {row[1] for row in database.execute("PRAGMA table_info(use)")}
    files.close()
    assert entry["basis"] in MAP["basis"] and entry["retention"] in MAP["retention"]


def test_whatever_holds_a_person_is_marked() -> None:
    marked = {
        f"{table}.{column}"
        for table, entry in MAP["tables"].items()
        for column, said in entry["columns"].items()
        if isinstance(said, dict) and said.get("personal") is True
    }
    sealed_or_keyed = {
        "consent_event.sealed",
        "consent_event.evidence",
        "suppression.key",
        "suppression.sealed",
        "subject.hash",
    }
    assert sealed_or_keyed <= marked


def test_the_program_knows_the_last_of_the_migrations() -> None:
    assert ScriptDirectory(str(migrate.SCRIPTS)).get_current_head() == migrate.HEAD


def test_the_migrations_make_the_schema(tmp_path: Path) -> None:
    engine = store.open(tmp_path / "zegel.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


def test_a_database_opens_again_and_keeps_what_it_has(tmp_path: Path) -> None:
    for _ in range(2):
        engine = store.open(tmp_path / "zegel.db")
        with engine.begin() as connection:
            connection.execute(
                schema.tenant.insert().values(name=f"t{connection.scalar(sa.text('SELECT count(*) FROM tenant'))}")
            )
        engine.dispose()
    reader = store.open_reader(tmp_path / "zegel.db")
    with reader.connect() as connection:
        assert list(connection.scalars(sa.select(schema.tenant.c.name))) == ["t0", "t1"]
    reader.dispose()


def test_consents_of_before_begin_to_age_at_the_upgrade(tmp_path: Path) -> None:
    """CONSENT-13: nobody is refused for a use that was not written down then."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/zegel.db")
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0010")
        connection.exec_driver_sql("INSERT INTO tenant (id, name) VALUES (1, 'shop')")
        connection.exec_driver_sql(
            "INSERT INTO consent_state (key, tenant_id, status, basis, event, proof) "
            "VALUES (x'01', 1, 'given', 'consent', 1, x'')"
        )
    before = month_of(time.time())
    migrate.upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(schema.consent_state.c.used_at)) in (before, month_of(time.time()))
    engine.dispose()


def test_states_of_before_lie_under_their_numbers_after_the_upgrade_and_come_back(tmp_path: Path) -> None:
    """Decision 026: none is lost, on either side of the sign, and none is changed."""
    keys = [bytes([first]) + bytes(range(15)) for first in (0x00, 0x7F, 0x80, 0xFF)]
    engine = sa.create_engine(f"sqlite:///{tmp_path}/zegel.db")
    columns = "key, tenant_id, status, basis, event, proof, used_at, given_at, sensitive"
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0019")
        connection.exec_driver_sql("INSERT INTO tenant (id, name) VALUES (1, 'shop')")
        for number, key in enumerate(keys):
            values = (key, 1, "given", "consent", number, b"proof", 7.0, 5.5, True)
            connection.exec_driver_sql(f"INSERT INTO consent_state ({columns}) VALUES ({','.join('?' * 9)})", values)
        before = connection.exec_driver_sql(f"SELECT {columns} FROM consent_state ORDER BY key").all()
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0020")
        rows = connection.exec_driver_sql("SELECT id, key FROM consent_state ORDER BY id").all()
        assert rows == [(state_id(key), key) for key in (*keys[2:], *keys[:2])]
        assert connection.exec_driver_sql(f"SELECT {columns} FROM consent_state ORDER BY key").all() == before
        command.downgrade(migrate.config(connection), "0019")
        assert connection.exec_driver_sql(f"SELECT {columns} FROM consent_state ORDER BY key").all() == before
    engine.dispose()


def test_the_schema_can_be_said_in_postgresql() -> None:
    for table in schema.metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert "WITHOUT ROWID" not in text
    assert "BYTEA" in str(CreateTable(schema.suppression).compile(dialect=postgresql.dialect()))


def test_durability_is_not_for_sale(tmp_path: Path) -> None:
    engine = store.open(tmp_path / "zegel.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    """The way back from an upgrade is a backup, and who forgets that is told so (docs/upgrading.md)."""
    path = tmp_path / "zegel.db"
    engine = store.open(path)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    before = path.read_bytes()
    with pytest.raises(store.StoreUnavailable, match=r"newer version of Zegel \(revision 9999\)"):
        store.open(path)
    assert path.read_bytes() == before


def test_the_schema_that_tests_copy_is_what_the_migrations_make(tmp_path: Path) -> None:
    def told(path: Path, upgrade: Callable[[Engine], None]) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrate, "upgrade", upgrade)
            store.open(path).dispose()
        with contextlib.closing(sqlite3.connect(path)) as database:
            return list(database.iterdump())

    assert migrate.upgrade is not UPGRADE, "tests copy it"
    assert told(tmp_path / "copied.db", migrate.upgrade) == told(tmp_path / "made.db", UPGRADE)
