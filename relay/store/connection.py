"""Open the shared database: `open` for the one writer, `open_reader` for everybody else.

SQLite runs in WAL mode with `synchronous=FULL`: a commit that returned survives a power cut, and readers never
wait for the writer. Nobody maps the file into memory: a page that somebody cut off would end the process that touches
it (SIGBUS), where a read of it is an error that one session answers with 451 (PIPE-3).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url

from relay.store import migrate

BUSY_TIMEOUT_MS = 5_000
_CACHE_KIB = 64 * 1024
# An import touches pages all over the tables: with SQLite's 1000, nearly each of its commits would copy them back.
_CHECKPOINT_PAGES = 8_000
_looked_at: ContextVar[Path] = ContextVar("looked_at")


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
    url = url_of(database)
    if url.get_backend_name() == "sqlite":
        path = sqlite_path(database)
        _make_private(path)
        if path.stat().st_size or _log_of(path):
            require_whole(path)
    engine = _engine(url, read_only=False)
    try:
        migrate.upgrade(engine)
    except sa.exc.OperationalError as error:
        raise StoreUnavailable(told(error)) from error
    except migrate.NewerDatabase as error:
        engine.dispose()
        raise StoreUnavailable(
            f"the database was written by a newer version of Zegel (revision {error}) and was left as it is: use that "
            "version, or restore a backup of this one (docs/upgrading.md)"
        ) from None
    return engine


def told(error: sa.exc.DatabaseError) -> str:
    """What the database said, and what to do."""
    if getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return "nothing was changed, the disk of the database is full: make room there, then do it again"
    return (
        f"nothing was changed, the database said: {error.orig}; look at its disk with `zegel doctor`, then do it again"
    )


def _make_private(path: Path) -> None:
    """Make the file for its owner only where there is none; SQLite gives its log and index the mode of the file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}") from None
    os.close(handle)


def require_whole(path: Path) -> None:
    """Raises StoreUnavailable where there is nothing to read at `path`.

    Asked before every opening: SQLite takes an empty file for a new database and deletes the log beside it, with every
    commit that is not in the file yet. Only looked at, never opened: closing a file drops this process's locks on it,
    those of SQLite too (fcntl).
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreUnavailable(
            f"{path} does not exist: put it back from a backup, or run `zegel init` where there never was one"
        ) from None
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error.strerror}") from None
    if not size:
        raise StoreUnavailable(f"{path} is empty: put the database back from a backup", damaged=True)


def check_whole(path: Path) -> None:
    """Walk every page of the database. Raises StoreUnavailable where it is damaged or cannot be read; takes its time."""
    require_whole(path)
    try:
        connection = sqlite3.connect(place(path, "ro"), uri=True, isolation_level=None)
        try:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        # Only the bare class tells of the file; the others are of the moment: locked, no descriptor left, the disk.
        raise StoreUnavailable(
            f"{path} cannot be read: {error}", damaged=type(error) is sqlite3.DatabaseError
        ) from None
    if found != "ok":
        raise StoreUnavailable(f"{path} is damaged: put it back from a backup", damaged=True)


def _log_of(path: Path) -> int:
    """Octets in the write-ahead log beside a database."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def open_reader(database: str | Path) -> Engine:
    """An engine that cannot write. Raises StoreUnavailable where there is no SQLite file to read."""
    url = url_of(database)
    if url.get_backend_name() == "sqlite":
        require_whole(sqlite_path(database))
    return _engine(url, read_only=True)


@contextmanager
def reading(database: str | Path) -> Iterator[Engine]:
    """An engine that cannot write, for one look at the database; raises as `open_reader`.

    All SQLite files have the same one: a process compiles its statements once, which takes longer than to run them.
    """
    if url_of(database).get_backend_name() != "sqlite":
        engine = open_reader(database)
        try:
            yield engine
        finally:
            engine.dispose()
        return
    path = sqlite_path(database)
    require_whole(path)
    mark = _looked_at.set(path)
    try:
        yield _any_file()
    finally:
        _looked_at.reset(mark)


@cache
def _any_file() -> Engine:
    """Connects to the file that is being looked at, each time anew."""
    engine = sa.create_engine(
        "sqlite://", poolclass=sa.pool.NullPool, creator=lambda: sqlite3.connect(_looked_at.get())
    )
    _prepare(engine, read_only=True)
    return engine


def place(path: Path, mode: str) -> str:
    """What sqlite3.connect opens with `uri=True`: this very file, whatever characters are in its path. `mode`: ro or rw."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def connect_reader(path: Path) -> sqlite3.Connection:
    """A bare read-only SQLite connection for hand-written point selects; autocommit, one thread at a time."""
    require_whole(path)
    connection = sqlite3.connect(place(path, "ro"), uri=True, isolation_level=None, check_same_thread=False)
    _tune(connection, read_only=True)
    return connection


def _engine(url: URL, *, read_only: bool) -> Engine:
    if url.get_backend_name() != "sqlite":
        options: dict[str, Any] = {"postgresql_readonly": True} if read_only else {}
        return sa.create_engine(url, pool_pre_ping=True, execution_options=options)
    if read_only:  # none is kept: its index would be that of a log that was deleted since
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    else:
        engine = sa.create_engine(url, poolclass=sa.pool.QueuePool, pool_size=2, max_overflow=8)

    @event.listens_for(engine, "do_connect")
    def look(*_: object) -> None:
        if read_only:
            require_whole(sqlite_path(url.database or ""))

    _prepare(engine, read_only=read_only)
    return engine


def _prepare(engine: Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        # The driver's own idea of when a transaction starts is switched off; `begin` below starts it.
        connection.isolation_level = None
        _tune(connection, read_only=read_only)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _tune(connection: sqlite3.Connection, *, read_only: bool) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    if read_only:
        connection.execute("PRAGMA mmap_size=0")  # whatever the library was built with
        connection.execute("PRAGMA query_only=ON")
        return
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")  # an erased key must not survive in a free page (GDPR-8)
