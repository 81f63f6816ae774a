"""Consents are found by their purpose, to be counted (THROTTLE-7)."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_consent_event_tenant_id_purpose", "consent_event", ["tenant_id", "purpose"])


def downgrade() -> None:
    op.drop_index("ix_consent_event_tenant_id_purpose", table_name="consent_event")
