"""What a key of the tenants' API may do: its scopes, and until when (GDPR-2: each program gets what it needs, no more)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from relay.mail.envelope import Tenant

ALL = "all"
"""Every scope, those of later versions too: what a key has that was made without naming any."""


class Scope(StrEnum):
    """One right. Each route of the API asks for exactly one."""

    CONSENTS_READ = "consents:read"
    CONSENTS_WRITE = "consents:write"
    PROOFS_READ = "proofs:read"
    SUPPRESSIONS_READ = "suppressions:read"
    SUPPRESSIONS_WRITE = "suppressions:write"
    MESSAGES_READ = "messages:read"
    MAILINGS_READ = "mailings:read"
    MAILINGS_WRITE = "mailings:write"
    HELD_READ = "held:read"
    HELD_WRITE = "held:write"
    OUTCOMES_WRITE = "outcomes:write"
    REPUTATION_READ = "reputation:read"
    LIMITS_READ = "limits:read"
    PURPOSES_READ = "purposes:read"
    DOMAINS_READ = "domains:read"
    REQUESTS_READ = "requests:read"
    REQUESTS_WRITE = "requests:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"


class ApiKey(NamedTuple):
    """A key in force, as the directory knows it."""

    tenant: Tenant
    name: str
    scopes: frozenset[str] = frozenset((ALL,))
    expires_at: float = 0.0  # 0: never

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ALL in self.scopes

    def has_expired(self, now: float) -> bool:
        return 0 < self.expires_at <= now
