"""Imports that look like a bought list wait for the operator's word (CONSENT-7).

Nothing of their rows is kept here: what waits is the file, known by its digest. Who has looked at seller and contract lets it
in and imports it again; only the very same bytes are then taken, row by row, with every check but the one on shared times.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.consent.record import format_time
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import held_import
from relay.store.upsert import upsert

WAITING, RELEASED, REFUSED = "waiting", "released", "refused"
REF_CHARS = 12
_MOST = 1 << 60
_HEX = frozenset("0123456789abcdef")


def hold(desk: Desk, args: Args) -> Result:
    """`tenant`, `digest` of the file (SHA-256 in hex), `rows`, `shared`, `shared_at`: it looks bought. What was said of it stays.

    Answers {"import", "state"}; state "off" where the tenant may not record bought addresses at all, so that each row is refused.
    """
    owner = desk.tenant(args.text("tenant"))
    digest = _digest(args.text("digest"))
    told = {name: args.number(name, 0, most=_MOST) for name in ("rows", "shared")}
    shared_at = args.time("shared_at", 0.0)
    if not owner.allow_third_party:
        return {"import": digest[:REF_CHARS], "state": "off"}
    known = _row(desk, owner, digest)
    state = known.state if known is not None else WAITING
    if known is None:
        asked = {"asked_by": desk.actor, "asked_at": desk.now, "shared_at": shared_at}
        row = {"tenant_id": owner.id, "digest": bytes.fromhex(digest), "state": WAITING, **told, **asked}
        upsert(desk.connection, held_import, [row])
    desk.note(held_import=digest[:REF_CHARS], state=state, **told)
    return {"import": digest[:REF_CHARS], "state": state}


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`: imports that looked bought, the newest first, with what was said of each."""
    owner = desk.tenant(args.text("tenant"))
    query = sa.select(held_import).where(held_import.c.tenant_id == owner.id)
    rows = desk.connection.execute(query.order_by(held_import.c.asked_at.desc(), held_import.c.digest))
    return [_shown(owner, row) for row in rows]


def decide(desk: Desk, args: Args) -> Result:
    """`tenant`, `import` (the beginning of its digest), `state` (released, refused), `reason`: what was checked, or why not.

    What is in already stays: refused later, it is withdrawn person by person.
    """
    owner = desk.tenant(args.text("tenant"))
    state = args.choice("state", (RELEASED, REFUSED))
    reason = args.text("reason", max_chars=1_000)
    row = _row(desk, owner, args.text("import"))
    if row is None:
        raise OwnerError("import.unknown", "no such import is held: see `zegel consent held list TENANT`")
    where = sa.and_(held_import.c.tenant_id == owner.id, held_import.c.digest == row.digest)
    decided = {"state": state, "reason": reason, "decided_by": desk.actor, "decided_at": desk.now}
    desk.connection.execute(held_import.update().where(where).values(**decided))
    desk.note(held_import=row.digest.hex()[:REF_CHARS], state=state, rows=row.rows, reason=reason)
    return _shown(owner, _row(desk, owner, row.digest.hex()))


def is_released(desk: Desk, owner: TenantRow, digest: str) -> bool:
    """True for an import that was let in. Raises OwnerError for any other, so that no row of it gets in by mistake."""
    row = _row(desk, owner, digest)
    if row is None or row.state != RELEASED:
        raise OwnerError("import.held", "this import waits for the operator: see `zegel consent held list TENANT`")
    desk.note(held_import=row.digest.hex()[:REF_CHARS])
    return True


def _row(desk: Desk, owner: TenantRow, digest: str) -> Any:
    """The held import of a digest or of its beginning; None where there is none, or more than one."""
    if len(digest) < REF_CHARS or not set(digest) <= _HEX or len(digest) > 64:
        return None
    low, high = bytes.fromhex(digest.ljust(64, "0")), bytes.fromhex(digest.ljust(64, "f"))
    column = held_import.c.digest
    query = sa.select(held_import).where(held_import.c.tenant_id == owner.id, column >= low, column <= high)
    found = desk.connection.execute(query.limit(2)).all()
    return found[0] if len(found) == 1 else None


def _digest(text: str) -> str:
    if len(text) != 64 or not set(text) <= _HEX:
        raise OwnerError("args.wrong", "digest is not a SHA-256 in hex")
    return text


def _shown(owner: TenantRow, row: Any) -> dict[str, Any]:
    return {
        "tenant": owner.name,
        "import": row.digest.hex()[:REF_CHARS],
        "state": row.state,
        "rows": row.rows,
        "shared": row.shared,
        "shared_at": format_time(row.shared_at),
        "asked_by": row.asked_by,
        "asked_at": format_time(row.asked_at),
        "decided_by": row.decided_by or None,
        "decided_at": format_time(row.decided_at) or None,
        "reason": row.reason or None,
        "sha256": row.digest.hex(),
    }
