"""What stands against one person is found without a walk through all of a tenant."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_suppression_subject_id_tenant_id"), "suppression", ["subject_id", "tenant_id"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_suppression_subject_id_tenant_id"), "suppression")
