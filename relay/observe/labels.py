"""Labels that several metrics have, and what they may hold (OPS-1)."""

from __future__ import annotations

import re

from relay.observe.registry import Label

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


STREAM = Label("stream", ("marketing", "transactional", "personal"))
VERDICT = Label("verdict", ("accept", "hold", "defer", "reject"))
RULE = Label("rule", re.compile(r"[A-Z]{2,12}-[0-9]{1,3}"))
POLICY = Label(
    "policy",
    (
        "identity",
        "classification",
        "suppression",
        "consent",
        "unsubscribe",
        "leaks",
        "recipients",
        "content",
        "reputation",
        "throttle",
    ),
)
# Groups of destinations (THROTTLE-5); with a smarthost there is one.
PROVIDER = Label("provider", ("smarthost", "capture"))
OUTCOME = Label("outcome", ("delivered", "deferred", "failed"))
TENANT = Label("tenant", NAME)
# The enhanced status's second number, in words (RFC 3463 section 2); "security" is 5.7.x, a block by policy (FB-3).
SUBJECT = Label("subject", ("address", "mailbox", "system", "network", "protocol", "content", "security", "other"))
