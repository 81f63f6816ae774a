"""What the tables of the shared database are made of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Integer, MetaData, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is exactly INTEGER.
ID = BigInteger().with_variant(Integer, "sqlite")


def row_id() -> Column[int]:
    return Column("id", ID, primary_key=True, autoincrement=True)


def text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


def flag(name: str) -> Column[bool]:
    return Column(name, Boolean(create_constraint=False), nullable=False, server_default="0")


def of_tenant(**options: Any) -> Column[int]:
    return Column("tenant_id", ID, ForeignKey("tenant.id"), nullable=False, **options)
