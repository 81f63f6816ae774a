"""Counters of one node in shared memory; see table.py for the file and cell_rate.py for the arithmetic."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from relay.counters import blocks, known, presence, quick, rates, sudden, undo
from relay.counters.answer import NEVER, Asked, Row, ask_days, ask_warm_up, combine
from relay.counters.cell_rate import CELLS, FUTURE, NOW, PAST, step_of, warm_up_day
from relay.counters.contract import AT_ONCE, DAY, HABITS, IN_LINE, Charge, Limit
from relay.counters.table import FIRST_CELL, KEY_BYTES, VALUES, Table
from relay.counters.windows import NodeWindows
from relay.policy.facts import Allowance

_NO_LIMIT = Limit("", "", "", 0, 0)
_ROW = struct.Struct(f"<{CELLS}I")
_NO_UNITS = (0,) * CELLS


class EmbeddedCounters:
    """`relay.counters.contract.Counters` in a file of `folder`. One instance per process, used by any of its threads."""

    def __init__(self, folder: Path) -> None:
        self._table = Table(folder)
        self.windows = NodeWindows(self._table)

    def close(self) -> None:
        """Give back memory and descriptors; what was counted stays."""
        self._table.close()

    # Limits

    def take(self, charges: Sequence[Charge], now: float, *, park: bool, max_parked: int = 0) -> Allowance:
        table = self._table
        table.lock()
        try:
            charges, met = known.met(table, charges, now)
            allowance = quick.take(table, charges, now)
            if allowance is not None:
                if met is not None:
                    known.remember(table, met, now)
                return allowance
            charges, places = self._settled(charges, now, park=park)
            if -1 in places:
                for limit, _ in charges:
                    table.claim(limit[:3], now)
                # Claiming may have moved them all.
                places = [table.find(limit[:3]) for limit, _ in charges]
            asked = self._ask(charges, places, now, park=park)
            allowance = combine(asked, now, park=park, max_parked=max_parked)
            if allowance.granted:
                for place, answer, (_, cost) in zip(places, asked, charges, strict=True):
                    if answer.limit.name in HABITS:
                        sudden.write(table, place, answer.limit, cost, now)
                    else:
                        self._write(place, answer, now)
                if met is not None and not any(answer.due and answer.limit.people for answer in asked):
                    known.remember(table, met, now)
                return allowance._replace(receipt=undo.receipt(charges, asked))
            return allowance
        finally:
            table.unlock()

    def give_back(self, charges: Sequence[Charge], now: float, allowance: Allowance) -> None:
        with self._table:
            undo.give_back(self._table, charges, now, allowance)

    def peek(self, charges: Sequence[Charge], now: float, *, park: bool = False, max_parked: int = 0) -> Allowance:
        table = self._table
        table.look()
        try:
            charges, places = self._settled(known.met(table, charges, now)[0], now, park=park)
            return combine(self._ask(charges, places, now, park=park), now, park=park, max_parked=max_parked)
        finally:
            table.done()

    def used(self, limit: Limit, now: float) -> int:
        table = self._table
        table.look()
        try:
            place = table.find(limit[:3])
            if place < 0:
                return 0
            if limit.name in HABITS:
                return sudden.used(table, place, now)
            if limit.since > 0:
                day = warm_up_day(limit.since, now)
                return self._warm_up(place)[day] if day < CELLS else 0
            if limit.period_seconds >= DAY:
                return self._sum(place, self._step(place, step_of(now, limit.period_seconds)))
            return rates.used(table, place, limit, now)
        finally:
            table.done()

    def _settled(self, charges: Sequence[Charge], now: float, *, park: bool) -> tuple[Sequence[Charge], list[int]]:
        """The charges without those of AT_ONCE and IN_LINE that the message is not asked by, and where they are counted."""
        find = self._table.find
        others = [charge for charge in charges if charge[0].since >= 0]
        if all(limit.since != IN_LINE for limit, _ in charges):
            return charges, [find(limit[:3]) for limit, _ in charges]
        places = [find(limit[:3]) for limit, _ in others]
        is_late = waits = self._waits(others, places, now, park=park)
        kept, found, told = [], [], iter(places)
        for limit, cost in charges:
            if limit.since >= 0:
                place = next(told)
            elif limit.since == (AT_ONCE if waits else IN_LINE):
                waits = is_late if limit.since == IN_LINE else waits  # the pair is over
                continue
            else:
                place = find(limit[:3])
                if limit.since == AT_ONCE:
                    is_late = is_late or rates.ask(self._table, place, limit, cost, now).due > now
            kept.append((limit, cost))
            found.append(place)
        return kept, found

    def _waits(self, charges: Sequence[Charge], places: Sequence[int], now: float, *, park: bool) -> bool:
        """Whether one of these makes the message wait; nearly always it is the pace of the login, which comes first."""
        limit, cost = charges[0] if charges else (_NO_LIMIT, 0)
        is_pace = limit.amount > 0 and not limit.since and limit.period_seconds < DAY and limit.name not in HABITS
        if is_pace and rates.ask(self._table, places[0], limit, cost, now).due > now:
            return True
        told = combine(self._ask(charges, places, now, park=park), now, park=park, max_parked=0)
        return told.due > now or not told.granted

    def _ask(self, charges: Sequence[Charge], places: Sequence[int], now: float, *, park: bool) -> list[Asked]:
        """Every limit's answer, in the order of `charges`.

        Rates come first, since a message leaves at one time only: it is charged to the day of that time.
        """
        answers: dict[int, Asked] = {}
        daily: list[int] = []
        earliest = now
        for index, (limit, cost) in enumerate(charges):
            if limit.amount <= 0:
                answers[index] = Asked(limit, NEVER)
            elif limit.name in HABITS:
                answers[index] = Asked(limit, 0.0, sudden=sudden.ask(self._table, places[index], limit, cost, now))
            elif limit.since > 0:
                answers[index] = ask_warm_up(limit, cost, self._warm_up(places[index]), now)
            elif limit.period_seconds >= DAY:
                daily.append(index)
            else:
                answers[index] = answer = rates.ask(self._table, places[index], limit, cost, now)
                if not park and cost > max(limit.burst, 1):
                    answers[index] = Asked(limit, NEVER)
                elif park and answer.due > earliest:
                    earliest = answer.due
        if not daily:
            return list(answers.values())
        days = self._ask_quick(charges, places, daily, now=now, earliest=earliest)
        if days is None:
            rows = [Row(*charges[index], *self._row(places[index], charges[index][0], now)) for index in daily]
            days = ask_days(rows, now, earliest, park=park)
        answers.update(zip(daily, days, strict=True))
        return [answers[index] for index in range(len(charges))]

    def _ask_quick(
        self, charges: Sequence[Charge], places: Sequence[int], daily: Sequence[int], *, now: float, earliest: float
    ) -> list[Asked] | None:
        """Answers of the daily limits where all have room now and nothing is reserved ahead; None: ask with care."""
        answers: list[Asked] = []
        for index in daily:
            limit, cost = charges[index]
            place = places[index]
            step = self._step(place, step_of(now, limit.period_seconds))
            later = earliest > now and step_of(earliest, limit.period_seconds) > step
            if later or not self._is_quiet(place, step) or self._sum(place, step) + cost > limit.amount:
                return None
            answers.append(Asked(limit, 0.0, pieces=((0, cost),)))
        return answers

    def _write(self, place: int, answer: Asked, now: float) -> None:
        """Make one answer true. Killed half-way, it has charged too much or nothing."""
        raw = self._table.raw
        limit = answer.limit
        if limit.period_seconds < DAY:
            rates.write(self._table, place, answer, now)
            return
        if limit.since > 0:
            VALUES.pack_into(raw, place + KEY_BYTES, limit.since + CELLS * DAY, 0, 1)
            for day, units in answer.pieces:
                self._table.cells[place // 4 + FIRST_CELL + day] += units
            return
        step = self._advance(place, step_of(now, limit.period_seconds))
        last = max(step + answer.pieces[-1][0], VALUES.unpack_from(raw, place + KEY_BYTES)[1])
        VALUES.pack_into(raw, place + KEY_BYTES, (last + PAST) * limit.period_seconds / PAST, last, step)
        first = place // 4 + FIRST_CELL
        for ahead, units in answer.pieces:
            self._table.cells[first + (step + ahead) % CELLS] += units

    # State of a slot. `place` -1 is a slot that nobody has taken.

    def _step(self, place: int, step: int) -> int:
        """The present step of a slot: a wall clock that is set back does not bring old room back."""
        if place < 0:
            return step
        head: int = VALUES.unpack_from(self._table.raw, place + KEY_BYTES)[2]
        return head if step < head <= step + PAST else step

    def _is_quiet(self, place: int, step: int) -> bool:
        return place < 0 or VALUES.unpack_from(self._table.raw, place + KEY_BYTES)[1] <= step

    def _sum(self, place: int, step: int) -> int:
        """Units in the window that ends at `step`."""
        if place < 0:
            return 0
        head: int = VALUES.unpack_from(self._table.raw, place + KEY_BYTES)[2]
        if not head <= step < head + PAST:
            return sum(self._counts(place, step)[:PAST])
        return quick.sum_at(self._table.raw, place, step)

    def _counts(self, place: int, step: int) -> list[int]:
        """Counts of the 24 steps up to `step` and the 48 after it."""
        if place < 0:
            return [0] * CELLS
        head: int = VALUES.unpack_from(self._table.raw, place + KEY_BYTES)[2]
        if head > step + PAST or head < step - CELLS:
            return [0] * CELLS
        first = place // 4 + FIRST_CELL
        ring = self._table.cells[first : first + CELLS].tolist()
        oldest, newest = head - NOW, head + FUTURE
        return [ring[at % CELLS] if oldest <= at <= newest else 0 for at in range(step - NOW, step + FUTURE + 1)]

    def _warm_up(self, place: int) -> Sequence[int]:
        """Units of each day of a warm-up."""
        return _ROW.unpack_from(self._table.raw, place + FIRST_CELL * 4) if place >= 0 else _NO_UNITS

    def _row(self, place: int, limit: Limit, now: float) -> tuple[int, list[int]]:
        step = self._step(place, step_of(now, limit.period_seconds))
        return step, self._counts(place, step)

    def _advance(self, place: int, step: int) -> int:
        """Move the slot on to `step` and clear what comes into its ring; returns the step that holds then."""
        table = self._table
        expires, reserved, head = VALUES.unpack_from(table.raw, place + KEY_BYTES)
        if head == step or step < head <= step + PAST:
            return int(head)
        first = place // 4 + FIRST_CELL
        is_stale = head > step or head < step - CELLS
        for at in range(step - NOW if is_stale else head + FUTURE + 1, step + FUTURE + 1):
            table.cells[first + at % CELLS] = 0
        VALUES.pack_into(table.raw, place + KEY_BYTES, expires, 0 if is_stale else reserved, step)
        return step

    # Counts, blocks, presence

    def hit(self, key: str, window_seconds: float, now: float, amount: int = 1) -> int:
        return self.hits([key], window_seconds, now, amount)[0]

    def hits(self, keys: Sequence[str], window_seconds: float, now: float, amount: int = 1) -> list[int]:
        table = self._table
        table.lock()
        try:
            step = step_of(now, window_seconds)
            return [self._hit(key, window_seconds, step, now, amount) for key in keys]
        finally:
            table.unlock()

    def _hit(self, key: str, window_seconds: float, step: int, now: float, amount: int) -> int:
        table = self._table
        place, reserved, head = table.read(key)
        if place >= 0 and head == reserved == step:  # of this hour, as nearly always: it needs a count and no more
            cell = place // 4 + FIRST_CELL + step % CELLS
            table.cells[cell] = max(0, table.cells[cell] + amount)
            return quick.sum_at(table.raw, place, step)
        place = table.claim(key, now)
        step = self._advance(place, step)
        VALUES.pack_into(table.raw, place + KEY_BYTES, (step + PAST) * window_seconds / PAST, step, step)
        cell = place // 4 + FIRST_CELL + step % CELLS
        table.cells[cell] = max(0, table.cells[cell] + amount)
        return self._sum(place, step)

    def count(self, key: str, window_seconds: float, now: float) -> int:
        table = self._table
        table.look()
        try:
            place = table.find(key)
            return self._sum(place, self._step(place, step_of(now, window_seconds)))
        finally:
            table.done()

    def block(self, key: str, until: float, now: float) -> None:
        blocks.block(self._table, key, until, now)

    def blocked_until(self, key: str, now: float) -> float:
        return blocks.blocked_until(self._table, key, now)

    def enter(self, key: str, member: int, now: float) -> int:
        return presence.enter(self._table, key, member, now)

    def leave(self, key: str, member: int, now: float) -> int:
        return presence.leave(self._table, key, member, now)

    def present(self, key: str, now: float) -> int:
        return presence.present(self._table, key)

    def vacate(self, member: int) -> None:
        presence.vacate(self._table, member)

    def reset(self, *keys: str | Limit) -> None:
        table = self._table
        table.lock()
        try:
            for key in keys:
                names: tuple[object, ...] = (key, ("block", key)) if isinstance(key, str) else (key[:3],)
                for name in names:
                    place = table.find(name)
                    if place >= 0:
                        table.clear(place)
        finally:
            table.unlock()
