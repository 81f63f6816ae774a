"""What was done for one tenant is found without reading what was done for all (GDPR-2)."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_INDEX = "ix_audit_tenant_id_id"


def upgrade() -> None:
    op.create_index(_INDEX, "audit", ["tenant_id", "id"])


def downgrade() -> None:
    op.drop_index(_INDEX, "audit")
