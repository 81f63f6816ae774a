"""What a tenant has the gateway do with the data of others, in versions: the instructions that the law asks for (GDPR-18).

Theory of operation. A controller instructs his processor in writing (GDPR 28(3)(a)); here that is what is set for the
tenant: who it is, its purposes, logins, domains, webhooks, policies, periods and limits. After each operation that can change
these, in its commit, they are written as one document; where its SHA-256 is another than that of the last version, it is the next
one. Secrets and addresses of people are no part of it, nor is which login is whose: of logins it says what kinds there are.
Thousands of them, or of limits of single ones, make no thousands of versions.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import orjson
import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import (
    credential,
    domain,
    instruction,
    own_limit,
    policy_mode,
    purpose,
    retention_period,
    tenant,
    webhook,
)

INSTRUCTING = frozenset(
    (
        "tenant.add", "tenant.set", "purpose.add", "domain.add", "domain.verify", "credential.add", "credential.revoke",
        "policy.mode", "limit.set", "limit.reset", "webhook.add", "webhook.remove", "retention.set",
    )
)  # fmt: skip
"""Operations after which the instructions of their tenant may be others."""
LIST_ROWS = 1_000
_OWN = (
    "kind", "category", "sensitive_audience", "language", "refusal_letters", "allow_soft_optin", "allow_third_party",
    "allow_published", "allow_non_eea", "free_tier_reason", "german_proof",
)  # fmt: skip


def keep(desk: Desk, op: str) -> None:
    """A new version of the tenant of this call, where its instructions are not those of the last one."""
    owner = desk.connection.execute(sa.select(tenant).where(tenant.c.id == desk.tenant_id)).first()
    if owner is None:
        return
    document = orjson.dumps(document_of(desk, owner), option=orjson.OPT_SORT_KEYS)
    digest, last = hashlib.sha256(document).digest(), latest(desk, owner)
    if last is not None and last.digest == digest:
        return
    row = {
        "tenant_id": owner.id,
        "version": 1 if last is None else last.version + 1,
        "at": desk.now,
        "actor": desk.actor,
        "op": op,
        "digest": digest,
        "document": document.decode(),
    }
    desk.connection.execute(instruction.insert().values(**row))
    desk.note(instruction=row["version"])


def latest(desk: Desk, owner: TenantRow) -> TenantRow | None:
    """The version that holds now; None where none was kept yet."""
    query = sa.select(instruction).where(instruction.c.tenant_id == owner.id)
    return desk.connection.execute(query.order_by(instruction.c.version.desc()).limit(1)).first()


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`: its versions, newest first, without what they say."""
    owner = desk.tenant(args.text("tenant"))
    query = sa.select(instruction).where(instruction.c.tenant_id == owner.id)
    rows = desk.connection.execute(query.order_by(instruction.c.version.desc()).limit(LIST_ROWS))
    return [shown(row) for row in rows]


def show(desk: Desk, args: Args) -> Result:
    """`tenant`; optional `version`, default the last: what it says."""
    owner = desk.tenant(args.text("tenant"))
    query = sa.select(instruction).where(instruction.c.tenant_id == owner.id)
    number = args.number("version", 0)
    if number:
        query = query.where(instruction.c.version == number)
    row = desk.connection.execute(query.order_by(instruction.c.version.desc()).limit(1)).first()
    if row is None:
        wrong = "there is no such version: see `zegel privacy instructions TENANT`"
        raise OwnerError("instruction.unknown", wrong)
    return {**shown(row), "document": orjson.loads(row.document)}


def shown(row: TenantRow) -> dict[str, Any]:
    """A version in one line."""
    return {"version": row.version, "at": row.at, "by": row.actor, "op": row.op, "sha256": row.digest.hex()}


def document_of(desk: Desk, owner: TenantRow) -> dict[str, Any]:
    """What is set for a tenant now. Order and form never change by themselves, so that equal instructions have equal hashes."""
    logins = sa.and_(credential.c.tenant_id == owner.id, credential.c.revoked_at == 0)
    limits = sa.and_(own_limit.c.tenant_id == owner.id, own_limit.c.scope != "credential")
    domains = [
        {"name": row.name, "how": "verified" if row.verified_at else "vouched" if row.vouched_at else "waits"}
        for row in _rows(desk, domain, domain.c.tenant_id == owner.id, domain.c.name)
    ]
    webhooks = [
        {"name": row.name, "host": host_of(row.url), "events": row.events.split(), "with_address": row.with_address}
        for row in _rows(desk, webhook, webhook.c.tenant_id == owner.id, webhook.c.name)
    ]
    modes = [
        {**_some(row, "policy", "stream", "mode"), "settings": orjson.loads(row.settings)}
        for row in _rows(
            desk, policy_mode, policy_mode.c.tenant_id == owner.id, policy_mode.c.policy, policy_mode.c.stream
        )
    ]
    periods = _rows(desk, retention_period, retention_period.c.tenant_id == owner.id, retention_period.c.kind)
    order = (own_limit.c.scope, own_limit.c.subject, own_limit.c.name)
    return {
        "controller": {"name": owner.name, "legal_name": owner.legal_name, **_some(owner, *_OWN)},
        "purposes": [
            _some(row, "name", "controller", "category", "title_nl", "title_en")
            for row in _rows(desk, purpose, purpose.c.tenant_id == owner.id, purpose.c.name)
        ],
        "logins": [
            {"stream": stream, "purpose": name}
            for stream, name in sorted({(row.stream, row.purpose) for row in _rows(desk, credential, logins)})
        ],
        "domains": domains,
        "webhooks": webhooks,
        "policies": modes,
        "periods": [_some(row, "kind", "days") for row in periods],
        "limits": [_some(row, "scope", "subject", "name", "value") for row in _rows(desk, own_limit, limits, *order)],
    }


def host_of(url: str) -> str:
    """The host of an address, whose path may hold a secret."""
    return urlsplit(url).hostname or ""


def _rows(desk: Desk, table: sa.Table, where: sa.ColumnElement[bool], *order: sa.ColumnElement[Any]) -> list[TenantRow]:
    return list(desk.connection.execute(sa.select(table).where(where).order_by(*order)))


def _some(row: TenantRow, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
