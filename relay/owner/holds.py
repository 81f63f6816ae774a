"""What people decided about queued messages, for the audit. The queue itself is not the owner's."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from relay.mail.address import parse_path
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import tenant

DECISIONS = ("held.decide", "held.release", "held.refuse", "queue.release", "queue.delete")
_SAID = ("id", "tenant_id", "by", "choice", "way", "name")


def record_of(op: str, args: Mapping[str, object]) -> dict[str, object]:
    """Arguments of `hold.decided` for a decision that was carried out."""
    return {"op": op, **{name: args[name] for name in _SAID if args.get(name)}}


def decided(desk: Desk, args: Args) -> Result:
    """`op` and `id` of the message; optional `tenant_id`, `by` (default operator), `choice` or `way`, and `name`, an address.

    Of the address its hash is written down.
    """
    known = args.number("tenant_id", 0, most=1 << 53)
    here = sa.select(tenant.c.id).where(tenant.c.id == known, tenant.c.deleted_at == 0)
    if known and desk.connection.execute(here).first() is None:
        raise OwnerError("tenant.unknown", "there is no tenant of that number")
    desk.tenant_id = known
    name = args.text("name", "")
    if name and not isinstance(parse_path(name), str):
        desk.person(known, name)
    desk.note(
        of=args.choice("op", DECISIONS),
        id=args.text("id"),
        by=args.choice("by", ("operator", "sender", "tenant"), "operator"),
        choice=args.text("choice", "") or args.text("way", ""),
    )
    return {}
