"""Batched writes for both dialects, each statement built once.

SQLAlchemy's own processing of an executemany costs more than SQLite's; on SQLite the compiled text therefore goes
to the driver with plain tuples. Our columns need no conversion there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert `rows`, all with the same columns, of which there are at least two."""
    _write(connection, table, rows, "fail")


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, object]],
    *,
    keep: bool = False,
    once: tuple[str, ...] = (),
) -> None:
    """Insert `rows`; one whose primary key is there is replaced in the columns given, or with `keep` left alone.

    Columns of `once` are written with a new row only.
    """
    _write(connection, table, rows, "keep" if keep else "replace", once)


def _write(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, object]],
    conflict: str,
    once: tuple[str, ...] = (),
) -> None:
    if not rows:
        return
    columns = tuple(rows[0])
    if connection.dialect.name != "sqlite":
        connection.execute(_statement(connection.dialect.name, table, columns, conflict, once), rows)
        return
    text, pick = _compiled(connection.dialect, table, columns, conflict, once)
    connection.exec_driver_sql(text, [pick(row) for row in rows])


@lru_cache(maxsize=64)
def _compiled(
    dialect: sa.Dialect, table: sa.Table, columns: tuple[str, ...], conflict: str, once: tuple[str, ...]
) -> tuple[str, Callable[[Mapping[str, object]], tuple[Any, ...]]]:
    statement = _statement("sqlite", table, columns, conflict, once)
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    names = compiled.positiontup or []
    return compiled.string, itemgetter(*names)


@lru_cache(maxsize=64)
def _statement(dialect: str, table: sa.Table, columns: tuple[str, ...], conflict: str, once: tuple[str, ...]) -> Insert:
    key = [column.name for column in table.primary_key]
    renewed = [name for name in columns if name not in key and name not in once]
    if dialect == "postgresql":
        statement = postgresql.insert(table)
        if conflict == "fail":
            return statement
        if conflict == "keep":
            return statement.on_conflict_do_nothing(index_elements=key)
        new = {name: statement.excluded[name] for name in renewed}
        return statement.on_conflict_do_update(index_elements=key, set_=new)
    other = sqlite.insert(table)
    if conflict == "fail":
        return other
    if conflict == "keep":
        return other.on_conflict_do_nothing(index_elements=key)
    return other.on_conflict_do_update(index_elements=key, set_={name: other.excluded[name] for name in renewed})
