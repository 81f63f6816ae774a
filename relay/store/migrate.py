"""Bring a database to the schema of this program, with Alembic run from code; the scripts travel in the package."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

SCRIPTS = Path(__file__).parent / "migrations"


class NewerDatabase(Exception):
    """The database has a form that this program does not know; the text is its revision."""


def config(connection: sa.Connection) -> Config:
    """Alembic's configuration for one open connection, without an ini file."""
    settings = Config()
    settings.set_main_option("script_location", str(SCRIPTS))
    settings.attributes["connection"] = connection
    return settings


def upgrade(engine: Engine) -> None:
    """Run what is missing, all in one transaction. A database that is up to date is only looked at. Raises NewerDatabase."""
    with engine.begin() as connection:
        settings = config(connection)
        if sa.inspect(connection).has_table("alembic_version"):
            present = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            scripts = ScriptDirectory.from_config(settings)
            if present == scripts.get_current_head():
                return
            if present not in {script.revision for script in scripts.walk_revisions()}:
                raise NewerDatabase(present)
        command.upgrade(settings, "head")


def is_older(path: Path) -> bool:
    """Whether the SQLite database at `path` has the form of an earlier version of this program. Raises sqlite3.Error."""
    scripts = ScriptDirectory(str(SCRIPTS))
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        (present,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return present in {script.revision for script in scripts.walk_revisions()} - {scripts.get_current_head()}


def load() -> None:
    """Import now what Alembic and SQLAlchemy import in the middle of an upgrade, for a process that gives rights up."""
    import importlib.metadata
    import importlib.resources

    import alembic.command
    import alembic.runtime.migration
    import alembic.script
    import sqlalchemy.dialects.sqlite

    loaded = (importlib.metadata, importlib.resources, alembic.command, alembic.runtime.migration, alembic.script)
    assert all(loaded) and sqlalchemy.dialects.sqlite
