"""For how long each kind of data is kept, what the operator sets of it, and what a tenant may choose (GDPR-11 to GDPR-14).

Every class of the data map has its job here, or a reason why it needs none; a test holds the two together.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import retention_period, tenant
from relay.store.upsert import upsert

DAY = 86_400
MONTH_DAYS = 30
YEAR_DAYS = 365


class Kind(NamedTuple):
    """`setting`: the key of `[privacy]` that holds the period, in units of `unit_days`; else it is `days`, for everybody."""

    days: int
    setting: str = ""
    unit_days: int = 1
    may_choose: bool = False
    job: str = "retention.run"


KINDS = {
    "delivery_log": Kind(28, "delivery_log_days", may_choose=True, job="relay.serve.retention"),
    "campaign_addresses": Kind(28, "campaign_addresses_days", may_choose=True, job="relay.serve.retention"),
    "mailing": Kind(120),  # as the config has it: the two periods that its lines go by, together
    "captured": Kind(28, "delivery_log_days", job="relay.serve.retention"),
    "outcome": Kind(28, "delivery_log_days"),
    "evidence": Kind(730, "consent_ip_months", MONTH_DAYS, may_choose=True),
    "proof": Kind(1_825, "consent_proof_years", YEAR_DAYS),  # to the month, from the last mail: relay.owner.expiry
    "bounce": Kind(90, "bounce_suppression_days", may_choose=True),
    "audit": Kind(1_830, "security_log_days"),
    "request": Kind(30),
    "code": Kind(1),
    "idempotency": Kind(1),
    "webhook": Kind(28),
    "told": Kind(30),
    "incident": Kind(1_830),
    "incident_people": Kind(28),
    "request_file": Kind(1_830),
    "threads": Kind(90, job="relay.serve.retention"),
}
NO_PERIOD = {
    "contract": "goes with the tenant",
    "suppression": "without it an objection would lapse (GDPR-8)",
    "erasing": "relay.serve.erasures ends it",
    "register": "shows what held when (GDPR 5(2))",
}
CHOSEN = tuple(name for name, kind in KINDS.items() if kind.may_choose)
LIKE = {"captured": "delivery_log", "outcome": "delivery_log"}
"""Kinds that go by the choice for another one."""


def days_of(kind: str, setting: int | None) -> int:
    """The operator's period in days; `setting` as the config has it."""
    known = KINDS[kind]
    return known.days if setting is None or not known.setting else setting * known.unit_days


def choose(desk: Desk, args: Args) -> Result:
    """`tenant`, `kind`, `days` (none: as the operator), `most`: the operator's own period, which nobody may pass (GDPR-13)."""
    owner, kind = desk.tenant(args.text("tenant")), args.choice("kind", CHOSEN)
    most = args.number("most", KINDS[kind].days, least=1)
    table = retention_period.c
    if not args.has("days"):
        desk.connection.execute(retention_period.delete().where(table.tenant_id == owner.id, table.kind == kind))
        desk.note(kind=kind, days=None)
        return {"tenant": owner.name, "kind": kind, "days": most, "chosen": False}
    days = args.number("days", most, least=1)
    if days > most:
        raise OwnerError(
            "retention.too_long", f"{kind} is kept for {most} days here: a tenant may choose less, not more (GDPR-13)"
        )
    row = {"tenant_id": owner.id, "kind": kind, "days": days, "changed_at": desk.now}
    upsert(desk.connection, retention_period, [row])
    desk.note(kind=kind, days=days)
    return {"tenant": owner.name, "kind": kind, "days": days, "chosen": True}


def chosen(desk: Desk, args: Args) -> Result:
    """Optional `tenant`, `kind`: what tenants chose, as `tenant`, `tenant_id`, `kind`, `days`."""
    table = retention_period.c
    query = sa.select(tenant.c.name, table.tenant_id, table.kind, table.days).join(
        tenant, tenant.c.id == table.tenant_id
    )
    if args.has("tenant"):
        query = query.where(table.tenant_id == desk.tenant(args.text("tenant")).id)
    if args.has("kind"):
        query = query.where(table.kind == args.choice("kind", CHOSEN))
    rows = desk.connection.execute(query.order_by(tenant.c.name, table.kind))
    return [{"tenant": row.name, "tenant_id": row.tenant_id, "kind": row.kind, "days": row.days} for row in rows]


def before(now: float, kind: str, days: int) -> sa.ColumnElement[float]:
    """In a query on `tenant`, joined by `with_choice`: what is older than this has had its time."""
    mine = sa.func.coalesce(retention_period.c.days, days)
    return now - DAY * sa.case((mine < days, mine), else_=days)


def with_choice(kind: str) -> sa.FromClause:
    """Every tenant, with what it chose for a kind."""
    is_its = sa.and_(retention_period.c.tenant_id == tenant.c.id, retention_period.c.kind == LIKE.get(kind, kind))
    return tenant.join(retention_period, is_its, isouter=True)
