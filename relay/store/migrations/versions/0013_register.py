"""Requests of people with their due dates, versions of instructions, sub-processors (GDPR-17, GDPR-18, GDPR-24)."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _requests()
    op.create_table(
        "instruction",
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_instruction_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "version", name=op.f("pk_instruction")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sub_processor",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("ground", sa.Text(), server_default="", nullable=False),
        sa.Column("contact", sa.Text(), server_default="", nullable=False),
        sa.Column("announced_at", sa.Double(), nullable=False),
        sa.Column("from_at", sa.Double(), nullable=False),
        sa.Column("without_notice", sa.Text(), server_default="", nullable=False),
        sa.Column("until_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sub_processor")),
    )


def _requests() -> None:
    op.create_table(
        "rights_request",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("extended_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("settled_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_rights_request_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rights_request")),
        sa.UniqueConstraint("ref", name=op.f("uq_rights_request_ref")),
    )
    for column in ("tenant_id", "key"):
        op.create_index(op.f(f"ix_rights_request_{column}"), "rights_request", [column], unique=False)
    op.create_index("ix_rights_request_settled_at", "rights_request", ["settled_at"], unique=False)


def downgrade() -> None:
    for table in ("sub_processor", "instruction", "rights_request"):
        op.drop_table(table)
