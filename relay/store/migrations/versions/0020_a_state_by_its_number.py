"""States of consent lie in the order of a number, so that a look-up reads one page that is not in the cache (decision 026)."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REST = (
    "key, tenant_id, status, basis, given_at, confirmed_at, expires_at, controller, category, sale_kind, sale_at, provenance,"
    " jurisdiction, sensitive, event, ended_at, proof, used_at"
)


def upgrade() -> None:
    op.drop_index(op.f("ix_consent_state_used_at"), "consent_state")
    if op.get_bind().dialect.name == "sqlite":
        _anew(sa.Column("id", _ID, nullable=False), sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_state")))
        op.get_bind().connection.dbapi_connection.create_function("number", 1, _number, deterministic=True)  # type: ignore[union-attr]
        # In the order of the new table, without a sort: the upper half of the keys are the negative numbers.
        for half in ("key >= x'80'", "key < x'80'"):
            rows = f"SELECT number(key), {_REST} FROM consent_state_old WHERE {half} ORDER BY key"
            op.execute(f"INSERT OR REPLACE INTO consent_state (id, {_REST}) {rows}")
        op.drop_table("consent_state_old")
    else:
        op.add_column("consent_state", sa.Column("id", _ID))
        op.execute("UPDATE consent_state SET id = ('x' || encode(substring(key from 1 for 8), 'hex'))::bit(64)::bigint")
        _primary("id")
    op.create_index(op.f("ix_consent_state_used_at"), "consent_state", ["used_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_consent_state_used_at"), "consent_state")
    if op.get_bind().dialect.name == "sqlite":
        _anew(sa.PrimaryKeyConstraint("key", name=op.f("pk_consent_state")), sqlite_with_rowid=False)
        for half in ("id >= 0", "id < 0"):
            rows = f"SELECT {_REST} FROM consent_state_old WHERE {half} ORDER BY id"
            op.execute(f"INSERT INTO consent_state ({_REST}) {rows}")
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


def _anew(*first: sa.Column[int] | sa.PrimaryKeyConstraint, **options: bool) -> None:
    """An empty table beside the one of before, which is called consent_state_old."""
    op.rename_table("consent_state", "consent_state_old")
    columns = [item for item in first if isinstance(item, sa.Column)]
    op.create_table(
        "consent_state",
        *columns,
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("given_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("confirmed_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("expires_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("controller", sa.Text(), server_default="", nullable=False),
        sa.Column("category", sa.Text(), server_default="", nullable=False),
        sa.Column("sale_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("sale_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("provenance", sa.Text(), server_default="own", nullable=False),
        sa.Column("jurisdiction", sa.Text(), server_default="", nullable=False),
        sa.Column("sensitive", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("event", _ID, nullable=False),
        sa.Column("ended_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("used_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_consent_state_tenant_id")),
        *(item for item in first if not isinstance(item, sa.Column)),
        **options,
    )
