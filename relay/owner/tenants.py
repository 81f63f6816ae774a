"""Tenants: who sends through this gateway."""

from __future__ import annotations

import sqlalchemy as sa

from relay.owner import departures, faces
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import tenant

KINDS = ("company", "charity", "government")
LANGUAGES = ("nl", "en")
_FLAGS = (
    "sensitive_audience",
    "refusal_letters",
    "allow_soft_optin",
    "allow_third_party",
    "allow_published",
    "allow_non_eea",
    "german_proof",
)
_TEXTS = ("legal_name", "category", "postal_address", "free_tier_reason")


def add(desk: Desk, args: Args) -> Result:
    """`name`, and what `set` takes."""
    name = args.name("name")
    same = sa.select(tenant.c.name, tenant.c.deleted_at).where(sa.func.lower(tenant.c.name) == name.lower())
    found = desk.connection.execute(same).first()
    if found is not None and found.deleted_at:
        text = f"a tenant {found.name} was deleted, and its proof is kept under that name: choose another"
        raise OwnerError("tenant.deleted", text)
    if found is not None:
        taken = found.name
        raise OwnerError("tenant.exists", f"there is a tenant {taken} already: change it with `zegel tenant set`")
    values = _values(args)
    desk.connection.execute(tenant.insert().values(name=name, created_at=desk.now, **values))
    desk.note(**values)
    return shown(desk.tenant(name))


def change(desk: Desk, args: Args) -> Result:
    """`name`, and any of: legal_name kind category sensitive_audience language contact postal_address refusal_letters
    allow_soft_optin allow_third_party allow_published allow_non_eea free_tier_reason german_proof; colour text_colour logo
    origins (relay.owner.faces). What is not given stays."""
    row = desk.tenant(args.text("name"))
    values = _values(args)
    if not faces.change(desk, row, args) and not values:
        raise OwnerError("args.missing", "nothing to set: name at least one property")
    if values:
        desk.connection.execute(tenant.update().where(tenant.c.id == row.id).values(**values))
    desk.note(**values)
    return {**shown(desk.tenant(row.name)), **faces.shown(desk, row)}


def show(desk: Desk, args: Args) -> Result:
    """`name`."""
    row = desk.tenant(args.text("name"))
    return {**shown(row), **faces.shown(desk, row)}


def list_all(desk: Desk, args: Args) -> Result:
    """Those that are; with `deleted` those that left, of which the proof is kept (GDPR-18)."""
    if args.flag("deleted"):
        gone = sa.select(tenant).where(tenant.c.deleted_at > 0).order_by(tenant.c.name)
        return [departures.shown(row) for row in desk.connection.execute(gone)]
    here = sa.select(tenant).where(tenant.c.deleted_at == 0).order_by(tenant.c.name)
    return [shown(row) for row in desk.connection.execute(here)]


def _values(args: Args) -> dict[str, object]:
    values: dict[str, object] = {}
    for name in _TEXTS:
        if args.has(name):
            values[name] = args.text(name, "")
    for name in _FLAGS:
        if args.has(name):
            values[name] = args.flag(name)
    if args.has("kind"):
        values["kind"] = args.choice("kind", KINDS)
    if args.has("language"):
        values["language"] = args.choice("language", LANGUAGES)
    if args.has("contact"):
        values["contact"] = args.address("contact", "")
    return values


def shown(row: TenantRow) -> dict[str, object]:
    """A tenant as `add`, `set` and `show` answer it."""
    names = (
        "name",
        "legal_name",
        "kind",
        "category",
        "sensitive_audience",
        "language",
        "contact",
        "postal_address",
        "refusal_letters",
    )
    rest = (
        "suspended",
        "suspended_reason",
        "allow_soft_optin",
        "allow_third_party",
        "allow_published",
        "allow_non_eea",
        "free_tier_reason",
    )
    values = row._asdict()
    return {name: values[name] for name in (*names, *rest, "german_proof", "id", "created_at")}
