"""Who leaves next, and what became of it: between the queue and the connections.

Theory of operation. A connection (relay.delivery.pool) asks `take` for a job whenever it can send. A job is one
transaction: a whole message, or one copy of it where copies differ. Consent and suppression are asked again first,
unless nothing changed in the consent store since intake (CONSENT-12).

Copies leave in rounds of ROUND: between two rounds what was delivered is written down, so a process that dies repeats
one round at most, and consent is asked again. A message with one transaction has one round. What a round did not settle
(a host that failed, more recipients than a peer takes at once, copies not begun) belongs to the next round; when
nobody is left the pass is over. Then reports for the sender are written, then the message is recorded: a report is
durable before what it tells of is forgotten, and a sender gets one report for a pass. What was delivered and is to be
reported stands in the state as `owed` until then, so that another process can end the pass.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

from relay.clock import Clock
from relay.delivery.hands import Hands
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Deferred, Delivered, Failed, Outcome, Scope, subject_of
from relay.delivery.passes import Pass, Passes
from relay.delivery.render import Bases, Signer, is_per_copy, render
from relay.delivery.report import owed
from relay.delivery.retry import next_attempt, warning_due
from relay.mail.envelope import Recipient
from relay.observe import events, metrics
from relay.observe.log import log
from relay.spool.contract import Spool, SpoolUnavailable
from relay.spool.item import Fate, Item

HOST_WAITS = (30.0, 5.0, 30.0, 90.0, 270.0, 810.0)
"""By sessions in a row that ended at this message: others go first. Some hosts end each after so many messages: so 5 at first."""
UNKNOWN_WAIT_SECONDS = 60.0
RECORD_RETRY_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 960.0
ROUND = 32  # copies of one message under way at a time
MOST_COPIES = 256  # in memory; beyond it no new message is begun but an urgent one
NEVER_TRIED = Deferred("4.4.7", "delivery time expired before this copy could be tried", "", 0, Scope.HOST)
NO_ANSWER = Deferred("4.3.0", "a check before sending could not be made in time", "", 0, Scope.HOST)


class Attempt:
    """One transaction of a message; keeps relay.delivery.job.Job."""

    __slots__ = ("_scheduler", "indexes", "item", "mail_from", "recipients", "recoded")

    def __init__(self, scheduler: Scheduler, item: Item, indexes: Sequence[int], everyone: Sequence[Recipient]) -> None:
        self._scheduler = scheduler
        self.item = item
        self.indexes = indexes
        self.mail_from: str = item.meta["from"]
        self.recipients = [everyone[index] for index in indexes]
        self.recoded = ""

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
            bases = self._scheduler.bases_of(self.item)
            made = render(self.item, self.recipients[0].address, features, self._scheduler.signer, bases)
            self.recoded = made.recoded if isinstance(made, Rendered) else ""
            return made
        except Exception as error:  # a bug must cost this message its attempt, not the connection its other mail
            self._scheduler.crashed(error)
            return Deferred("4.3.0", "internal error while preparing the copy", "")

    def done(self, outcomes: list[Outcome]) -> None:
        self._scheduler.finished(self, outcomes)


class Scheduler:
    """Hands out attempts and takes their outcomes. For the event loop's thread."""

    def __init__(
        self, spool: Spool, clock: Clock, signer: Signer, hands: Hands, *, provider: str = "smarthost"
    ) -> None:
        """`provider` is the label of its metrics."""
        self.spool = spool
        self.clock = clock
        self.signer = signer
        self.crashed = hands.crashed
        self._recheck = hands.recheck
        self._report = hands.report
        self._log = hands.record
        self._plans = hands.plans
        self._provider = provider
        self._copies: deque[Attempt] = deque()
        self.passes = Passes()
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
                    copy = self._next_copy()
                    if copy is not None:
                        return copy
            item = self.spool.take()
            if item is None:
                return self._next_copy()
            attempts = self._prepare(item)
            if not attempts:
                continue
            if len(attempts) > 1:
                self._copies.extend(attempts[1:])
            return attempts[0]

    def _next_copy(self) -> Attempt | None:
        """A copy that waited for a connection. Where the consent store changed meanwhile the round is cut short (CONSENT-12)."""
        while self._copies:
            attempt = self._copies.popleft()
            if self._recheck.is_fresh(attempt.item):
                return attempt
            self._put_back(attempt)
        return None

    def _put_back(self, attempt: Attempt) -> None:
        """A copy that was not begun belongs to the next round."""
        current = self.passes[attempt.item.id]
        current.open -= 1
        if current.open == 0:
            self._conclude(attempt.item)

    def _prepare(self, item: Item) -> list[Attempt]:
        current = self.passes.get(item.id)
        waiting = self._waiting(item, current)
        standing = self._recheck(item, waiting)
        if standing.frozen:
            self._freeze(item, standing.frozen)
            return []
        if standing.waits:
            self._postpone(item, waiting, standing.waits)
            return []
        item.state.pop("waits_for", None)
        if standing.held:
            self._hold(item, standing.held)
            return []
        if current is None:
            current = self.passes[item.id] = Pass()
        if standing.gone:
            for index, reason in standing.gone:
                current.round[index] = Failed("5.7.1", reason, "")
            waiting = [index for index in waiting if index not in current.round]
        if not waiting:
            self._conclude(item)
            return []
        everyone = item.recipients
        if len(waiting) > 1 and is_per_copy(item.edits):
            attempts = [Attempt(self, item, (index,), everyone) for index in waiting[:ROUND]]
        else:
            attempts = [Attempt(self, item, waiting, everyone)]
        current.open = len(attempts)
        return attempts

    @staticmethod
    def _waiting(item: Item, current: Pass | None) -> list[int]:
        """Recipients without an answer in this pass."""
        settled = current.settled if current is not None else ()
        return [index for index, fate in enumerate(item.fates) if fate is Fate.WAITING and index not in settled]

    def _hold(self, item: Item, reason: str) -> None:
        """It waits for a person, as it would have at intake; the time of a hold starts now (PIPE-2)."""
        item.state.update(held=reason, held_at=self.clock.now())
        self._log.concluded(item, {}, gave_up=False)
        self._write(item)

    def _freeze(self, item: Item, why: str) -> None:
        """Nothing of its sender leaves until a person says so; what is known of its pass stays (THROTTLE-9)."""
        self._log.postponed(item, why)
        self.spool.freeze(item)

    def _postpone(self, item: Item, waiting: Sequence[int], why: str) -> None:
        """Nobody can say whether it may leave: later again, less and less often, until its time is up.

        The log tells it once for each cause: a store that is down for a day must not fill it with every message's waits.
        """
        now = self.clock.now()
        end = item.began + self._plans(item).give_up_seconds
        if now >= end:
            self.passes.setdefault(item.id, Pass()).round = dict.fromkeys(waiting, NO_ANSWER)
            self._conclude(item)
            return
        waits = item.state["waits"] = item.state.get("waits", 0) + 1
        wait = min(LONGEST_WAIT_SECONDS, UNKNOWN_WAIT_SECONDS * 2.0 ** min(waits - 1, 10))
        item.due = min(now + wait, end)
        if item.state.get("waits_for") != why:
            item.state["waits_for"] = why
            self._log.postponed(item, why)
        self._write(item)

    def overdue(self, item: Item, why: str) -> None:
        """A message that nobody could ask for, since no next host is there: its sender hears of the delay or of the end."""
        current = self.passes.setdefault(item.id, Pass())
        current.round = dict.fromkeys(self._waiting(item, current), Deferred("4.4.1", why, "", 0, Scope.HOST))
        self._conclude(item)

    # -- back -----------------------------------------------------------------------------------------------------

    def bases_of(self, item: Item) -> Bases:
        """What the copies of a message share while one round of them leaves."""
        return self.passes[item.id].bases

    def finished(self, attempt: Attempt, outcomes: list[Outcome]) -> None:
        """One outcome per recipient of the attempt, in order."""
        item = attempt.item
        current = self.passes[item.id]
        for index, recipient, outcome in zip(attempt.indexes, attempt.recipients, outcomes, strict=True):
            current.round[index] = outcome
            if isinstance(outcome, Delivered):
                item.fates[index] = Fate.DELIVERED
                if attempt.recoded:
                    current.recoded |= {attempt.recoded}
                if "SUCCESS" in recipient.notify and not outcome.dsn:
                    item.state.setdefault("owed", []).append(index)
        current.open -= 1
        if current.open == 0:
            self._conclude(item)
        else:
            self.spool.progress(item)

    def _conclude(self, item: Item) -> None:
        """A round is over: the next one, or the end of the pass."""
        current = self.passes[item.id]
        told, current.round = current.round, {}
        current.bases.clear()
        now = self.clock.now()
        plan = self._plans(item)
        count(self._provider, told)
        again = not_tried(told) if any(isinstance(outcome, Deferred) for outcome in told.values()) else ()
        current.settled.update((index, outcome) for index, outcome in told.items() if index not in again)
        left = [i for i, fate in enumerate(item.fates) if fate is Fate.WAITING and i not in current.settled]
        # Who comes to it late, where a person kept it long or a host was away, has one try all the same while there are answers.
        has_moved = not told or len(again) < len(told)
        if left and (has_moved or now < item.began + plan.give_up_seconds):
            self._next_round(item, told, again, now=now)
            return
        current.settled.update((index, told.get(index, NEVER_TRIED)) for index in left)
        self._end_pass(item, told, now=now)

    def _next_round(self, item: Item, told: dict[int, Outcome], again: Collection[int], *, now: float) -> None:
        current = self.passes[item.id]
        is_host = any(isinstance(told[index], Deferred) and told[index].scope is Scope.HOST for index in again)  # type: ignore[union-attr]  # Deferred, as just said
        cuts = min(item.state.get("cuts", 0) + 1, len(HOST_WAITS) - 1) if is_host and len(again) == len(told) else 0
        item.state["cuts"], item.due = cuts, now + (HOST_WAITS[cuts] if is_host else 0.0)
        until = self._warns_until(item, now) if is_host else 0.0
        if told:
            self._log.concluded(item, told, gave_up=False, recoded=current.recoded)
            current.recoded = frozenset()
        delayed = {index: told[index] for index in again} if until else {}
        self._after(self._tell(item, delayed, gave_up=False, until=until), partial(self._write, item))

    def _end_pass(self, item: Item, told: dict[int, Outcome], *, now: float) -> None:
        """Final where it is final; else when to try again, and whether to warn the sender."""
        current = self.passes.pop(item.id)
        outcomes = current.settled
        gave_up, until, known = False, 0.0, list(item.fates)
        for index, outcome in outcomes.items():
            if isinstance(outcome, Failed):
                item.fates[index] = Fate.FAILED
        if Fate.WAITING in item.fates:
            tries = item.state["tries"] = item.state.get("tries", 0) + 1
            due = next_attempt(tries, item.began, now, self._plans(item), jitter=(item.id % 997) / 997)
            if due is None:
                gave_up = True
                item.fates = [Fate.FAILED if fate is Fate.WAITING else fate for fate in item.fates]
                told = {**told, **{i: o for i, o in outcomes.items() if isinstance(o, Deferred)}}
            else:
                item.due = due
                until = self._warns_until(item, now)
        self._log.concluded(item, told, gave_up=gave_up, recoded=current.recoded)
        if Fate.WAITING not in item.fates:
            metrics.DELIVERY_SECONDS.observe(now - item.meta["at"])
        reports = self._tell(item, {**owed(item), **outcomes}, gave_up=gave_up, until=until)
        # Until the sender is told, a row of progress that is still on its way must not say more than it did.
        final, item.fates = item.fates, known
        self._after(reports, partial(self._settle, item, final))

    def _warns_until(self, item: Item, now: float) -> float:
        """The end of the delay where its sender is to be told of it, which is marked as done; else 0.0."""
        plan = self._plans(item)
        end = float(item.began + plan.give_up_seconds)
        if end <= now or not warning_due(item.began, now, plan, warned=bool(item.state.get("warned"))):
            return 0.0
        item.state["warned"] = True
        return end

    def _tell(self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, until: float) -> list[Item]:
        if item.meta["class"] == "system" and not item.meta["from"]:  # nobody is told of a report (OUT-12) but us
            is_lost = gave_up or any(isinstance(outcome, Failed) for outcome in outcomes.values())
            if item.meta.get("alarm"):  # an alarm about its own letter would be a letter again
                if is_lost or any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
                    metrics.ALARMS.inc(("mail", "lost" if is_lost else "told"))
            elif is_lost:
                metrics.REPORTS_LOST.inc()
            if is_lost:
                log.error(events.REPORT_DROPPED, queue_id=item.queue_id, about=item.meta.get("about", ""))
            return []
        return self._report(item, outcomes, gave_up=gave_up, until=until) if outcomes else []

    def _after(self, reports: list[Item], write: Callable[[], None]) -> None:
        """`write` when the reports are durable: what they tell of must not be forgotten before."""
        if reports:
            self._later(self._report_then(reports, write))
        else:
            write()

    async def _report_then(self, reports: list[Item], write: Callable[[], None]) -> None:
        for report in reports:
            while True:
                try:
                    await self.spool.commit(report)
                    break
                except SpoolUnavailable:
                    await asyncio.sleep(RECORD_RETRY_SECONDS)
        write()

    def _settle(self, item: Item, fates: list[Fate]) -> None:
        item.fates = fates
        item.state.pop("owed", None)
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
        """Copies that were not begun go back; returns when no report is being written."""
        copies, self._copies = list(self._copies), deque()
        for attempt in copies:
            self._put_back(attempt)
        while self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)


def not_tried(outcomes: dict[int, Outcome]) -> list[int]:
    """Whose attempt was none: the host failed, or the peer took others of the same transaction first (Scope).

    A peer that takes nobody at all says so about the message, however it words it: that was a try.
    """
    deferred = [(index, outcome.scope) for index, outcome in outcomes.items() if isinstance(outcome, Deferred)]
    moved = any(not isinstance(outcome, Deferred) for outcome in outcomes.values())
    return [index for index, scope in deferred if scope is Scope.HOST or (scope is Scope.EXCESS and moved)]


def count(provider: str, outcomes: dict[int, Outcome]) -> None:
    """The metrics of a round."""
    for outcome in outcomes.values():
        if isinstance(outcome, Delivered):
            word = "delivered"
        elif isinstance(outcome, Deferred):
            word = "deferred"
            if outcome.doubt:
                metrics.DELIVERY_DOUBTS.inc()
        else:
            word = "failed"
        metrics.DELIVERIES.inc((provider, word))
        if word != "delivered":
            metrics.DELIVERY_REFUSALS.inc((provider, word, subject_of(outcome.status)))
