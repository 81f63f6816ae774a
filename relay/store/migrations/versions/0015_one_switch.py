"""One switch for each ground (CONSENT-5 to -9), and imports that wait for a person's word (CONSENT-7)."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_GONE = ("third_party", "free_tier_reason", "bases")  # settings of the consent policy until now
_MODE = sa.table("policy_mode", *(sa.column(name) for name in ("tenant_id", "policy", "stream", "settings", "mode")))


def upgrade() -> None:
    op.add_column(
        "tenant",
        sa.Column("allow_soft_optin", sa.Boolean(create_constraint=False), server_default="1", nullable=False),
    )
    _take_over()
    op.create_table(
        "held_import",
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rows", _ID, nullable=False),
        sa.Column("shared", _ID, nullable=False),
        sa.Column("shared_at", sa.Double(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("decided_by", sa.Text(), server_default="", nullable=False),
        sa.Column("decided_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_held_import_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "digest", name=op.f("pk_held_import")),
        sqlite_with_rowid=False,
    )


def _take_over() -> None:
    """What a tenant was allowed for its mail only, it is now allowed for both; what its policy did not take is off."""
    connection = op.get_bind()
    rows = connection.execute(sa.select(_MODE).where(_MODE.c.policy == "consent").order_by(_MODE.c.stream)).all()
    for row in rows:
        settings = json.loads(row.settings)
        gone = {name: settings.pop(name) for name in _GONE if name in settings}
        if not gone:
            continue
        if row.stream in ("", "marketing"):  # of the others none sends to a list
            _allow(connection, row.tenant_id, gone)
        where = sa.and_(_MODE.c.tenant_id == row.tenant_id, _MODE.c.policy == row.policy, _MODE.c.stream == row.stream)
        if settings or row.mode:
            connection.execute(_MODE.update().where(where).values(settings=json.dumps(settings)))
        else:
            connection.execute(_MODE.delete().where(where))


def _allow(connection: sa.Connection, tenant_id: int, gone: dict[str, Any]) -> None:
    tenant = sa.table(
        "tenant", *(sa.column(name) for name in ("id", *_SWITCHES, "allow_third_party", "free_tier_reason"))
    )
    values: dict[str, object] = {}
    if "third_party" in gone:
        values["allow_third_party"] = gone["third_party"] == "accept"
    if "free_tier_reason" in gone:
        values["free_tier_reason"] = gone["free_tier_reason"]
    if "bases" in gone:
        values |= {name: basis in gone["bases"] for name, basis in _SWITCHES.items()}
    if values:
        connection.execute(tenant.update().where(tenant.c.id == tenant_id).values(**values))


_SWITCHES = {
    "allow_soft_optin": "soft_optin",
    "allow_published": "published_for_marketing",
    "allow_non_eea": "non_eea_b2b",
}


def downgrade() -> None:
    op.drop_table("held_import")
    op.drop_column("tenant", "allow_soft_optin")
