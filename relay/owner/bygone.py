"""A tenant as it was at a past date, from the version of its instructions that held then: by that a proof judges."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import sqlalchemy as sa

from relay.directory import grounds_of, tenant_of
from relay.mail.envelope import Purpose, Tenant
from relay.owner.desk import Desk, TenantRow
from relay.store.schema import instruction

_SAME = ("legal_name", "kind", "category", "sensitive_audience", "language")


def tenant_at(desk: Desk, owner: TenantRow, at: float) -> Tenant:
    """`owner` at `at` (epoch seconds): by its first version where it is older than its versions, as it is now without any.

    A policy's own settings of then are those of now where this program can no longer read them.
    """
    now, version = tenant_of(desk.connection, owner), _version(desk, owner, at)
    if version is None:
        return now
    said = orjson.loads(version.document)
    controller = {**owner._asdict(), **said["controller"]}
    then: dict[str, Any] = {name: controller[name] for name in _SAME}
    then["grounds"] = grounds_of(SimpleNamespace(**controller))
    then["purposes"] = {row["name"]: Purpose(**row) for row in said["purposes"]}
    return replace(now, **then, **_policies(desk, now, said["policies"]))


def _version(desk: Desk, owner: TenantRow, at: float) -> TenantRow | None:
    query = sa.select(instruction).where(instruction.c.tenant_id == owner.id)
    then = query.where(instruction.c.at <= at).order_by(instruction.c.version.desc()).limit(1)
    return desk.connection.execute(then).first() or desk.connection.execute(query.order_by("version").limit(1)).first()


def _policies(desk: Desk, now: Tenant, rows: list[dict[str, Any]]) -> dict[str, Any]:
    by_key = {f"{row['policy']}/{row['stream']}" if row["stream"] else row["policy"]: row for row in rows}
    settings = {key: row["settings"] for key, row in by_key.items() if row["settings"]}
    if any(desk.catalogue().check(by_key[key]["policy"], table) for key, table in settings.items()):
        settings = dict(now.settings)
    return {"modes": {key: row["mode"] for key, row in by_key.items() if row["mode"]}, "settings": settings}
