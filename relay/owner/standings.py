"""Who was paused sends again, because a person says so (REP-1, REP-2, THROTTLE-8)."""

from __future__ import annotations

from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.limits import place


def release(desk: Desk, args: Args) -> Result:
    """`tenant`; one of `credential`, `stream`, `domain`: writes down who lets whom send again. The windows lie elsewhere."""
    owner = desk.tenant(args.text("tenant"))
    scope, subject = place(desk, args, owner)
    desk.note(scope=scope, subject=subject)
    return {"tenant": owner.name, "scope": scope, "subject": subject or owner.name}
