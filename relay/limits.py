"""Which limits one message is charged against (THROTTLE-1, THROTTLE-2): from settings to charges. Pure.

The numbers come from the settings of the throttle policy, which a tenant or a stream may override.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.counters.contract import DAY, MINUTE, Charge, Limit
from relay.mail.envelope import Submission
from relay.mail.sender import from_domain


class Scope(NamedTuple):
    """One thing that is counted: `scope` as metrics and replies call it, and the key it is counted under."""

    scope: str
    key: str


def charges(mail: Submission, settings: object) -> list[Charge]:
    """Every limit of the message with its cost: one message, and as many recipients as are left."""
    account, stream = mail.account, mail.stream.value
    tenant = str(account.tenant.id)
    domain = from_domain(mail.message) if mail.message is not None else ""
    found: list[Charge] = []
    count = max(1, len(mail.recipients))

    def add(scope: str, prefix: str, key: str) -> None:
        per_minute = getattr(settings, f"{prefix}_messages_per_minute", 0)
        if per_minute and key:
            found.append((Limit("messages_per_minute", scope, key, per_minute, MINUTE, per_minute), 1))
        per_day = getattr(settings, f"{prefix}_recipients_per_day", 0)
        if per_day and key:
            found.append((Limit("recipients_per_day", scope, key, per_day, DAY), count))

    add("credential", stream, f"c:{account.credential.name}")
    add("stream", "stream", f"s:{tenant}:{stream}")
    add("tenant", "tenant", f"t:{tenant}")
    add("domain", "domain", f"d:{domain}" if domain else "")
    add("client", "client", f"i:{mail.session.client_ip}" if mail.session.client_ip else "")
    return found


def parks(mail: Submission, settings: object) -> tuple[bool, int]:
    """Whether mail of this stream waits for its turn when it is over, and how many recipients may wait."""
    over = settings.over  # type: ignore[attr-defined]  # the throttle policy's settings; relay does not import policies
    return over.of(mail.stream) == "park", settings.max_parked_recipients  # type: ignore[attr-defined]  # as above
