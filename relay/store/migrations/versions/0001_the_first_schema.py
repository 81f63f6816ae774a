"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column(
            "tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), server_default="0", nullable=False
        ),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_at"), ["at"], unique=False)

    op.create_table(
        "tenant",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("legal_name", sa.Text(), server_default="", nullable=False),
        sa.Column("kind", sa.Text(), server_default="company", nullable=False),
        sa.Column("category", sa.Text(), server_default="", nullable=False),
        sa.Column("sensitive_audience", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("language", sa.Text(), server_default="nl", nullable=False),
        sa.Column("contact", sa.Text(), server_default="", nullable=False),
        sa.Column("postal_address", sa.Text(), server_default="", nullable=False),
        sa.Column("suspended", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("suspended_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("allow_third_party", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("allow_published", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("allow_non_eea", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("free_tier_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("german_proof", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("revoked_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_api_key_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key_digest")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_api_key_tenant_id_name")),
    )
    op.create_table(
        "consent_state",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
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
        sa.Column("event", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ended_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_consent_state_tenant_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_consent_state")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "consent_text",
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_consent_text_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "hash", name=op.f("pk_consent_text")),
    )
    op.create_table(
        "credential",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), server_default="", nullable=False),
        sa.Column("from_addresses", sa.Text(), server_default="[]", nullable=False),
        sa.Column("null_sender", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("revoked_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_credential_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credential")),
        sa.UniqueConstraint("name", name=op.f("uq_credential_name")),
    )
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credential_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "dkim_key",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("activated_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("vouched_by", sa.Text(), server_default="", nullable=False),
        sa.Column("checked_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("mismatch_since", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_dkim_key_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dkim_key")),
        sa.UniqueConstraint("domain", "selector", name=op.f("uq_dkim_key_domain_selector")),
    )
    with op.batch_alter_table("dkim_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dkim_key_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "domain",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("challenge", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("vouched_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("vouched_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_domain_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domain")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_domain_tenant_id_name")),
    )
    with op.batch_alter_table("domain", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_domain_name"), ["name"], unique=False)

    op.create_table(
        "ledger_head",
        sa.Column(
            "tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_ledger_head_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "policy_mode",
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), server_default="{}", nullable=False),
        sa.Column("changed_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_policy_mode_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "policy", "stream", name=op.f("pk_policy_mode")),
    )
    op.create_table(
        "purpose",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("optin_key", sa.Text(), nullable=False),
        sa.Column("controller", sa.Text(), server_default="", nullable=False),
        sa.Column("category", sa.Text(), server_default="", nullable=False),
        sa.Column("title_nl", sa.Text(), server_default="", nullable=False),
        sa.Column("title_en", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_purpose_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purpose")),
        sa.UniqueConstraint("optin_key", name=op.f("uq_purpose_optin_key")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_purpose_tenant_id_name")),
    )
    op.create_table(
        "subject",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("erased_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_subject_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject")),
    )
    with op.batch_alter_table("subject", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subject_hash"), ["hash"], unique=False)

    op.create_table(
        "confirm_request",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("mails_sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("subject_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("event", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["subject_id"], ["subject.id"], name=op.f("fk_confirm_request_subject_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_confirm_request_tenant_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_confirm_request")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "consent_event",
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("subject_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("clear", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_hash", sa.LargeBinary(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=True),
        sa.Column("evidence_hash", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("prev_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("expired_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["subject_id"], ["subject.id"], name=op.f("fk_consent_event_subject_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_consent_event_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "seq", name=op.f("pk_consent_event")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("consent_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_consent_event_subject_id"), ["subject_id"], unique=False)

    op.create_table(
        "suppression",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("lifted", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["subject_id"], ["subject.id"], name=op.f("fk_suppression_subject_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_suppression_tenant_id")),
        sa.PrimaryKeyConstraint("key", "scope", "reason", name=op.f("pk_suppression")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("suppression", schema=None) as batch_op:
        batch_op.create_index("ix_suppression_tenant_id_at", ["tenant_id", "at"], unique=False)


def downgrade() -> None:

    with op.batch_alter_table("suppression", schema=None) as batch_op:
        batch_op.drop_index("ix_suppression_tenant_id_at")

    op.drop_table("suppression")
    with op.batch_alter_table("consent_event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_consent_event_subject_id"))

    op.drop_table("consent_event")
    op.drop_table("confirm_request")
    with op.batch_alter_table("subject", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_subject_hash"))

    op.drop_table("subject")
    op.drop_table("purpose")
    op.drop_table("policy_mode")
    op.drop_table("ledger_head")
    with op.batch_alter_table("domain", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_domain_name"))

    op.drop_table("domain")
    with op.batch_alter_table("dkim_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dkim_key_tenant_id"))

    op.drop_table("dkim_key")
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_credential_tenant_id"))

    op.drop_table("credential")
    op.drop_table("consent_text")
    op.drop_table("consent_state")
    op.drop_table("api_key")
    op.drop_table("tenant")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_at"))

    op.drop_table("audit")
