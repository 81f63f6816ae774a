"""Charging limits that lie in several slots of a Redis Cluster, which no one script reaches.

The limits of a tenant (its own, its logins', its streams') share a slot. A client's address and a From domain are counted over
all tenants, so each lies in a slot of its own. All slots are asked at the same time, each by one script: one round trip's wait.

Nobody passes a limit by this: a slot charges before anybody knows what the others say, and where one of them refuses, the
rest is given back. In between the books show too much, never too little, so another message may be told to wait that a moment
later would not. A lost give-back stays charged. Where one slot parks the message for a later hour, the daily charges of the
others belong to that hour: they are given back and asked for again from then on. So is what was charged to a
pace that is only for mail which nothing makes wait, where another slot makes it wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay.counters.cell_rate import step_of
from relay.counters.contract import DAY, WARM_UP, Charge, CountersUnavailable
from relay.counters.remote import WAITS, WAITS_AT_ONCE, RedisCounters, tag_of
from relay.policy.facts import Allowance

MAX_ROUNDS = 7
"""How often the slots are asked to agree on an hour; after that the message is refused for now."""
Group = list[Charge]


class SlottedCounters(RedisCounters):
    """`RedisCounters` of a cluster."""

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
        groups = _by_slot(charges)
        if len(groups) < 2:
            return await super().take(charges, now, once=once, park=park, max_parked=max_parked, elsewhere=elsewhere)
        (latest, waits), bit = elsewhere, Allowance(True)
        behind = [waits] * len(groups)
        for number in range(MAX_ROUNDS):
            names = [f"{once}.{number}"] * len(groups)
            asked = [
                super(SlottedCounters, self).take(
                    group, now, once=name, park=park, max_parked=max_parked, elsewhere=(latest, waits)
                )
                for group, name, waits in zip(groups, names, behind, strict=True)
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            granted = [group for group, answer in zip(groups, answers, strict=True) if _is_granted(answer)]
            said = [answer for answer in answers if isinstance(answer, Allowance)]
            wait = _behind(behind, said) if len(said) == len(groups) else behind
            if wait != behind:
                await self._give_back(granted, names[0])
                behind = wait
                continue
            # What made it later, in this round or before: by then there is room in what bit before.
            later = [one for one in said if one.limit and (not one.granted or one.due > latest)]
            bit = max(later, key=_strictness, default=bit)
            told = _joined(said)._replace(limit=bit.limit, scope=bit.scope, allowed=bit.allowed)
            latest = told.due
            # A warm-up says when a message leaves and not in which hour the others charge it.
            if len(granted) == len(groups) and (told.limit == WARM_UP or _agrees(groups, answers, now, latest)):
                return told
            await self._give_back(granted, names[0])
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            if not told.granted:
                return told
        return told._replace(granted=False)

    async def peek(
        self, charges: Sequence[Charge], now: float, *, park: bool = False, max_parked: int = 0
    ) -> Allowance:
        """As `RedisCounters.peek`, each slot for itself: where they park for different hours, the last of them."""
        groups = _by_slot(charges)
        said: list[Allowance] = []
        behind, before = [False] * len(groups), None
        while behind != before:
            asked = [
                self._take(False, group, now, ("", park, max_parked, 0.0, waits))
                for group, waits in zip(groups, behind, strict=True)
            ]
            said = await asyncio.gather(*asked)
            behind, before = _behind(behind, said), behind
        return _joined(said)._replace(receipt=None) if said else Allowance(True)

    async def give_back(self, charges: Sequence[Charge], once: str) -> None:
        groups = _by_slot(charges)
        if len(groups) < 2:
            await super().give_back(charges, once)
            return
        for number in range(MAX_ROUNDS):  # all but the last were given back when they did not agree
            await self._give_back(groups, f"{once}.{number}")

    async def _give_back(self, groups: Sequence[Group], once: str) -> None:
        given = await asyncio.gather(*(self.give(group, once) for group in groups), return_exceptions=True)
        for error in given:  # what could not be given back stays charged
            if isinstance(error, BaseException) and not isinstance(error, CountersUnavailable):
                raise error


def _by_slot(charges: Sequence[Charge]) -> list[Group]:
    groups: dict[str, Group] = {}
    for limit, cost in charges:
        groups.setdefault(tag_of(limit), []).append((limit, cost))
    return list(groups.values())


def _behind(before: Sequence[bool], said: Sequence[Allowance]) -> list[bool]:
    """Which groups are asked as of mail that waits, given what they said: where one of AT_ONCE makes it wait, those after it."""
    waits = any(one.receipt == WAITS for one in said)
    at_once = [one.receipt == WAITS_AT_ONCE for one in said]
    return [was or waits or any(at_once[:place]) for place, was in enumerate(before)]


def _is_granted(answer: object) -> bool:
    return isinstance(answer, Allowance) and answer.granted


def _joined(answers: Sequence[Allowance]) -> Allowance:
    """What all slots say together: as their strictest, see `answer.combine`."""
    if not answers:
        return Allowance(False)
    strictest = max(answers, key=_strictness)
    is_never = not strictest.granted and not strictest.due
    return strictest._replace(
        granted=all(answer.granted for answer in answers),
        due=0.0 if is_never else max(answer.due for answer in answers),
        backlog=max(answer.backlog for answer in answers),
        sudden=max(answer.sudden for answer in answers),
    )


def _strictness(answer: Allowance) -> tuple[bool, bool, float]:
    """A refusal is stricter than a wait, one for ever than one until then, and what bites than what waits for it."""
    never = not answer.granted and not answer.due
    return not answer.granted, bool(answer.limit), float("inf") if never else answer.due


def _agrees(groups: Sequence[Group], answers: Sequence[object], now: float, latest: float) -> bool:
    """Whether every daily charge lies in the hour in which the message leaves."""
    for group, answer in zip(groups, answers, strict=True):
        days = [limit.period_seconds for limit, _ in group if limit.period_seconds >= DAY]
        due = answer.due if isinstance(answer, Allowance) else 0.0
        if days and step_of(max(due, now), days[0]) != step_of(max(latest, now), days[0]):
            return False
    return True
