"""Suspension of a tenant or of one login, and its release by a person (THROTTLE-9).

What was said last counts, also among gateways that each have a database: every change has a time, later than that of the
change it undoes, whatever the clocks say.
"""

from __future__ import annotations

import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.owner.tenants import shown
from relay.store.schema import credential, tenant

KINDS = ("tenant", "credential")
_TABLES = {"tenant": tenant, "credential": credential}
_AFTER_SECONDS = 0.001
MOST_ROWS = 100_000


def suspend_tenant(desk: Desk, args: Args) -> Result:
    """`name`; optional `reason`, which its contact reads: nothing of it is accepted or sent until `resume`."""
    return _change_tenant(desk, args, suspended=True)


def resume_tenant(desk: Desk, args: Args) -> Result:
    """`name`; optional `reason`, for the audit."""
    return _change_tenant(desk, args, suspended=False)


def suspend_credential(desk: Desk, args: Args) -> Result:
    """`name`; optional `tenant`, which must then own it, and `reason`, which its contact reads."""
    return _change_credential(desk, args, suspended=True)


def resume_credential(desk: Desk, args: Args) -> Result:
    """`name`; optional `tenant` and `reason`."""
    return _change_credential(desk, args, suspended=False)


def list_all(desk: Desk, args: Args) -> Result:
    """No arguments: every tenant and login by `kind` and `name`, whether it is `suspended`, and since when `at`.

    `told`: its contact knows. The rest is what he is told, and in which language; `deleted`: there is nobody any more to tell.
    """
    owner = tenant.c
    left = (owner.deleted_at > 0).label("deleted")
    whose = (owner.id.label("tenant_id"), owner.name.label("tenant"), owner.contact, owner.language, left)
    rows: list[dict[str, object]] = []
    for kind, table in _TABLES.items():
        query = sa.select(
            table.c.name,
            table.c.suspended,
            table.c.suspended_reason.label("reason"),
            table.c.suspension_at.label("at"),
            table.c.suspension_told.label("told"),
            *whose,
        )
        if table is credential:
            query = query.join(tenant).where(credential.c.revoked_at == 0)
        rows += [{"kind": kind, **row._asdict()} for row in desk.connection.execute(query)]
    return rows


def follow(desk: Desk, args: Args) -> Result:
    """`rows` of `kind`, `name`, `suspended`, `at`: what a person said at another gateway, who told the contact.

    A row that is older than what is known here changes nothing, nor does one of nobody.
    """
    followed = 0
    for given in args.rows("rows", MOST_ROWS):
        row = Args(given)
        kind, name = row.choice("kind", KINDS), row.text("name")
        said = (row.time("at", 0.0), row.flag("suspended"))
        row.done()
        table = _TABLES[kind].c
        known = desk.connection.execute(
            sa.select(table.id, table.suspension_at, table.suspended).where(table.name == name, *_stays(kind))
        ).first()
        if known is None or said <= (known.suspension_at, known.suspended):
            continue
        values = {"suspended": said[1], "suspended_reason": "", "suspension_at": said[0], "suspension_told": True}
        desk.connection.execute(_TABLES[kind].update().where(table.id == known.id).values(**values))
        desk.note(by="another gateway", **{f"{kind}:{name}": "suspended" if said[1] else "resumed"})
        followed += 1
    return {"followed": followed}


def _stays(kind: str) -> list[sa.ColumnElement[bool]]:
    """Whoever was deleted stays suspended, whatever is said elsewhere (GDPR-18)."""
    return [tenant.c.deleted_at == 0] if kind == "tenant" else []


def told(desk: Desk, args: Args) -> Result:
    """`kind`, `name`, `at`: the contact has been written to about that suspension, or has no address to write to."""
    kind, name, at = args.choice("kind", KINDS), args.text("name"), args.time("at", 0.0)
    table = _TABLES[kind]
    desk.connection.execute(
        table.update().where(table.c.name == name, table.c.suspension_at == at).values(suspension_told=True)
    )
    whose = tenant.c.id if kind == "tenant" else credential.c.tenant_id
    desk.tenant_id = desk.connection.scalar(sa.select(whose).where(table.c.name == name)) or 0
    desk.note(kind=kind, name=name)
    return {}


def _change_tenant(desk: Desk, args: Args, *, suspended: bool) -> Result:
    row = desk.tenant(args.text("name"))
    _write(desk, args, "tenant", row, suspended=suspended)
    return shown(desk.tenant(row.name))


def _change_credential(desk: Desk, args: Args, *, suspended: bool) -> Result:
    name = args.text("name")
    query = sa.select(credential, tenant.c.name.label("owner")).join(tenant).where(credential.c.name == name)
    if args.has("tenant"):
        query = query.where(credential.c.tenant_id == desk.tenant(args.text("tenant")).id)
    row = desk.connection.execute(query).first()
    if row is None:
        raise OwnerError("credential.unknown", "there is no such credential: see `zegel credential list`")
    if row.revoked_at:
        raise OwnerError(
            "credential.revoked", f"{name} was revoked and stays so: make another with `zegel credential add`"
        )
    desk.tenant_id = row.tenant_id
    reason = _write(desk, args, "credential", row, suspended=suspended)
    return {
        "name": name,
        "username": name,
        "tenant": row.owner,
        "stream": row.stream,
        "suspended": suspended,
        "suspended_reason": reason if suspended else "",
    }


def _write(desk: Desk, args: Args, kind: str, row: TenantRow, *, suspended: bool) -> str:
    reason = args.text("reason", "")
    desk.note(name=row.name, reason=reason)
    if row.suspended == suspended and not suspended:
        return reason
    table = _TABLES[kind]
    values = {
        "suspended": suspended,
        "suspended_reason": reason if suspended else "",
        # Who repeats himself changes the reason, not the time from which mail is kept.
        "suspension_at": row.suspension_at
        if row.suspended == suspended
        else round(max(desk.now, row.suspension_at + _AFTER_SECONDS), 6),
        "suspension_told": not suspended,
    }
    desk.connection.execute(table.update().where(table.c.id == row.id).values(**values))
    return reason
