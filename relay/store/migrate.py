"""Bring a database to the schema of this program, with Alembic run from code; the scripts travel in the package.

A database that is up to date is only looked at, without Alembic: reading its scripts takes 0.1 s of CPU, each time that a
command or a gateway begins.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).parent / "migrations"
HEAD = "0021"
"""The last of the scripts."""


class NewerDatabase(Exception):
    """The database has a form that this program does not know; the text is its revision."""


def config(connection: sa.Connection) -> Config:
    """Alembic's configuration for one open connection, without an ini file."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(SCRIPTS))
    settings.attributes["connection"] = connection
    return settings


def upgrade(engine: Engine) -> None:
    """Run what is missing, all in one transaction. A database that is up to date is only looked at. Raises NewerDatabase."""
    with engine.begin() as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            present = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            if present == HEAD:
                return
            if present not in _known():
                raise NewerDatabase(present)
        from alembic import command

        command.upgrade(config(connection), "head")


def _known() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()}


def is_older(path: Path) -> bool:
    """Whether the SQLite database at `path` has the form of an earlier version of this program. Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        (present,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return present != HEAD and present in _known()


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
