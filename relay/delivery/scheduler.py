"""Who leaves next, and what became of it: between the queue and the connections.

Theory of operation. A connection (relay.delivery.pool) asks `take` for a job whenever it can send. A job is one
transaction: a whole message, or one copy of it where copies differ. Consent and suppression are asked again first,
unless nothing changed in the consent store since intake (CONSENT-12). When the last job of a message has its
outcomes, `_conclude` writes reports for the sender, then records the message: a report is durable before the failure
it tells of is forgotten.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from relay.clock import Clock
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Deferred, Delivered, Failed, Outcome, Scope
from relay.delivery.render import Signer, is_per_copy, render
from relay.delivery.retry import RetryPlan, next_attempt, warning_due
from relay.mail.envelope import Recipient
from relay.observe import metrics
from relay.spool.contract import Spool, SpoolUnavailable
from relay.spool.item import Fate, Item

HOST_WAIT_SECONDS = 30.0
UNKNOWN_WAIT_SECONDS = 60.0
RECORD_RETRY_SECONDS = 5.0
MOST_COPIES = 5000  # in memory; beyond it no new message is begun but an urgent one


class Recheck(Protocol):
    """Asks consent and suppression again (CONSENT-12): `(index, reason)` of who may not get the mail any more.

    None when the store cannot be read; then the mail waits (PIPE-3).
    """

    def __call__(self, item: Item, waiting: Sequence[int]) -> Sequence[tuple[int, str]] | None: ...


class Reporter(Protocol):
    """Makes the reports that a concluded attempt calls for, as messages for the queue (OUT-12)."""

    def __call__(self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, warn: bool) -> list[Item]: ...


class Recorder(Protocol):
    """Writes the delivery log (`zegel trace`)."""

    def __call__(self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool) -> None: ...


class Hands(NamedTuple):
    """What the scheduler has done by others: asking again, reports, the log, bugs, and the retry plan of a message."""

    recheck: Recheck
    report: Reporter
    record: Recorder
    crashed: Callable[[BaseException], None]
    plans: Callable[[Item], RetryPlan]


class Attempt:
    """One transaction of a message; keeps relay.delivery.job.Job."""

    __slots__ = ("_scheduler", "indexes", "item", "mail_from", "recipients")

    def __init__(self, scheduler: Scheduler, item: Item, indexes: Sequence[int], everyone: Sequence[Recipient]) -> None:
        self._scheduler = scheduler
        self.item = item
        self.indexes = indexes
        self.mail_from: str = item.meta["from"]
        self.recipients = [everyone[index] for index in indexes]

    @property
    def ret(self) -> str:
        return str(self.item.meta.get("ret", ""))

    @property
    def envid(self) -> str:
        return str(self.item.meta.get("envid", ""))

    @property
    def smtputf8(self) -> bool:
        return bool(self.item.meta.get("utf8"))

    def render(self, features: Features) -> Rendered | Deferred | Failed:
        try:
            return render(self.item, self.recipients[0].address, features, self._scheduler.signer)
        except Exception as error:  # a bug must cost this message its attempt, not the connection its other mail
            self._scheduler.crashed(error)
            return Deferred("4.3.0", "internal error while preparing the copy", "")

    def done(self, outcomes: list[Outcome]) -> None:
        self._scheduler.finished(self, outcomes)


class Scheduler:
    """Hands out attempts and takes their outcomes. For the event loop's thread."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        signer: Signer,
        hands: Hands,
    ) -> None:
        self.spool = spool
        self.clock = clock
        self.signer = signer
        self.crashed = hands.crashed
        self._recheck = hands.recheck
        self._report = hands.report
        self._record = hands.record
        self._plans = hands.plans
        self._copies: deque[Attempt] = deque()
        self._open: dict[int, int] = {}  # message id -> attempts without outcome
        self._outcomes: dict[int, dict[int, Outcome]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._copy_next = False
        self.paused = False

    # -- out ------------------------------------------------------------------------------------------------------

    def take(self) -> Attempt | None:
        """The next transaction, or None. Copies of one message take turns with other messages, urgent ones go first."""
        if self.paused:
            return None
        while True:
            if self._copies and not self.spool.has_urgent():
                self._copy_next = not self._copy_next
                if self._copy_next or len(self._copies) > MOST_COPIES:
                    return self._copies.popleft()
            item = self.spool.take()
            if item is None:
                return self._copies.popleft() if self._copies else None
            attempts = self._prepare(item)
            if not attempts:
                continue
            if len(attempts) == 1:
                return attempts[0]
            self._copies.extend(attempts)
            return self._copies.popleft()

    def _prepare(self, item: Item) -> list[Attempt]:
        waiting = [index for index, fate in enumerate(item.fates) if fate is Fate.WAITING]
        dropped = self._recheck(item, waiting)
        if dropped is None:
            item.due = self.clock.now() + UNKNOWN_WAIT_SECONDS
            self._write(item)
            return []
        self._outcomes[item.id] = outcomes = {}
        if dropped:
            for index, reason in dropped:
                outcomes[index] = Failed("5.7.1", reason, "")
                item.fates[index] = Fate.FAILED
            waiting = [index for index in waiting if item.fates[index] is Fate.WAITING]
        everyone = item.recipients
        if not waiting:
            self._open[item.id] = 0
            self._conclude(item)
            return []
        if len(waiting) > 1 and is_per_copy(item.edits):
            attempts = [Attempt(self, item, (index,), everyone) for index in waiting]
        else:
            attempts = [Attempt(self, item, waiting, everyone)]
        self._open[item.id] = len(attempts)
        return attempts

    # -- back -----------------------------------------------------------------------------------------------------

    def finished(self, attempt: Attempt, outcomes: list[Outcome]) -> None:
        """One outcome per recipient of the attempt, in order."""
        item = attempt.item
        known = self._outcomes[item.id]
        for index, outcome in zip(attempt.indexes, outcomes, strict=True):
            known[index] = outcome
            if isinstance(outcome, Delivered):
                item.fates[index] = Fate.DELIVERED
            elif isinstance(outcome, Failed):
                item.fates[index] = Fate.FAILED
        self._open[item.id] -= 1
        if self._open[item.id] == 0:
            self._conclude(item)

    def _conclude(self, item: Item) -> None:
        outcomes = self._outcomes.pop(item.id)
        del self._open[item.id]
        now = self.clock.now()
        gave_up = warn = False
        if Fate.WAITING in item.fates:
            gave_up, warn = self._plan_next(item, outcomes, now)
        self._record(item, outcomes, gave_up=gave_up)
        count(item, outcomes, now)
        reports = (
            []
            if item.meta["class"] == "system" and not item.meta["from"]
            else self._report(item, outcomes, gave_up=gave_up, warn=warn)
        )
        if reports:
            self._later(self._report_then_write(item, reports))
        else:
            self._write(item)

    def _plan_next(self, item: Item, outcomes: dict[int, Outcome], now: float) -> tuple[bool, bool]:
        """Set when to try again; `(gave up, warn the sender)`."""
        deferred = [outcome for outcome in outcomes.values() if isinstance(outcome, Deferred)]
        plan = self._plans(item)
        queued = item.meta["at"]
        if deferred and all(outcome.scope is Scope.EXCESS for outcome in deferred):
            item.due = now
            return False, False
        if (
            deferred
            and all(outcome.scope is Scope.HOST for outcome in deferred)
            and now < queued + plan.give_up_seconds
        ):
            item.due = now + HOST_WAIT_SECONDS
        else:
            tries = item.state["tries"] = item.state.get("tries", 0) + 1
            due = next_attempt(tries, queued, now, plan, jitter=(item.id % 997) / 997)
            if due is None:
                for index, fate in enumerate(item.fates):
                    if fate is Fate.WAITING:
                        item.fates[index] = Fate.FAILED
                return True, False
            item.due = due
        warn = warning_due(queued, now, plan, warned=bool(item.state.get("warned")))
        if warn:
            item.state["warned"] = True
        return False, warn

    async def _report_then_write(self, item: Item, reports: list[Item]) -> None:
        for report in reports:
            while True:
                try:
                    await self.spool.commit(report)
                    break
                except SpoolUnavailable:
                    await asyncio.sleep(RECORD_RETRY_SECONDS)
        self._write(item)

    def _write(self, item: Item) -> None:
        future = self.spool.record(item)
        future.add_done_callback(lambda done: self._written(item, done))

    def _written(self, item: Item, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is None:
            return
        metrics.SPOOL_FAILURES.inc()
        self._later(self._write_again(item))

    async def _write_again(self, item: Item) -> None:
        """The outcome could not be written (disk full): until it can, this process remembers it, so nothing goes twice."""
        await asyncio.sleep(RECORD_RETRY_SECONDS)
        self._write(item)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Returns when no report is being written."""
        while self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)


def count(item: Item, outcomes: dict[int, Outcome], now: float) -> None:
    """The metrics of a concluded attempt."""
    final = Fate.WAITING not in item.fates
    for outcome in outcomes.values():
        word = (
            "delivered" if isinstance(outcome, Delivered) else "deferred" if isinstance(outcome, Deferred) else "failed"
        )
        metrics.DELIVERIES.inc(("smarthost", word))
    if final:
        metrics.DELIVERY_SECONDS.observe(now - item.meta["at"])
