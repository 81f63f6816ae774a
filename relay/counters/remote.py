"""Counters of all gateways in one Redis: the arithmetic runs there, in Lua, so a charge is one step that nobody divides.

Every limit of a message goes into one script. In a cluster a script reaches one slot only: there the limits of one tenant lie
in one, and a limit that counts over tenants (an address, a From domain) in one of its own; see `relay.counters.slots`.

Keys are digests: Redis holds no address, domain or name. A key outlives what it counts by SLACK_SECONDS, so that a node whose
clock is behind still finds it.
"""

from __future__ import annotations

import asyncio
import struct
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from relay.clock import SystemClock
from relay.counters.blocks import CLOCKS_APART_SECONDS
from relay.counters.cell_rate import (
    CELLS,
    FUTURE,
    HOUR_SPELLS,
    NANOSECONDS,
    PAST,
    interval_ns,
    spell_of,
    step_of,
    tat_as,
    warm_up_day,
)
from relay.counters.contract import (
    BEHIND,
    CAMPAIGN,
    DAMAGED_KEY,
    DAY,
    HABITS,
    MINUTE,
    URGENT,
    WARM_UP_HORIZON_SECONDS,
    Charge,
    CountersUnavailable,
    Limit,
)
from relay.counters.remote_windows import SharedWindows
from relay.counters.table import digest_of
from relay.counters.wire import Script, Wire
from relay.policy.facts import Allowance

ANSWER_KEPT_SECONDS = 60
"""How long Redis knows that an id is charged, beyond what is given it: a repeat comes within the seconds that an answer may take,
and what is to be given back within those of two commits.
"""
SLACK_SECONDS = 600
_TAKE, _GIVE, _WINDOW, _BLOCK = (Script(f"{name}.lua") for name in ("take", "give", "window", "block"))
_UNTIL_DIGITS = 20
_FURTHEST_SECONDS = WARM_UP_HORIZON_SECONDS + ANSWER_KEPT_SECONDS + 600
"""No message is parked for longer; an answer may be repeated a moment later."""
WAITS_AT_ONCE, WAITS = 1, 2
_WAITING = {b"0": None, b"1": WAITS_AT_ONCE, b"2": WAITS}
_NOBODY = -1
"""The tenant of probes that are nobody's."""
_AN_AGE_SECONDS = 10 * 365 * DAY
_MOST_UNITS = 2**53
_SLACK_MS = SLACK_SECONDS * 1000.0


class RedisCounters:
    """`relay.counters.contract.Counters` whose methods are awaited. All raise CountersUnavailable where Redis does not answer
    as it should; what was asked may then have happened or not.
    """

    def __init__(self, wire: Wire, kept_seconds: float = 0.0) -> None:
        """`kept_seconds`: for how long at most somebody may give back what he was granted."""
        self._wire = wire
        self._kept_ms = (ANSWER_KEPT_SECONDS + kept_seconds) * 1000.0
        self.windows = SharedWindows(wire)

    async def close(self) -> None:
        await self._wire.close()

    async def take(
        self,
        charges: Sequence[Charge],
        now: float,
        *,
        once: str = "",
        park: bool,
        max_parked: int = 0,
        elsewhere: tuple[float, bool] = (0.0, False),
    ) -> Allowance:
        """As `Counters.take`. `once` names the charge: again with the same one, it answers the same and charges nothing.

        `elsewhere` is what others of the message's limits say: it leaves at that time or later, and whether it waits for them.
        `receipt` is WAITS where something makes it wait, WAITS_AT_ONCE where that is a limit of AT_ONCE.
        """
        return await self._take(True, charges, now, (once, park, max_parked, *elsewhere))

    async def peek(
        self, charges: Sequence[Charge], now: float, *, park: bool = False, max_parked: int = 0
    ) -> Allowance:
        told = await self._take(False, charges, now, ("", park, max_parked, 0.0, False))
        return told._replace(receipt=None)

    async def _take(
        self, charge: bool, charges: Sequence[Charge], now: float, how: tuple[str, bool, int, float, bool]
    ) -> Allowance:
        if not charges:
            return Allowance(True)
        once, park, max_parked, earliest, waits = how
        whole, rest = divmod(int(now * NANOSECONDS), NANOSECONDS)
        asked: list[float] = [charge, now, whole, rest, park, max_parked, earliest, self._kept_ms, _SLACK_MS, waits]
        keys: list[str | bytes] = [once_key(charges[0][0], once)]
        people: tuple[bytes, int] = (b"", 0)
        for place, (limit, cost) in enumerate(charges, 1):
            if limit.people:
                people, limit = (limit.people, place), limit._replace(people=b"")
            key, interval = _placed(limit)
            keys.append(key)
            since = limit.since if limit.name not in HABITS else -2.0 if limit.name == CAMPAIGN else -1.0
            asked += (limit.amount, limit.period_seconds, limit.burst, cost, interval, since, limit.behind)
        if people[1]:
            keys.append(known_key(charges[people[1] - 1][0]))
        told = await self._wire.run(_TAKE, keys, struct.pack(f"<{len(asked)}d", *asked), *people)
        return _allowance(told, charges, now, earliest)

    async def give(self, charges: Sequence[Charge], once: str) -> bool:
        """Undo `take` of the same charges under the same `once`, which was granted a moment ago; False where there was none."""
        keys = [once_key(charges[0][0], once), *(key_of(limit) for limit, _ in charges)]
        keys += [known_key(limit) for limit, _ in charges if limit.people]
        taken: list[int] = []
        for limit, cost in charges:
            is_rate = limit.period_seconds < DAY and limit.name not in HABITS
            taken += (cost, interval_ns(limit.amount, limit.period_seconds)) if is_rate else (0, 0)
        return bool(await self._wire.run(_GIVE, keys, *taken))

    async def give_back(self, charges: Sequence[Charge], once: str) -> None:
        """Undo `take` of the same charges under the same `once`, however it was divided over slots."""
        await self.give(charges, once)

    async def used(self, limit: Limit, now: float) -> int:
        if limit.name in HABITS:
            return await self._last_hour(key_of(limit), now)
        if limit.since > 0:
            return _cells(await self._wire.ask("HGETALL", key_of(limit))).get(warm_up_day(limit.since, now), 0)
        if limit.period_seconds >= DAY:
            return await self._sum(key_of(limit), limit.period_seconds, now)
        kept = await self._wire.ask("GET", key_of(limit))
        now_ns, interval = int(now * NANOSECONDS), interval_ns(max(limit.amount, 1), limit.period_seconds)
        tat = tat_as(*_rate(kept), now_ns, interval) if kept is not None else 0
        return max(0, -((now_ns - tat) // interval))

    async def hit(self, key: str, window_seconds: float, now: float, amount: int = 1) -> int:
        return self.hits_of(await self.hit_soon([key], window_seconds, now, amount), 1)[0]

    async def hits(self, keys: Sequence[str], window_seconds: float, now: float, amount: int = 1) -> list[int]:
        return self.hits_of(await self.hit_soon(keys, window_seconds, now, amount), len(keys))

    def hit_soon(self, keys: Sequence[str], window_seconds: float, now: float, amount: int = 1) -> asyncio.Future[Any]:
        """`hits` for who does not wait for them; `hits_of` reads the answer."""
        arguments = (repr(window_seconds), repr(now), amount, SLACK_SECONDS * 1000)
        return self._wire.run(_WINDOW, [key_of(key) for key in keys], *arguments)

    @staticmethod
    def hits_of(answer: object, count: int) -> list[int]:
        """What `hit_soon` of so many keys was answered. Raises CountersUnavailable for what the script never would."""
        if not isinstance(answer, list) or len(answer) != count or not all(isinstance(one, int) for one in answer):
            raise CountersUnavailable("WrongAnswer")
        return answer

    async def count(self, key: str, window_seconds: float, now: float) -> int:
        return await self._sum(key_of(key), window_seconds, now)

    async def block(self, key: str, until: float, now: float) -> None:
        until_ns = f"{int(until * NANOSECONDS):0{_UNTIL_DIGITS}d}"
        kept_ms = max(0, int((until - now) * 1000)) + SLACK_SECONDS * 1000
        await self._wire.run(_BLOCK, [_block_key(key)], until_ns, kept_ms, int(now), int(CLOCKS_APART_SECONDS))

    async def blocked_until(self, key: str, now: float) -> float:
        kept = await self._wire.ask("GET", _block_key(key))
        if kept is None:
            return 0.0
        until_ns, _, began = kept.partition(b" ") if isinstance(kept, bytes) else (kept, b"", b"")
        is_sound = _whole(began or b"0") <= now + CLOCKS_APART_SECONDS  # else a clock that was ahead began it
        until = _whole(until_ns) / NANOSECONDS
        return until if is_sound and until > now else 0.0

    async def reset(self, *keys: str | Limit) -> None:
        for key in keys:
            await self._wire.ask("DEL", key_of(key))
            if isinstance(key, str):
                await self._wire.ask("DEL", _block_key(key))

    async def probe(self, key: str | Limit) -> None:
        """Raises CountersUnavailable unless `key` could be charged now, by doing all that a charge does, beside it: reading alone
        also works on a replica, and writing alone with a login that may run no script.
        """
        slot = key_of(key)
        tag = slot[slot.index("{") + 1 : slot.index("}")] if "{" in slot else slot
        tenant = key.tenant if isinstance(key, Limit) and key.tenant else _NOBODY
        minute = Limit("probe", "minute", "", 1, MINUTE, 1, tenant)
        charges = [(minute, 0), (Limit("probe", "day", "", 1, DAY, 0, tenant), 0)]
        written = self._wire.ask("SET", f"zegel:{{{tag}}}:probe", "1", "PX", 1000)
        forgotten = self._wire.ask("DEL", once_key(minute, "probe"))
        charged = self._take(True, charges, SystemClock.now(), ("probe", False, 0, 0.0, False))
        answers = await asyncio.gather(written, forgotten, charged, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        if answers[2] != Allowance(True):
            raise CountersUnavailable("WrongAnswer")

    async def _last_hour(self, key: str, now: float) -> int:
        """Units of the hour that ends now, as `relay.counters.sudden` counts them."""
        answer = await self._wire.ask("HGETALL", key)
        if not isinstance(answer, dict):
            raise CountersUnavailable("WrongAnswer")
        last = _whole(answer.get(b"l", b"0"))
        spell = spell_of(now, last)
        if spell < last:
            return 0
        return sum(_whole(answer.get(b"s%d" % at, b"0")) for at in range(spell - HOUR_SPELLS + 1, spell + 1))

    async def _sum(self, key: str, window_seconds: float, now: float) -> int:
        """Units in the window that ends now, as `EmbeddedCounters` counts them."""
        cells = _cells(await self._wire.ask("HGETALL", key))
        step, head = step_of(now, window_seconds), cells.pop(-1, None)
        if head is None:
            return 0
        if step < head <= step + PAST:
            step = head
        if head > step + PAST or head < step - CELLS:
            return 0
        assert FUTURE + PAST == CELLS
        return sum(units for at, units in cells.items() if step - PAST < at <= step)


@lru_cache(maxsize=32_768)
def _placed(limit: Limit) -> tuple[bytes, int]:
    """Key of a limit as octets, which redis-py need not encode again, and nanoseconds that one unit of it takes."""
    return key_of(limit).encode(), interval_ns(limit.amount, limit.period_seconds) if limit.amount > 0 else 0


def key_of(key: str | Limit) -> str:
    """Where a limit or a counter lies. The text in braces decides the slot: the limits of a tenant share one."""
    if isinstance(key, str):
        tag = key[: key.index("}") + 1] + ":" if key.startswith("{") else ""
        return f"zegel:{tag}h:{_digest(key)}"
    if key.tenant:
        return f"zegel:{{{tag_of(key)}}}:{_digest(key[:3])}"
    return f"zegel:{{{tag_of(key)}}}{key.key[len(_of_all(key.key)) :]}"


def once_key(limit: Limit, once: str) -> str:
    """Where the answer to the id `once` is kept: beside the limit, in the same slot."""
    return f"zegel:{{{tag_of(limit)}}}:once:{once}"


def known_key(limit: Limit) -> str:
    """Where it is kept whom the account of a limit has written to."""
    return f"zegel:{{{tag_of(limit)}}}:known:{_digest(limit.key)}"


def tag_of(limit: Limit) -> str:
    """What decides the slot of a limit: its tenant, or where it counts over tenants, itself, with its buckets for urgent mail."""
    return f"t{limit.tenant}" if limit.tenant else _own_tag(limit[:3])


@lru_cache(maxsize=32_768)
def _own_tag(name: tuple[str, str, str]) -> str:
    return _digest((*name[:2], _of_all(name[2])))


def _of_all(key: str) -> str:
    """The key of the bucket that counts all mail, of any that lies beside it."""
    return key.removesuffix(URGENT).partition(BEHIND)[0]


def _block_key(key: str) -> str:
    return f"zegel:b:{_digest(key)}"


def _digest(name: object) -> str:
    return urlsafe_b64encode(digest_of(name)).decode().rstrip("=")


def _allowance(answer: object, charges: Sequence[Charge], now: float, earliest: float) -> Allowance:
    """What the script says. Raises CountersUnavailable for what it never would."""
    try:
        granted, due, place, backlog, sudden, waits = answer.split()  # type: ignore[attr-defined]  # what is no bytes has no split
        at = int(place)
        if granted not in (b"0", b"1") or waits not in _WAITING or not 0 <= at <= len(charges):
            raise ValueError
        allowance = Allowance(granted == b"1", float(due), backlog=int(backlog), sudden=int(sudden))
        if waits != b"0":
            allowance = allowance._replace(receipt=_WAITING[waits])
        if not _is_possible(allowance, at, now, earliest):
            raise ValueError
    except (AttributeError, TypeError, ValueError):
        raise CountersUnavailable("WrongAnswer") from None
    if not at:
        return allowance
    limit = charges[at - 1][0]
    due_or_never = 0.0 if allowance.due == float("inf") else allowance.due
    return allowance._replace(due=due_or_never, limit=limit.name, scope=limit.scope, allowed=limit.amount)


def _is_possible(told: Allowance, at: int, now: float, earliest: float) -> bool:
    """Whether the script could say so at `now`: a time that is none would park mail for ever, or put it off for years."""
    is_named = at > 0 or 0 < earliest <= told.due  # what bit then is in another slot
    if not 0 <= told.backlog < _MOST_UNITS or not 0 <= told.sudden < _MOST_UNITS:
        return False
    if told.granted:
        return 0 < told.due <= now + _FURTHEST_SECONDS if is_named else told.due == 0
    return at > 0 and (told.due == float("inf") or now < told.due <= now + _AN_AGE_SECONDS)


def _rate(kept: object) -> tuple[int, int, int]:
    """(tat, interval that made it, when that was): see take.lua. An older version wrote the first two numbers only."""
    parts = [_whole(part) for part in kept.split()] if isinstance(kept, bytes) else []
    if len(parts) not in (2, 4):
        raise CountersUnavailable(DAMAGED_KEY)
    tat = parts[0] * NANOSECONDS + parts[1]
    return (tat, parts[2], tat - parts[3]) if len(parts) == 4 else (tat, 0, 0)


def _whole(text: object) -> int:
    if not isinstance(text, bytes):
        raise CountersUnavailable("WrongAnswer")
    if not text.isdigit():
        raise CountersUnavailable(DAMAGED_KEY)
    return int(text)


def _cells(answer: object) -> dict[int, int]:
    """Units by step; the head under -1."""
    if not isinstance(answer, dict):
        raise CountersUnavailable("WrongAnswer")
    cells = {
        int(field): _whole(units) for field, units in answer.items() if isinstance(field, bytes) and field.isdigit()
    }
    if b"h" in answer:
        cells[-1] = _whole(answer[b"h"])
    return cells
