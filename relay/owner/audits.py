"""What was written down of who did what, for who asks (GDPR-2). It is written by `Desk.write_audit`."""

from __future__ import annotations

import orjson
import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.store.schema import audit, tenant

MOST = 1_000


def list_all(desk: Desk, args: Args) -> Result:
    """The newest `limit` (100) entries first, of one `tenant` where it is named. An address stands in them as its hash."""
    columns = (audit.c.at, audit.c.actor, audit.c.op, tenant.c.name, audit.c.detail)
    query = sa.select(*columns).select_from(audit.outerjoin(tenant, tenant.c.id == audit.c.tenant_id))
    if args.has("tenant"):
        query = query.where(audit.c.tenant_id == desk.tenant(args.text("tenant"), gone=True).id)
    limit = args.number("limit", 100, least=1, most=MOST)
    rows = desk.connection.execute(query.order_by(audit.c.id.desc()).limit(limit))
    return [
        {"at": row.at, "actor": row.actor, "op": row.op, "tenant": row.name, "detail": orjson.loads(row.detail)}
        for row in rows
    ]
