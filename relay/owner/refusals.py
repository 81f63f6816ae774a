"""What was refused and held, counted for each tenant and rule until its contact has been told; and who was told what (OPS-6).

Counts are of rules, never of people. A tenant's day is claimed before its digest is written and the counts are taken off after
it is queued: a digest that dies in between is not sent twice, and what it would have told comes with the next one.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.store.schema import refusal_tally, tenant, tenant_told
from relay.store.upsert import upsert

MAX_ROWS = 1_000
KINDS = ("refused", "held")
FIRST, DIGEST = "first", "digest"


def add(desk: Desk, args: Args) -> Result:
    """`rows`: `tenant_id`, `rule`, `kind` (refused, held), `count`, `at` (of the first). Unknown tenants are passed over."""
    known = set(desk.connection.scalars(sa.select(tenant.c.id).where(tenant.c.deleted_at == 0)))
    for given in args.rows("rows", MAX_ROWS):
        row = Args(given)
        key = {
            "tenant_id": row.number("tenant_id", 0, most=1 << 53),
            "rule": row.name("rule"),
            "kind": row.choice("kind", KINDS),
        }
        count, at = row.number("count", 1, least=1, most=1 << 40), row.time("at", desk.now)
        row.done()
        if key["tenant_id"] not in known:
            continue
        table = refusal_tally
        changed = desk.connection.execute(table.update().where(_is(table, key)).values(count=table.c.count + count))
        if not changed.rowcount:
            desk.connection.execute(table.insert().values(**key, count=count, first_at=at))
    return {}


def first(desk: Desk, args: Args) -> Result:
    """`tenant_id`, `rule`: whether its contact has not been told of this rule yet; from now on he has."""
    return {"first": _claim(desk, args.number("tenant_id", 0, most=1 << 53), FIRST, args.name("rule"))}


def unsaid(desk: Desk, args: Args) -> Result:
    """`tenant_id`, `rule`: he could not be told after all."""
    key = {"tenant_id": args.number("tenant_id", 0, most=1 << 53), "kind": FIRST, "about": args.name("rule")}
    desk.connection.execute(tenant_told.delete().where(_is(tenant_told, key)))
    return {}


def due(desk: Desk, args: Args) -> Result:
    """`day`, and `before`, a time: the tenants with counts from before it whose contact has had no digest of that day."""
    day, before = args.name("day"), args.time("before", desk.now)
    told = sa.select(tenant_told.c.tenant_id).where(tenant_told.c.kind == DIGEST, tenant_told.c.about == day)
    counted = sa.select(refusal_tally.c.tenant_id).where(refusal_tally.c.first_at < before)
    wanted = sa.and_(
        tenant.c.refusal_letters,
        tenant.c.deleted_at == 0,
        tenant.c.contact != "",
        tenant.c.id.in_(counted),
        tenant.c.id.not_in(told),
    )
    names = ("id", "name", "legal_name", "language", "contact")
    rows = desk.connection.execute(sa.select(*(tenant.c[name] for name in names)).where(wanted).order_by(tenant.c.id))
    return [dict(row._mapping) for row in rows]


def claim(desk: Desk, args: Args) -> Result:
    """`tenant_id`, `day`: `claimed` is true for the first who asks; then `rows` are the counts to tell."""
    number, day = args.number("tenant_id", 0, most=1 << 53), args.name("day")
    if not _claim(desk, number, DIGEST, day):
        return {"claimed": False, "rows": []}
    table = refusal_tally
    found = desk.connection.execute(
        sa.select(table).where(table.c.tenant_id == number).order_by(table.c.rule, table.c.kind)
    )
    return {
        "claimed": True,
        "rows": [{"rule": r.rule, "kind": r.kind, "count": r.count, "first_at": r.first_at} for r in found],
    }


def told(desk: Desk, args: Args) -> Result:
    """`tenant_id`, `rows` of `claim`: these counts have been told. What was counted since stays."""
    number, table = args.number("tenant_id", 0, most=1 << 53), refusal_tally
    for given in args.rows("rows", MAX_ROWS):
        key = {"tenant_id": number, "rule": str(given["rule"]), "kind": str(given["kind"])}
        left = table.c.count - Args(given).number("count", 0, most=1 << 53)
        desk.connection.execute(table.update().where(_is(table, key)).values(count=left, first_at=desk.now))
    desk.connection.execute(table.delete().where(table.c.tenant_id == number, table.c.count <= 0))
    return {}


def _claim(desk: Desk, number: int, kind: str, about: str) -> bool:
    """Whether nobody has said this yet. From now on somebody has."""
    key = {"tenant_id": number, "kind": kind, "about": about}
    here = sa.select(tenant.c.id).where(tenant.c.id == number, tenant.c.deleted_at == 0)
    if desk.connection.execute(here).first() is None:
        return False
    if desk.connection.execute(sa.select(tenant_told.c.at).where(_is(tenant_told, key))).first() is not None:
        return False
    upsert(desk.connection, tenant_told, [{**key, "at": desk.now}], keep=True)
    return True


def _is(table: sa.Table, key: dict[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == value for name, value in key.items()))
