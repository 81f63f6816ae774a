"""`SharedCounters` of several gateways that share a Redis, and what each does while that does not answer.

Theory of operation. While Redis answers, it alone counts. The first question that it does not answer as it should, in the
time that it has, makes this process degraded: that question and all that come are answered by the counters of the node, which
its workers share, against a share of each limit. So no mail waits for a Redis that is away, none is lost or refused for it, and
nodes that know nothing of each other let through at most `share` times their number more than the limit. What the node has
counted stays counted, so a Redis that comes and goes does not give the share again each time.

A degraded process asks again by itself, with a charge of nothing where the failure was, and goes back when that is answered.
What was counted meanwhile stays with the node; Redis does not learn of it. A key that somebody else has damaged concerns what
it counts, and only that is answered by the node.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from relay.counters.contract import (
    DAMAGED_KEY,
    DAY,
    HABITS,
    Charge,
    Counters,
    CountersUnavailable,
    Limit,
    NodeCounters,
)
from relay.counters.one_node import OneNode
from relay.counters.windows import Windows
from relay.observe import events, metrics
from relay.observe.log import log
from relay.policy.facts import Allowance
from relay.settings.storage import Storage

if TYPE_CHECKING:
    from relay.counters.remote import RedisCounters
    from relay.counters.wire import Wire

ASK_AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits before Redis is asked again; the last one repeats."""
LOOK_SECONDS = 2.0
MAX_SEEN = 20_000
_SHARED = "shared"  # the receipt of a charge that Redis knows
STEADY_SECONDS = 10.0
"""Who was back for so long has recovered; before that the waits go on where they were."""
DAMAGE_TOLD_SECONDS = 60.0
"""How often the log says that a key is damaged, which every mail of a tenant may meet."""


class ManyNodes:
    """`relay.counters.contract.SharedCounters` over Redis. Somebody must run `watch` for as long as it is used."""

    def __init__(self, remote: RedisCounters, here: Counters, share: float) -> None:
        self._remote = remote
        self._here = here
        self.windows: Windows = remote.windows
        self._share = share
        # Queue ids are unique on a machine; with this, among all gateways.
        self._process = secrets.token_urlsafe(9)
        self._is_lost = asyncio.Event()
        self._failed_at: Sequence[str | Limit] = ()
        self._why = ""
        self._seen: dict[str, tuple[int, float]] = {}  # what all nodes have counted, and when they said so
        self._next = 0  # of ASK_AGAIN_SECONDS
        self._giving: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected
        self._steady_at = 0.0  # on the clock of the loop
        self._damage_told_at = float("-inf")
        metrics.LIMITS_DEGRADED.set(0.0)

    @property
    def is_degraded(self) -> bool:
        return self._is_lost.is_set()

    @property
    def note(self) -> str:
        """What an operator should know; "" while Redis counts."""
        if not self._is_lost.is_set():
            return ""
        return f"Redis does not answer ({self._why}), so this node keeps to {self._share:g} of each limit"

    async def look(self) -> None:
        """Find out whether Redis charges, as a session would."""
        try:
            await self._remote.probe("probe")
        except CountersUnavailable as error:
            self._degrade(error, ["probe"])

    async def close(self) -> None:
        await self._remote.close()

    async def watch(self) -> None:
        """Without end: look whether Redis is there, also while no mail comes, and when it is lost, ask until it is back."""
        await self.look()
        while True:
            while not self._is_lost.is_set():
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._is_lost.wait()
                except TimeoutError:
                    await self.look()
            while not await self._is_back():
                pass
            self._steady_at = asyncio.get_running_loop().time() + STEADY_SECONDS
            self._is_lost.clear()
            metrics.LIMITS_DEGRADED.set(0.0)
            log.info(events.LIMITS_RECOVERED)

    async def _is_back(self) -> bool:
        await asyncio.sleep(ASK_AGAIN_SECONDS[self._next])
        self._next = min(self._next + 1, len(ASK_AGAIN_SECONDS) - 1)
        try:
            await asyncio.gather(*(self._remote.probe(key) for key in self._failed_at))
        except CountersUnavailable as error:
            self._why = error.kind
            return error.kind == DAMAGED_KEY
        return True

    def _degrade(self, error: CountersUnavailable, at: Sequence[str | Limit]) -> None:
        """`at`: what was asked; in a cluster another part may be well."""
        if error.kind == DAMAGED_KEY:
            self._tell_damage(at)
            return
        if self._is_lost.is_set():
            return  # another question of the same batch
        self._failed_at, self._why = at, error.kind
        loop = asyncio.get_running_loop()
        # Who comes back only to be lost again is asked less and less often.
        is_flapping = loop.time() < self._steady_at
        self._next = self._next if is_flapping else 0
        self._is_lost.set()
        metrics.LIMITS_DEGRADED.set(1.0)
        metrics.LIMITS_DEGRADATIONS.inc()
        log.error(events.LIMITS_DEGRADED, kind=error.kind, share=self._share)

    def _tell_damage(self, at: Sequence[str | Limit]) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._damage_told_at >= DAMAGE_TOLD_SECONDS:
            self._damage_told_at = now
            tenant = next((key.tenant for key in at if isinstance(key, Limit) and key.tenant), 0)
            log.error(events.LIMITS_DAMAGED, tenant=tenant)

    # -- limits ---------------------------------------------------------------------------------------------------

    async def take(
        self, charges: Sequence[Charge], now: float, *, once: int, park: bool, max_parked: int = 0
    ) -> Allowance:
        if not charges:
            return Allowance(True)
        if not self._is_lost.is_set():
            name = f"{self._process}.{once}"
            begun = asyncio.get_running_loop().time()
            try:
                allowance = await self._remote.take(charges, now, once=name, park=park, max_parked=max_parked)
            except CountersUnavailable as error:
                self._degrade(error, [limit for limit, _ in charges])
            else:
                metrics.LIMITS_SECONDS.observe(asyncio.get_running_loop().time() - begun)
                return allowance._replace(receipt=_SHARED)
        return self._by_share(self._here.take, charges, now, park, max_parked)

    def give_back(self, charges: Sequence[Charge], now: float, allowance: Allowance, *, once: int) -> None:
        if allowance.receipt is not _SHARED:
            shares = [(share_of(limit, self._share), cost) for limit, cost in charges]
            self._here.give_back(shares, now, allowance)
        elif not self._is_lost.is_set():
            task = asyncio.get_running_loop().create_task(self._give_back(charges, f"{self._process}.{once}"))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)

    async def _give_back(self, charges: Sequence[Charge], once: str) -> None:
        try:
            await self._remote.give_back(charges, once)
        except CountersUnavailable as error:
            self._degrade(error, [limit for limit, _ in charges])

    async def peek(self, charges: Sequence[Charge], now: float, *, park: bool, max_parked: int = 0) -> Allowance:
        """What `take` would answer now, without charging."""
        if not self._is_lost.is_set():
            try:
                return await self._remote.peek(charges, now, park=park, max_parked=max_parked)
            except CountersUnavailable as error:
                self._degrade(error, [limit for limit, _ in charges])
        return self._by_share(self._here.peek, charges, now, park, max_parked)

    def _by_share(
        self, ask: Callable[..., Allowance], charges: Sequence[Charge], now: float, park: bool, max_parked: int
    ) -> Allowance:
        """What this node answers alone. What is larger than its share of a day and not than the limit would be parked for days,
        for an outage of minutes: it is put off.
        """
        shares = [(share_of(limit, self._share), cost) for limit, cost in charges]
        for (limit, cost), (share, _) in zip(charges, shares, strict=True):
            is_plain = not limit.since and not limit.people  # of people only strangers are counted
            if limit.period_seconds >= DAY and is_plain and share.amount < cost <= limit.amount:
                return Allowance(False, limit=limit.name, scope=limit.scope, allowed=share.amount, is_share=True)
        told = ask(shares, now, park=park, max_parked=_part(max_parked, self._share))
        if told.granted:
            return told
        for limit, cost in charges:
            if (limit.name, limit.scope) == (told.limit, told.scope) and cost > limit.amount:
                return told._replace(allowed=limit.amount)  # the whole limit has no room for it either
        return told._replace(is_share=True)

    # -- signs: never waited for, since they go by hundreds --------------------------------------------------------

    def unseen(self, keys: Sequence[str], window_seconds: float, now: float) -> None:
        self._here.hits(keys, window_seconds, now, -1)
        if not self._is_lost.is_set():
            said = self._remote.hit_soon(keys, window_seconds, now, -1)
            said.add_done_callback(partial(self._heard, keys, now))

    def seen(self, keys: Sequence[str], window_seconds: float, now: float) -> list[int]:
        here = self._here.hits(keys, window_seconds, now)
        if self._is_lost.is_set():
            return here
        said = self._remote.hit_soon(keys, window_seconds, now)
        said.add_done_callback(partial(self._heard, keys, now))
        found = []
        for key, times in zip(keys, here, strict=True):
            known, at = self._seen.get(key, (0, 0.0))
            # What was said a step ago or more counts what is over by now.
            is_fresh = known and 0 <= now - at < window_seconds / 24
            found.append(max(times, known + 1) if is_fresh else times)
        return found

    def _heard(self, keys: Sequence[str], at: float, said: asyncio.Future[Any]) -> None:
        if said.cancelled():
            return
        try:
            times = self._remote.hits_of(said.result(), len(keys))
        except CountersUnavailable as error:
            self._degrade(error, keys)
            return
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.update((key, (one, at)) for key, one in zip(keys, times, strict=True))

    # -- logins: in an outage each node counts for itself ---------------------------------------------------------

    async def hit(self, keys: Sequence[str], window_seconds: float, now: float) -> list[int]:
        if not self._is_lost.is_set():
            try:
                return list(await asyncio.gather(*(self._remote.hit(key, window_seconds, now) for key in keys)))
            except CountersUnavailable as error:
                self._degrade(error, keys)
        return [self._here.hit(key, window_seconds, now) for key in keys]

    async def block(self, key: str, until: float, now: float) -> None:
        self._here.block(key, until, now)  # so that it holds here whatever becomes of Redis
        if not self._is_lost.is_set():
            try:
                await self._remote.block(key, until, now)
            except CountersUnavailable as error:
                self._degrade(error, [key])

    async def blocked_until(self, keys: Sequence[str], now: float) -> float:
        if not self._is_lost.is_set():
            try:
                ends = await asyncio.gather(*(self._remote.blocked_until(key, now) for key in keys))
            except CountersUnavailable as error:
                self._degrade(error, keys)
            else:
                for key, end in zip(keys, ends, strict=True):
                    if end > now:
                        self._here.block(key, end, now)
                return max(ends, default=0.0)
        return max((self._here.blocked_until(key, now) for key in keys), default=0.0)

    async def reset(self, *keys: str | Limit) -> None:
        self._here.reset(*keys)
        if not self._is_lost.is_set():
            try:
                await self._remote.reset(*keys)
            except CountersUnavailable as error:
                self._degrade(error, keys)

    # -- for people to look at -------------------------------------------------------------------------------------

    async def used(self, limit: Limit, now: float) -> int:
        if not self._is_lost.is_set():
            try:
                return await self._remote.used(limit, now)
            except CountersUnavailable as error:
                self._degrade(error, [limit])
        return self._here.used(limit, now)

    async def count(self, key: str, window_seconds: float, now: float) -> int:
        if not self._is_lost.is_set():
            try:
                return await self._remote.count(key, window_seconds, now)
            except CountersUnavailable as error:
                self._degrade(error, [key])
        return self._here.count(key, window_seconds, now)

    async def room(self, limit: Limit, now: float) -> float:
        return (await self.peek([(limit, 1)], now, park=False)).due

    async def waiting(self, limit: Limit, now: float) -> int:
        return (await self.peek([(limit, 0)], now, park=True)).backlog


def wire_of(storage: Storage) -> Wire:
    """The way to the Redis of `storage`, which must name one."""
    # redis-py is 10 MB and 100 ms that a node without Redis does not need.
    from relay.counters.wire import Login, Wire, connector

    url = storage.redis
    assert url is not None
    password = ""
    if storage.counters_password_file is not None:
        password = storage.counters_password_file.read_text("utf-8").partition("\n")[0].strip()
    seconds = storage.counters_timeout_seconds
    return Wire(connector(url, Login(seconds, password, storage.counters_ca_file)), seconds)


def open_shared(
    storage: Storage, here: NodeCounters, kind: type[ManyNodes] = ManyNodes, *, kept_seconds: float = 0.0
) -> OneNode | ManyNodes:
    """The counters that `storage` asks for, of `kind` where nodes share them. Connects when they are first asked.

    `kept_seconds`: for how long a charge may be given back.
    """
    if storage.redis is None:
        return OneNode(here)
    from relay.counters.remote import RedisCounters
    from relay.counters.slots import SlottedCounters

    wire = wire_of(storage)
    remote = (SlottedCounters if storage.redis.kind == "cluster" else RedisCounters)(wire, kept_seconds)
    return kind(remote, here, storage.counters_degraded_share)


def share_of(limit: Limit, share: float) -> Limit:
    """The limit that one node keeps to alone."""
    return (
        _share_of(limit._replace(people=b""), share)._replace(people=limit.people)
        if limit.people
        else _share_of(limit, share)
    )


@lru_cache(maxsize=8192)
def _share_of(limit: Limit, share: float) -> Limit:
    """The limit that one node keeps to alone: that part of it, and at least 1, since a small limit would else stop all mail."""
    if limit.name in HABITS:
        return limit
    amount = _part(limit.amount, share)
    if limit.since > 0:  # its last day is the same one
        return limit._replace(amount=amount, burst=-(-limit.burst * amount // limit.amount))
    return limit._replace(amount=amount, burst=_part(limit.burst, share))


def _part(amount: int, share: float) -> int:
    return max(1, int(amount * share)) if amount > 0 else amount
