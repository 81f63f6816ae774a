"""INSERT ... ON CONFLICT for both dialects, built once per table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert


def upsert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]], *, keep: bool = False
) -> None:
    """Insert `rows` (all with the same columns); a row whose primary key is there is replaced, or with `keep` left alone."""
    if rows:
        connection.execute(_statement(connection.dialect.name, table, tuple(rows[0]), keep), rows)


@lru_cache(maxsize=64)
def _statement(dialect: str, table: sa.Table, columns: tuple[str, ...], keep: bool) -> Insert:
    key = [column.name for column in table.primary_key]
    if dialect == "postgresql":
        statement = postgresql.insert(table)
        if keep:
            return statement.on_conflict_do_nothing(index_elements=key)
        new = {name: statement.excluded[name] for name in columns if name not in key}
        return statement.on_conflict_do_update(index_elements=key, set_=new)
    other = sqlite.insert(table)
    if keep:
        return other.on_conflict_do_nothing(index_elements=key)
    return other.on_conflict_do_update(
        index_elements=key, set_={name: other.excluded[name] for name in columns if name not in key}
    )
