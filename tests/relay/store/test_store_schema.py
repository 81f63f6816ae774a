"""The schema, its migrations and its data map say the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import relay.store
from relay import store
from relay.store import schema

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
