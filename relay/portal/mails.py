"""Which mails went to one address, as the delivery log tells it to the person himself (GDPR-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.mail.address import narrow
from relay.portal.gateway import Mailed

_ANSWERED = {"accepted": "waiting", "parked": "waiting", "held": "held", "refused": "refused", "deferred": "refused"}
_ENDED = {
    "delivered": "delivered",
    "failed": "failed",
    "expired": "failed",
    "deferred": "waiting",
    "deleted": "refused",
}


def mailed_to(
    queue_id: str, tenant: str, address: str, events: Sequence[tuple[float, str, Mapping[str, Any]]]
) -> Mailed | None:
    """A message of `tenant` and what became of the copy for `address`; None where it had none. `events` are oldest first."""
    first = next(((at, word, data) for at, word, data in events if word in _ANSWERED), None)
    if first is None or first[2].get("tenant") != tenant:
        return None
    at, word, data = first
    key = narrow(address)
    dropped = any(narrow(row[0]) == key for row in data.get("dropped", ()))
    if not dropped and key not in {narrow(one) for one in data["rcpt"]}:
        return None  # he is its sender
    outcome = "dropped" if dropped else _ANSWERED[word]
    for _, _, said in events:
        rows = [row for row in said.get("outcomes", ()) if narrow(row[0]) == key]
        outcome = _ENDED.get(rows[-1][1], outcome) if rows else outcome
    return Mailed(queue_id, at, str(data.get("from", "")), str(data.get("class") or ""), outcome)
