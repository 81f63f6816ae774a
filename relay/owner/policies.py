"""Modes and settings of policies, per tenant and stream (design: off, observe, enforce)."""

from __future__ import annotations

import orjson
import sqlalchemy as sa

from relay.mail.envelope import Stream
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import policy_mode
from relay.store.upsert import upsert

POLICIES = (
    "identity", "classification", "suppression", "consent", "unsubscribe", "leaks", "recipients", "content", "throttle",
)  # fmt: skip
MODES = ("off", "observe", "enforce")


def mode(desk: Desk, args: Args) -> Result:
    """`tenant`, `policy`; `mode` (off, observe, enforce, or default: back to the configuration), `stream`, `settings`.

    `settings` is a table of the policy's own settings and replaces the one before.
    """
    owner = desk.tenant(args.text("tenant"))
    policy = args.choice("policy", POLICIES)
    stream = args.choice("stream", [member.value for member in Stream], "")
    chosen = args.choice("mode", (*MODES, "default"), "")
    settings = args.table("settings")
    if not chosen and settings is None:
        raise OwnerError("args.missing", "nothing to set: give a mode or settings")
    table = policy_mode.c
    where = sa.and_(table.tenant_id == owner.id, table.policy == policy, table.stream == stream)
    before = desk.connection.execute(sa.select(policy_mode).where(where)).first()
    kept_mode = before.mode if before is not None else ""
    kept_settings = before.settings if before is not None else "{}"
    row = {
        "tenant_id": owner.id,
        "policy": policy,
        "stream": stream,
        "mode": {"": kept_mode, "default": ""}.get(chosen, chosen),
        "settings": kept_settings if settings is None else orjson.dumps(settings).decode(),
        "changed_at": desk.now,
    }
    if not row["mode"] and row["settings"] == "{}":
        desk.connection.execute(policy_mode.delete().where(where))
    else:
        upsert(desk.connection, policy_mode, [row])
    desk.note(policy=policy, stream=stream, mode=row["mode"], settings=settings)
    return _shown(owner.name, row)


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`: what is set for it; everything else follows the configuration."""
    owner = desk.tenant(args.text("tenant"))
    query = sa.select(policy_mode).where(policy_mode.c.tenant_id == owner.id)
    rows = desk.connection.execute(query.order_by(policy_mode.c.policy, policy_mode.c.stream))
    return [_shown(owner.name, row._asdict()) for row in rows]


def _shown(owner: str, row: dict[str, object]) -> dict[str, object]:
    return {
        "tenant": owner,
        "policy": row["policy"],
        "stream": row["stream"] or None,
        "mode": row["mode"] or None,
        "settings": orjson.loads(str(row["settings"])),
    }
