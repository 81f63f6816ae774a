"""How far an import of a file came: kept with the rows themselves, so that a restored database never claims rows it has not."""

from __future__ import annotations

import hashlib

import orjson
import sqlalchemy as sa

from relay import __version__
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.store.schema import import_place
from relay.store.upsert import upsert

_MOST = 1 << 60
_SO_FAR = ("done_bytes", "done_lines", "imported", "unchanged", "refused")


def place(desk: Desk, args: Args) -> Result:
    """`tenant`, `file` (what tells it from others, and from itself after a change): how far the last import of it came.

    All zero where it was not begun, came to its end, or the tenant may record something else since: then what was refused
    may be taken now.
    """
    owner = desk.tenant(args.text("tenant"))
    mark = _mark(desk, owner, args.text("file"))
    row = desk.connection.execute(sa.select(import_place).where(import_place.c.tenant_id == owner.id)).first()
    if row is None or row.mark != mark:
        return dict.fromkeys(_SO_FAR, 0)
    return {name: getattr(row, name) for name in _SO_FAR}


def note(desk: Desk, owner: TenantRow, told: dict[str, object] | None, **added: int) -> None:
    """Keep `told` (`file`, how far it is read, and the counts before this chunk) with the rows of this chunk."""
    if told is None:
        return
    args = Args(told)
    row: dict[str, object] = {name: args.number(name, 0, most=_MOST) + added.get(name, 0) for name in _SO_FAR}
    row |= {"tenant_id": owner.id, "mark": _mark(desk, owner, args.text("file"))}
    args.done()
    upsert(desk.connection, import_place, [row])


def finish(desk: Desk, args: Args) -> Result:
    """`tenant`: its import came to the end of the file; to import that again is to read it again."""
    owner = desk.tenant(args.text("tenant"))
    desk.connection.execute(import_place.delete().where(import_place.c.tenant_id == owner.id))
    return {"tenant": owner.name}


def _mark(desk: Desk, owner: TenantRow, file: str) -> bytes:
    rules = desk.rules(owner)._asdict()
    return hashlib.sha256(orjson.dumps([file, rules, __version__], option=orjson.OPT_SORT_KEYS)).digest()
