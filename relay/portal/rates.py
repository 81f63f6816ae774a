"""How often a key, and a tenant with all of its keys, may ask: in any minute no more than is said.

Counted in the web process, without a question to anybody, so each gateway counts for itself and begins anew at a start.
The header fields are those of draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.mail.apikey import ApiKey

WINDOW_SECONDS = 60.0
STATE = "rate_headers"


class Rate(NamedTuple):
    """What became of one request: `wait` seconds where it is too many, else 0; the headers to answer with."""

    wait: int
    headers: dict[str, str]


class Rates:
    """The requests of the last minute, by key and by tenant. Bounded by the keys there are and by the limits."""

    def __init__(self, per_key: int, per_tenant: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limits = {"key": per_key, "tenant": per_tenant}
        self._now = now
        self._seen: dict[tuple[int, str], deque[float]] = {}
        policies = (f'"{name}";q={limit};w={WINDOW_SECONDS:.0f}' for name, limit in self._limits.items())
        self._policy = ", ".join(policies)

    def ask(self, key: ApiKey) -> Rate:
        """Counts a request where both have room, else neither."""
        now = self._now()
        counts = {"key": self._recent((key.tenant.id, key.name), now), "tenant": self._recent((key.tenant.id, ""), now)}
        full = [self._frees(counts[name], now) for name, limit in self._limits.items() if len(counts[name]) >= limit]
        if not full:
            for count in counts.values():
                count.append(now)
        left = (
            f'"{name}";r={max(0, self._limits[name] - len(count))};t={self._frees(count, now)}'
            for name, count in counts.items()
        )
        return Rate(max(full, default=0), {"RateLimit-Policy": self._policy, "RateLimit": ", ".join(left)})

    def _recent(self, name: tuple[int, str], now: float) -> deque[float]:
        times = self._seen.setdefault(name, deque())
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        return times

    @staticmethod
    def _frees(times: deque[float], now: float) -> int:
        """Whole seconds until there is room for one more than now, at least 1."""
        return max(1, math.ceil(times[0] + WINDOW_SECONDS - now)) if times else 0


class RateHeaders:
    """ASGI middleware: every answer to a known key says how much is left, errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in scope.get("state", {}).get(STATE, {}).items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, mark)
