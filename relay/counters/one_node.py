"""`SharedCounters` of a gateway that shares them with nobody: the node's own, answered at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay.counters.contract import Charge, Limit, NodeCounters
from relay.policy.facts import Allowance


class OneNode:
    """`relay.counters.contract.SharedCounters` over the counters of this node. No answer is ever lost on the way, so an id
    is charged once without being remembered.
    """

    def __init__(self, counters: NodeCounters) -> None:
        self._counters = counters
        self.windows = counters.windows

    note = ""

    async def watch(self) -> None:
        """Without end: there is nobody to be lost."""
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """The counters are somebody else's."""

    def take(self, charges: Sequence[Charge], now: float, *, once: int, park: bool, max_parked: int = 0) -> Allowance:
        return self._counters.take(charges, now, park=park, max_parked=max_parked)

    def give_back(self, charges: Sequence[Charge], now: float, allowance: Allowance, *, once: int) -> None:
        self._counters.give_back(charges, now, allowance)

    def unseen(self, keys: Sequence[str], window_seconds: float, now: float) -> None:
        self._counters.hits(keys, window_seconds, now, -1)

    def seen(self, keys: Sequence[str], window_seconds: float, now: float) -> list[int]:
        return self._counters.hits(keys, window_seconds, now)

    async def hit(self, keys: Sequence[str], window_seconds: float, now: float) -> list[int]:
        return [self._counters.hit(key, window_seconds, now) for key in keys]

    async def block(self, key: str, until: float, now: float) -> None:
        self._counters.block(key, until, now)

    async def blocked_until(self, keys: Sequence[str], now: float) -> float:
        return max((self._counters.blocked_until(key, now) for key in keys), default=0.0)

    async def reset(self, *keys: str | Limit) -> None:
        self._counters.reset(*keys)

    async def used(self, limit: Limit, now: float) -> int:
        return self._counters.used(limit, now)

    async def count(self, key: str, window_seconds: float, now: float) -> int:
        return self._counters.count(key, window_seconds, now)

    async def room(self, limit: Limit, now: float) -> float:
        return self._counters.peek([(limit, 1)], now).due

    async def waiting(self, limit: Limit, now: float) -> int:
        return self._counters.peek([(limit, 0)], now, park=True).backlog
