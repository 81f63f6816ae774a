"""States of consent lie in the order of a number, so that a look-up reads one page that is not in the cache (decision 026)."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.drop_index(op.f("ix_consent_state_used_at"), "consent_state")
    if op.get_bind().dialect.name == "sqlite":
        number = sa.Column("id", _ID, nullable=False)
        rest = _anew([number, sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_state"))])
        op.get_bind().connection.dbapi_connection.create_function("number", 1, _number, deterministic=True)  # type: ignore[union-attr]
        # In the order of the new table, without a sort: the upper half of the keys are the negative numbers.
        for half in ("key >= x'80'", "key < x'80'"):
            rows = f"SELECT number(key), {rest} FROM consent_state_old WHERE {half} ORDER BY key"
            op.execute(f"INSERT OR REPLACE INTO consent_state (id, {rest}) {rows}")
        op.drop_table("consent_state_old")
    else:
        op.add_column("consent_state", sa.Column("id", _ID))
        op.execute("UPDATE consent_state SET id = ('x' || encode(substring(key from 1 for 8), 'hex'))::bit(64)::bigint")
        _primary("id")
    op.create_index(op.f("ix_consent_state_used_at"), "consent_state", ["used_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_consent_state_used_at"), "consent_state")
    if op.get_bind().dialect.name == "sqlite":
        rest = _anew([sa.PrimaryKeyConstraint("key", name=op.f("pk_consent_state"))], "id", sqlite_with_rowid=False)
        for half in ("id >= 0", "id < 0"):
            rows = f"SELECT {rest} FROM consent_state_old WHERE {half} ORDER BY id"
            op.execute(f"INSERT INTO consent_state ({rest}) {rows}")
        op.drop_table("consent_state_old")
    else:
        _primary("key")
        op.drop_column("consent_state", "id")
    op.create_index(op.f("ix_consent_state_used_at"), "consent_state", ["used_at"], unique=False)


def _number(key: bytes) -> int:
    return int.from_bytes(key[:8], signed=True)


def _primary(column: str) -> None:
    op.drop_constraint(op.f("pk_consent_state"), "consent_state", type_="primary")
    op.alter_column("consent_state", column, nullable=False)
    op.create_primary_key(op.f("pk_consent_state"), "consent_state", [column])


def _anew(first: Sequence[sa.schema.SchemaItem], but: str = "", **options: bool) -> str:
    """An empty table beside the one of before, which is called consent_state_old; the names of the columns of both."""
    before = sa.Table("consent_state", sa.MetaData(), autoload_with=op.get_bind())
    op.rename_table("consent_state", "consent_state_old")
    columns = [column for column in before.columns if column.name != but]
    copies = [sa.Column(c.name, c.type, server_default=c.server_default, nullable=False) for c in columns]
    tenant = sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_consent_state_tenant_id"))
    op.create_table("consent_state", *first, *copies, tenant, **options)
    return ", ".join(column.name for column in columns)
