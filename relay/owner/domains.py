"""Domains: what a tenant may send as, proved by a TXT record or by the operator's word (ID-1)."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa

from relay.mail.address import is_freemail
from relay.mail.domain import is_public_suffix
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import dkim_key, domain, tenant

LABEL = "_zegel"
PREFIX = "zegel-verify="


def add(desk: Desk, args: Args) -> Result:
    """`tenant`, `domain`; `vouched`: the operator answers for it instead of DNS (audited).

    Adding again is allowed and may add the vouching.
    """
    owner = desk.tenant(args.text("tenant"))
    name = args.domain("domain")
    if is_freemail(name):
        raise OwnerError("domain.freemail", "that is a mailbox provider's domain; nobody sends as it from here (ID-3)")
    if is_public_suffix(name):
        text = (
            "names under that domain belong to many owners (a public suffix): add the domain that the tenant registered"
        )
        raise OwnerError("domain.public_suffix", text)
    vouched = args.flag("vouched")
    row = _row(desk, owner, name)
    if row is None:
        statement = domain.insert().values(
            tenant_id=owner.id, name=name, challenge=secrets.token_urlsafe(18), created_at=desk.now
        )
        desk.connection.execute(statement)
    if vouched:
        _require_free(desk, owner, name)
        values = {"vouched_at": desk.now, "vouched_by": desk.actor}
        desk.connection.execute(domain.update().where(_is(owner, name)).values(**values))
    desk.note(domain=name, vouched=vouched)
    return _shown(owner.name, _require(desk, owner, name))


def verify(desk: Desk, args: Args) -> Result:
    """`tenant`, `domain`; `seen`: {record name: [TXT texts]}, as `relay.owner.evidence` fetched it.

    Without `seen` it only tells what to publish. A domain once verified stays so.
    """
    owner = desk.tenant(args.text("tenant"))
    row = _require(desk, owner, args.domain("domain"))
    seen = texts_at(args.table("seen"), question(row.name))
    found = any(secrets.compare_digest(text.strip().encode(), f"{PREFIX}{row.challenge}".encode()) for text in seen)
    if found and not row.verified_at:
        _require_free(desk, owner, row.name)
        desk.connection.execute(domain.update().where(_is(owner, row.name)).values(verified_at=desk.now))
    desk.note(domain=row.name, found=found)
    shown = _shown(owner.name, _require(desk, owner, row.name))
    shown["records"][0]["seen"] = found
    return shown


def list_all(desk: Desk, args: Args) -> Result:
    """Optional `tenant`."""
    query = sa.select(domain, tenant.c.name.label("owner")).join(tenant).order_by(domain.c.name, tenant.c.name)
    if args.has("tenant"):
        query = query.where(domain.c.tenant_id == desk.tenant(args.text("tenant")).id)
    active = set(desk.connection.scalars(sa.select(dkim_key.c.domain).where(dkim_key.c.state == "active")))
    return [{**_shown(row.owner, row), "has_key": row.name in active} for row in desk.connection.execute(query)]


def texts_at(seen: dict[str, object] | None, name: str) -> list[str]:
    """The TXT texts that were seen at `name`; none where it was not asked or not answered."""
    texts = (seen or {}).get(name)
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list | tuple) else []


def question(name: str) -> str:
    """Where the TXT record of a domain is looked for."""
    return f"{LABEL}.{name}"


def owner_of(desk: Desk, name: str, tenant_name: str) -> TenantRow:
    """The tenant that owns `name` or its nearest registered parent. Raises OwnerError where none or several do."""
    parent = name
    while "." in parent:
        query = sa.select(tenant.c.name).join(domain).where(domain.c.name == parent)
        owners = [found for found in desk.connection.scalars(query) if tenant_name in ("", found)]
        if len(owners) == 1:
            return desk.tenant(owners[0])
        if owners:
            raise OwnerError("domain.several", "several tenants registered that domain: name the tenant")
        parent = parent.partition(".")[2]
    raise OwnerError("domain.unknown", "no tenant registered that domain: add it with `zegel domain add` first")


def _row(desk: Desk, owner: TenantRow, name: str) -> TenantRow | None:
    return desk.connection.execute(sa.select(domain).where(_is(owner, name))).first()


def _require(desk: Desk, owner: TenantRow, name: str) -> TenantRow:
    row = _row(desk, owner, name)
    if row is None:
        raise OwnerError("domain.unknown", f"tenant {owner.name} has no such domain: add it with `zegel domain add`")
    return row


def _require_free(desk: Desk, owner: TenantRow, name: str) -> None:
    table = domain.c
    usable = sa.or_(table.verified_at > 0, table.vouched_at > 0)
    query = sa.select(table.id).where(table.name == name, table.tenant_id != owner.id, usable)
    if desk.connection.scalar(query) is not None:
        raise OwnerError("domain.taken", "that domain is in use by another tenant of this gateway: ask the operator")


def _is(owner: TenantRow, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(domain.c.tenant_id == owner.id, domain.c.name == name)


def _shown(owner: str, row: TenantRow) -> dict[str, Any]:
    record = {"name": question(row.name), "type": "TXT", "value": f"{PREFIX}{row.challenge}", "seen": False}
    return {
        "tenant": owner,
        "domain": row.name,
        "verified": row.verified_at > 0,
        "vouched": row.vouched_at > 0,
        "vouched_by": row.vouched_by,
        "created_at": row.created_at,
        "records": [record],
    }
