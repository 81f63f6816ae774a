"""Counters that are awaited, driven as if they answered at once, so that one suite asks both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from relay.counters.contract import Charge, Limit
from relay.counters.remote import RedisCounters
from relay.counters.wire import Login, Wire, connector
from relay.policy.facts import Allowance
from relay.settings.redis_url import RedisUrl, parse_redis_url

ANSWER_SECONDS = 10.0


def wire_to(url: str, seconds: float = ANSWER_SECONDS) -> Wire:
    parsed = parse_redis_url(url)
    assert isinstance(parsed, RedisUrl), parsed
    return Wire(connector(parsed, Login(seconds)), seconds)


class Driven:
    """`relay.counters.contract.Counters` over a Redis, each call on a loop of its own until it is answered."""

    def __init__(self, url: str, kind: Callable[[Wire], RedisCounters] = RedisCounters) -> None:
        self._runner = asyncio.Runner()
        self._wire = self._runner.run(self._open(url))
        self.remote = kind(self._wire)

    async def _open(self, url: str) -> Wire:
        return wire_to(url)

    def close(self) -> None:
        self._run(self._wire.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def ask(self, *command: str | int) -> Any:
        """What Redis answers to a command."""

        async def asked() -> Any:
            return await self._wire.ask(*command)

        return self._run(asked())

    def take(self, charges: Sequence[Charge], now: float, *, park: bool, max_parked: int = 0) -> Allowance:
        self._number = getattr(self, "_number", 0) + 1
        once = str(self._number)
        told: Allowance = self._run(self.remote.take(charges, now, once=once, park=park, max_parked=max_parked))
        return told._replace(receipt=None)

    def give_back(self, charges: Sequence[Charge], now: float, allowance: Allowance) -> None:
        self._run(self.remote.give_back(charges, str(self._number)))

    def peek(self, charges: Sequence[Charge], now: float, *, park: bool = False, max_parked: int = 0) -> Allowance:
        return self._run(self.remote.peek(charges, now, park=park, max_parked=max_parked))  # type: ignore[no-any-return]

    def used(self, limit: Limit, now: float) -> int:
        return self._run(self.remote.used(limit, now))  # type: ignore[no-any-return]

    def hit(self, key: str, window_seconds: float, now: float, amount: int = 1) -> int:
        return self._run(self.remote.hit(key, window_seconds, now, amount))  # type: ignore[no-any-return]

    def hits(self, keys: Sequence[str], window_seconds: float, now: float, amount: int = 1) -> list[int]:
        return self._run(self.remote.hits(keys, window_seconds, now, amount))  # type: ignore[no-any-return]

    def count(self, key: str, window_seconds: float, now: float) -> int:
        return self._run(self.remote.count(key, window_seconds, now))  # type: ignore[no-any-return]

    def block(self, key: str, until: float, now: float) -> None:
        self._run(self.remote.block(key, until, now))

    def blocked_until(self, key: str, now: float) -> float:
        return self._run(self.remote.blocked_until(key, now))  # type: ignore[no-any-return]

    def reset(self, *keys: str | Limit) -> None:
        self._run(self.remote.reset(*keys))
