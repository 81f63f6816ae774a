"""What the database knows for the register of processing: controllers, what is done for them, who else is at work (GDPR-17)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.owner import instructions, sub_processors
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.store.schema import sub_processor, tenant


def register(desk: Desk, args: Args) -> Result:
    """Optional `tenant`, default all: each controller with what is set for it, and every sub-processor that is or was.

    It reads: but a tenant whose instructions were never kept, or were changed by a new version of this program, gets a version.
    """
    if args.has("tenant"):
        rows = [desk.tenant(args.text("tenant"))]
    else:
        rows = list(desk.connection.execute(sa.select(tenant).where(tenant.c.deleted_at == 0).order_by(tenant.c.name)))
    controllers = [_controller(desk, row) for row in rows]
    desk.tenant_id = rows[0].id if args.has("tenant") else 0
    query = sa.select(sub_processor).order_by(sub_processor.c.id)
    others = [sub_processors.shown(desk, row) for row in desk.connection.execute(query)]
    return {"made_at": desk.now, "controllers": controllers, "sub_processors": others}


def _controller(desk: Desk, row: TenantRow) -> dict[str, Any]:
    desk.tenant_id = row.id
    instructions.keep(desk, "privacy.register")
    last = instructions.latest(desk, row)
    assert last is not None, "just kept"
    said = instructions.document_of(desk, row)
    return {
        "name": row.name,
        "legal_name": row.legal_name or row.name,
        "has_legal_name": bool(row.legal_name),
        "contact": row.contact or None,
        "postal_address": row.postal_address or None,
        "kind": row.kind,
        "category": row.category or None,
        "sensitive_audience": row.sensitive_audience,
        "since": row.created_at,
        "streams": sorted({login["stream"] for login in said["logins"]}),
        "purposes": said["purposes"],
        "domains": [one["name"] for one in said["domains"]],
        "webhooks": said["webhooks"],
        "instruction": instructions.shown(last),
    }
