"""Logo, colours and web sites of a tenant, for the pages that recipients meet; a code counts for one page."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "tenant_face",
        sa.Column("tenant_id", _ID, autoincrement=False, nullable=False),
        sa.Column("colour", sa.Text(), server_default="", nullable=False),
        sa.Column("text_colour", sa.Text(), server_default="", nullable=False),
        sa.Column("origins", sa.Text(), server_default="", nullable=False),
        sa.Column("logo", sa.Text(), server_default="", nullable=False),
        sa.Column("picture", sa.LargeBinary(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_tenant_face_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_face")),
    )
    op.drop_column("access_code", "locked_until")  # a code counts for the page that it was asked from


def downgrade() -> None:
    op.add_column("access_code", sa.Column("locked_until", sa.Double(), server_default="0", nullable=False))
    op.drop_table("tenant_face")
