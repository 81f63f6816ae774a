"""Open the shared database: `open` for the one writer, `open_reader` for everybody else.

SQLite runs in WAL mode with `synchronous=FULL`: a commit that returned survives a power cut, and readers never
wait for the writer.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url

BUSY_TIMEOUT_MS = 5_000
_CACHE_KIB = 64 * 1024
_MMAP_BYTES = 1 << 30  # readers share the pages with the file cache; a larger file is read the plain way
# An import touches pages all over the tables: with SQLite's 1000, nearly each of its commits would copy them back.
_CHECKPOINT_PAGES = 8_000


class StoreUnavailable(Exception):
    """The database cannot be used; the text says which and what to do. `damaged`: it will not mend by itself."""

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


def url_of(database: str | Path) -> URL:
    """The URL behind `storage.database`, or of a plain path to an SQLite file. Raises StoreUnavailable for others."""
    if isinstance(database, Path) or "://" not in str(database):
        return URL.create("sqlite", database=str(database))
    url = make_url(str(database))
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreUnavailable("storage.database must be sqlite:/// or postgresql://")
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


def sqlite_path(database: str | Path) -> Path:
    """The file of an SQLite database. Raises StoreUnavailable where it is another one or in memory."""
    url = url_of(database)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise StoreUnavailable("this needs an SQLite file; storage.database names another kind")
    return Path(url.database)


def open(database: str | Path) -> Engine:
    """An engine that may write, with the schema brought up to date. Only the owner of the data folder calls this.

    Raises StoreUnavailable where the file cannot be made or is newer than this program.
    """
    from relay.store import migrate  # alembic costs 0.2 s to import; readers never need it

    url = url_of(database)
    if url.get_backend_name() == "sqlite":
        _make_private(sqlite_path(database))
    engine = _engine(url, read_only=False)
    try:
        migrate.upgrade(engine)
    except sa.exc.OperationalError as error:
        raise StoreUnavailable(f"{engine.url.render_as_string()}: {error.orig}") from error
    return engine


def _make_private(path: Path) -> None:
    """Make the file for its owner only where there is none; SQLite gives its log and index the mode of the file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}") from None
    os.close(handle)


def open_reader(database: str | Path) -> Engine:
    """An engine that cannot write. Raises StoreUnavailable where the SQLite file is not there yet."""
    url = url_of(database)
    if url.get_backend_name() == "sqlite" and not sqlite_path(database).exists():
        raise StoreUnavailable(f"{url.database} does not exist: run `zegel init`, or start `zegel serve` once")
    return _engine(url, read_only=True)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A bare read-only SQLite connection for hand-written point selects; autocommit, one thread at a time."""
    if not path.exists():
        raise StoreUnavailable(f"{path} does not exist: run `zegel init`, or start `zegel serve` once")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    _tune(connection, read_only=True)
    return connection


def _engine(url: URL, *, read_only: bool) -> Engine:
    if url.get_backend_name() != "sqlite":
        options: dict[str, Any] = {"postgresql_readonly": True} if read_only else {}
        return sa.create_engine(url, pool_pre_ping=True, execution_options=options)
    engine = sa.create_engine(url, poolclass=sa.pool.QueuePool, pool_size=2, max_overflow=8)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        # The driver's own idea of when a transaction starts is switched off; `begin` below starts it.
        connection.isolation_level = None
        _tune(connection, read_only=read_only)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _tune(connection: sqlite3.Connection, *, read_only: bool) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    if read_only:
        connection.execute(f"PRAGMA mmap_size={_MMAP_BYTES}")
        connection.execute("PRAGMA query_only=ON")
        return
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")  # an erased key must not survive in a free page (GDPR-8)
