"""Keys at rest: which there are, and a new one (UNSUB-20, GDPR-19). The older ones go on opening and finding."""

from __future__ import annotations

from relay.consent.record import format_time
from relay.keyring import KeyringError, Kind
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError

ROTATED = (Kind.QUEUE, Kind.HASH, Kind.TOKEN)
# Until a new key is used: by then every process has taken it in, so that nobody meets what he cannot read.
IN_FORCE_AFTER_SECONDS = 1.0


def list_all(desk: Desk, args: Args) -> Result:
    """Every key by kind and number, never its secret. `state`: current, live (opens and is looked up), or coming."""
    return [
        {
            "kind": key.kind.value,
            "number": key.id,
            "state": "current" if is_current else "coming" if key.created_at > desk.now else "live",
            "created_at": format_time(key.created_at) or None,
        }
        for key, is_current in desk.keyring.overview()
    ]


def rotate(desk: Desk, args: Args) -> Result:
    """`kind`: queue, hash or token. A new key, current in a second; the older ones stay live."""
    name = args.text("kind")
    if name not in ROTATED:
        raise OwnerError("args.choice", f"kind must be one of {', '.join(ROTATED)}: the others are never rotated")
    from_at = desk.now + IN_FORCE_AFTER_SECONDS
    try:
        number = desk.keyring.rotate(Kind(name), now=desk.now, from_at=from_at)
    except (OSError, KeyringError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OwnerError("storage", f"the keyring cannot be written: {why}; the older key stays current") from error
    desk.note(kind=name, number=number)
    older = sorted(key.id for key, _ in desk.keyring.overview() if key.kind == name and key.id != number)
    return {"kind": name, "number": number, "in_force_at": format_time(from_at), "older": older}
