"""Mail that nobody can try, since no next host answers: its sender hears of the delay, and in the end of the end (OUT-2).

While no host is usable no message is asked for, so that the order and the queue stay as they are. Without this a sender
would hear nothing for as long as that lasts. Only mail that could leave now is opened, so many messages at once and the next ones
a minute later: however much waits, a sweep costs the same, and what is parked, held or frozen costs nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from collections.abc import Callable
from heapq import nsmallest
from typing import Any

from relay.clock import Clock
from relay.delivery.pool import PeerState, PoolState
from relay.delivery.retry import RetryPlan, warning_due
from relay.delivery.scheduler import Scheduler
from relay.observe import events
from relay.observe.log import log
from relay.serve.queue_ops import number_in
from relay.spool.backlog import reference
from relay.spool.files import QueueFiles
from relay.spool.hand import Busy, Hand, Unreadable
from relay.spool.item import Item, time_of

MOST_AT_ONCE = 1000
MOST_OPENED = 10_000  # in one sweep, so that a million is looked over in less than two hours
WHY = "no next server can be reached"  # what that server says is between it and us, and stands in the log


class Overdue:
    """Looks over the queue of one process. `first_seconds` is the youngest age at which a sender may have to hear something."""

    def __init__(
        self,
        queue: QueueFiles,
        scheduler: Scheduler,
        clock: Clock,
        *,
        plans: Callable[[Item], RetryPlan],
        first_seconds: float,
    ) -> None:
        self._queue = queue
        self._hand = Hand(queue)
        self._scheduler = scheduler
        self._clock = clock
        self._plans = plans
        self._first_seconds = first_seconds
        self._after = 0  # the reference that the last sweep ended with

    async def sweep(self, state: PoolState) -> int:
        """How many messages were concluded or warned about; nothing is read while a host works or all mail is young."""
        if not state.peers or not all(peer.failures for peer in state.peers):
            return 0
        now = self._clock.now()
        oldest = min(filter(None, await self._queue.shelf.oldest()), default=0)
        if not oldest or now - time_of(oldest) < self._first_seconds:
            return 0
        numbers = await asyncio.to_thread(self._look, self._hand.in_line(), now)
        done = 0
        for number in numbers:
            try:
                item = await self._hand.pick(number)
            except (Busy, Unreadable, sqlite3.Error, OSError):
                continue
            if item is not None:
                self._scheduler.overdue(item, WHY)
                done += 1
        return done

    async def waits(self, args: dict[str, Any], state: PoolState) -> dict[str, Any] | None:
        """When the message `id` may leave, and what each next host answered last where none takes mail; None: it is not here.

        For the operator: what hosts say is between them and us.
        """
        try:
            item = await self._hand.look(number_in(args))
        except (Unreadable, sqlite3.Error, OSError):
            return None
        if item is None:
            return None
        now = self._clock.now()
        hosts = [
            {"host": peer.name, "stage": peer.stage, "why": peer.why, "retry_at": now + peer.retry_seconds}
            for peer in state.peers
        ]
        return {"due": item.due, "hosts": hosts if all(peer.failures for peer in state.peers) else []}

    def _look(self, refs: array[int], now: float) -> list[int]:
        """The ids of what is overdue among those whose turn it is to be opened. In a thread."""
        turn = self._turn(refs)
        self._after = turn[-1] if turn else 0
        found: list[int] = []
        for item in self._hand.opened([(None, [turn])], ""):
            if self._is_overdue(item, now):
                found.append(item.id)
            if len(found) == MOST_AT_ONCE:
                self._after = reference(item.segment.number, item.seq)
                break
        return found

    def _turn(self, refs: array[int]) -> array[int]:
        """The next to be opened, oldest first, and then those from the beginning."""
        turn = nsmallest(MOST_OPENED, (ref for ref in refs if ref > self._after))
        turn += nsmallest(MOST_OPENED - len(turn), (ref for ref in refs if ref <= self._after))
        return array("Q", turn)

    def _is_overdue(self, item: Item, now: float) -> bool:
        if item.held or item.due > now:
            return False
        plan, queued = self._plans(item), item.began
        if now - queued >= plan.give_up_seconds:
            return True
        return warning_due(queued, now, plan, warned=bool(item.state.get("warned")))


def noticed(state: PeerState) -> None:
    """A next host takes mail again, or no more."""
    level = log.info if state.state == "usable" else log.warning
    level(events.PEER_CHANGED, peer=state.name, state=state.state, stage=state.stage, why=state.why)
