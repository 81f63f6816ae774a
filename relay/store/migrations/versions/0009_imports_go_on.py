"""How far the last import of a tenant came, so that one that broke off goes on."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "import_place",
        sa.Column("tenant_id", _ID, sa.ForeignKey("tenant.id"), primary_key=True, autoincrement=False),
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.Column("done_bytes", _ID, nullable=False),
        sa.Column("done_lines", _ID, nullable=False),
        sa.Column("imported", _ID, nullable=False),
        sa.Column("unchanged", _ID, nullable=False),
        sa.Column("refused", _ID, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("import_place")
