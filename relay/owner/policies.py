"""Modes and settings of policies, per tenant and stream (design: off, observe, enforce)."""

from __future__ import annotations

import orjson
import sqlalchemy as sa

from relay.mail.envelope import Stream
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.policy.catalogue import MODES
from relay.store.schema import policy_mode
from relay.store.upsert import upsert

DEFAULT = "default"


def mode(desk: Desk, args: Args) -> Result:
    """`tenant`, `policy`; `mode` (off, observe, enforce, or default: back to the configuration), `stream`, `settings`.

    `settings` is a table of the policy's own settings and replaces the one before. What is stored can be used: a table
    that cannot be read would refuse or delay every mail of the tenant.
    """
    owner = desk.tenant(args.text("tenant"))
    stream = args.choice("stream", [member.value for member in Stream], "")
    chosen = args.choice("mode", (*MODES, DEFAULT), "")
    settings = args.table("settings")
    policy = _policy(desk, args, settings, clears=chosen == DEFAULT and not settings)
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
        "mode": {"": kept_mode, DEFAULT: ""}.get(chosen, chosen),
        "settings": kept_settings if settings is None else orjson.dumps(settings).decode(),
        "changed_at": desk.now,
    }
    if not row["mode"] and row["settings"] == "{}":
        desk.connection.execute(policy_mode.delete().where(where))
    else:
        upsert(desk.connection, policy_mode, [row])
    desk.note(policy=policy, stream=stream, mode=row["mode"], settings=settings)
    return _shown(owner.name, row)


def _policy(desk: Desk, args: Args, settings: dict[str, object] | None, *, clears: bool) -> str:
    """The policy's name. Raises OwnerError where there is none of it, or where it cannot use the settings."""
    if clears:
        return args.name("policy")  # one that has left the order since must not keep what was set for it
    catalogue = desk.catalogue()
    policy = args.choice("policy", [known.name for known in catalogue.policies])
    problems = catalogue.check(policy, settings or {})
    if problems:
        raise OwnerError("policy.settings", "; ".join(map(str, problems)))
    return policy


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
