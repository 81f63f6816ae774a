"""What several metrics share: labels and what they may hold (OPS-1), bounds of buckets in seconds and in numbers."""

from __future__ import annotations

import re

from relay.observe.registry import Label

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SLOW = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400, 432_000)
TINY = (0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.05)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

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
