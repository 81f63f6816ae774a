"""How the pages of a tenant look, and from where they are reached: logo, colours, web sites, and what goes on his own site."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from relay.directory import start_key
from relay.mail.face import MAX_LOGO_BYTES, MAX_ORIGINS, TEXT_COLOUR, check_colours, colour_of, origin_of, picture_kind
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import tenant_face as table
from relay.store.upsert import upsert

T = TypeVar("T")
R = TypeVar("R")
_COLUMNS = (table.c.colour, table.c.text_colour, table.c.origins, table.c.logo)
_LOGO_CHARS = MAX_LOGO_BYTES * 2  # room for one that is too large, so that its owner hears how large it may be


def change(desk: Desk, owner: TenantRow, args: Args) -> bool:
    """Takes `colour`, `text_colour`, `origins` and `logo` (base64) where they are given; "" ends each. Whether any was."""
    values: dict[str, object] = {}
    before = _row(desk, owner.id)
    for name in ("colour", "text_colour"):
        if args.has(name):
            given = args.text(name, "")
            values[name] = _checked(name, colour_of, given) if given else ""
    colour = str(values.get("colour", before["colour"]))
    if colour and not values.get("text_colour", before["text_colour"]):
        values["text_colour"] = TEXT_COLOUR
    elif not colour and values.get("text_colour"):
        raise OwnerError("face.colour", "a text colour stands on a colour: give that too")
    elif not colour:
        values |= {"text_colour": ""} if "colour" in values else {}
    if colour and ("colour" in values or "text_colour" in values):
        text_colour = str(values.get("text_colour", before["text_colour"]))
        _checked("colour", lambda one: check_colours(one, text_colour), colour)
    origins = args.texts("origins")
    if origins is not None:
        found = sorted({_checked("origin", origin_of, text) for text in origins if text.strip()})
        if len(found) > MAX_ORIGINS:
            raise OwnerError("face.origin", f"a tenant has at most {MAX_ORIGINS} web sites: leave some out")
        values["origins"] = " ".join(found)
    if args.has("logo"):
        values |= _picture(args.text("logo", "", max_chars=_LOGO_CHARS))
    if values:
        picture = {} if "picture" in values else {"picture": _bytes(desk, owner.id)}
        upsert(desk.connection, table, [{"tenant_id": owner.id, **before, **picture, **values}])
        desk.note(**{name: value for name, value in values.items() if name != "picture"})
    return bool(values)


def shown(desk: Desk, owner: TenantRow) -> dict[str, object]:
    """What was set, as `tenant show` tells it."""
    row = _row(desk, owner.id)
    return {**row, "origins": str(row["origins"]).split()}


def logo(desk: Desk, args: Args) -> Result:
    """`name`: the tenant's logo as `picture` (base64), "" for none."""
    owner = desk.tenant(args.text("name"))
    return {"logo": _row(desk, owner.id)["logo"], "picture": base64.b64encode(_bytes(desk, owner.id)).decode()}


def keys(desk: Desk, args: Args) -> Result:
    """`name`; optional `purpose`: what a form on the tenant's own site posts to, as a path, and how the list is called."""
    owner = desk.tenant(args.text("name"))
    if not args.has("purpose"):
        return {"path": f"/my/start/{start_key(desk.keyring, owner.id)}", "title": owner.legal_name or owner.name}
    found = desk.purpose(owner, args.text("purpose"))
    return {
        "path": f"/optin/{found.optin_key}",
        "title_nl": found.title_nl,
        "title_en": found.title_en,
        "name": found.name,
    }


def _row(desk: Desk, tenant_id: int) -> dict[str, object]:
    found = desk.connection.execute(sa.select(*_COLUMNS).where(table.c.tenant_id == tenant_id)).first()
    return found._asdict() if found is not None else {column.name: "" for column in _COLUMNS}


def _bytes(desk: Desk, tenant_id: int) -> bytes:
    return desk.connection.scalar(sa.select(table.c.picture).where(table.c.tenant_id == tenant_id)) or b""


def _picture(encoded: str) -> dict[str, object]:
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise OwnerError("face.logo", "logo must be base64") from None
    if not data:
        return {"logo": "", "picture": b""}
    kind = _checked("logo", picture_kind, data)
    return {"logo": f"{hashlib.sha256(data).hexdigest()[:32]}.{kind}", "picture": data}


def _checked(name: str, check: Callable[[T], R], given: T) -> R:
    try:
        return check(given)
    except ValueError as error:
        raise OwnerError(f"face.{name}", str(error)) from None
