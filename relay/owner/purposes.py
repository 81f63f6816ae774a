"""Purposes: the lists a tenant mails for; consent is per purpose (CONSENT-4)."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from relay.consent.suppression import ALL
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import purpose


def add(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`; optional `controller` (legal entity; default the tenant's), `category`, `title_nl`, `title_en`."""
    owner = desk.tenant(args.text("tenant"))
    name = args.name("name")
    if name == ALL:
        raise OwnerError("purpose.reserved", f"{ALL} means every purpose: choose another name")
    table = purpose.c
    if desk.connection.scalar(sa.select(table.id).where(table.tenant_id == owner.id, table.name == name)):
        raise OwnerError("purpose.exists", f"tenant {owner.name} has a purpose {name} already")
    values = {field: args.text(field, "") for field in ("controller", "category", "title_nl", "title_en")}
    statement = purpose.insert().values(
        tenant_id=owner.id, name=name, optin_key=secrets.token_urlsafe(16), created_at=desk.now, **values
    )
    desk.connection.execute(statement)
    desk.note(name=name, **values)
    return _shown(owner.name, desk.purpose(owner, name))


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`."""
    owner = desk.tenant(args.text("tenant"))
    query = sa.select(purpose).where(purpose.c.tenant_id == owner.id).order_by(purpose.c.name)
    return [_shown(owner.name, row) for row in desk.connection.execute(query)]


def _shown(owner: str, row: TenantRow) -> dict[str, object]:
    values = row._asdict()
    names = ("name", "controller", "category", "title_nl", "title_en", "optin_key", "created_at")
    return {"tenant": owner, **{name: values[name] for name in names}}
