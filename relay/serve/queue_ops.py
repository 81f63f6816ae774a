"""What people do to the queue: list, show, retry, hold, release, delete, stats; and to held mail: release, refuse.

Runs in the process that owns the queue files: a worker, or the command line when the gateway is down. Every change is
durable before the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any, NamedTuple, Protocol

from relay.delivery.outcome import Failed
from relay.delivery.passes import Passes
from relay.delivery.report import Reporter, owed
from relay.mail.edits import Edit, hide, split
from relay.mail.notice import REFUSE
from relay.observe import events, metrics
from relay.observe.log import log
from relay.serve.channel import OpRefused
from relay.serve.exposures import EXPOSED, let_go, released
from relay.spool.contract import SpoolUnavailable
from relay.spool.files import QueueFiles
from relay.spool.hand import Busy, Hand, Unreadable
from relay.spool.item import Fate, Item, decode_id, encode_id
from relay.trace import whose

LIST_LIMIT = 1000
BY_OPERATOR = "queue.held_by_operator"
PAUSED = "reputation.paused"
OVER = ("held.over", "this message is not held any more: somebody has decided, or its time ran out")
ENDED = {  # by whom, and the reason of it
    "operator": "queue.hold_refused",
    "tenant": "queue.hold_refused",
    "sender": "queue.hold_withdrawn",
    "time": "queue.hold_expired",
}
SPLIT, HIDDEN, AS_WRITTEN = WAYS = ("split", "hidden", "as_written")
Rows = list[dict[str, Any]]


class Decider(NamedTuple):
    """Who decides on a held message: operator, sender, tenant, or time where nobody did. `name` is for the delivery log."""

    by: str = "operator"
    name: str = ""
    check: Callable[[Item], None] = lambda item: None  # raises OpRefused where it is not his to decide, or no more


class Say(Protocol):
    """See relay.trace.Trace.say."""

    def __call__(self, number: int, word: str, at: float, **data: Any) -> None: ...


class QueueOps:
    """The queue of one process, as commands."""

    def __init__(
        self, queue: QueueFiles, *, wake: Callable[[], None], reporter: Reporter, say: Say, passes: Passes | None = None
    ) -> None:
        """`say` writes the delivery log; `passes` are those of the scheduler, where this process delivers."""
        self._queue = queue
        self._passes = Passes() if passes is None else passes
        self._say = say
        self._hand = Hand(queue)
        self._wake = wake
        self._reporter = reporter
        self._ends: dict[int, float] = {}  # held message -> when its time runs out

    async def run(self, op: str, args: dict[str, Any]) -> Any:
        """Do one command. Raises OpRefused."""
        method = _OPS.get(op)
        if method is None:
            raise OpRefused("unknown", f"there is no command {op}")
        return await self._guarded(method(self, args), args)

    async def _guarded(self, work: Awaitable[Any], args: dict[str, Any]) -> Any:
        """What `work` answers; what can be wrong with a queue comes as OpRefused."""
        try:
            return await work
        except Busy:
            raise OpRefused("busy", f"{args.get('id')} is being delivered at this moment; try again") from None
        except Unreadable:
            text = f"{args.get('id')} cannot be read: its row is damaged; `zegel queue delete` gives it up"
            raise OpRefused("damaged", text) from None
        except (SpoolUnavailable, sqlite3.Error, OSError):
            raise OpRefused("storage", "the queue cannot be used; look at the disk and try again") from None

    # -- looking ----------------------------------------------------------------------------------------------------

    async def stats(self, args: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue
        return {
            "ready": queue.ready,
            "waiting": queue.backlog.later,
            "in_flight": len(queue.in_flight),
            "held": len(queue.held),
            "frozen": queue.backlog.frozen,
            "corrupt": queue.corrupt,
            "segments": len(queue.shelf.segments),
            "bytes": int(sum(segment.bytes for segment in list(queue.shelf.segments.values()))),
        }

    async def list(self, args: dict[str, Any]) -> Rows:
        """At most `limit` messages, held ones and those that leave next first; `tenant`, `held` and `is_meant` narrow."""
        limit = min(int(args.get("limit", 100)), LIST_LIMIT)
        lots = self._hand.places(held=bool(args.get("held")))
        now, opened = self._queue.clock.now(), self._hand.opened(lots, str(args.get("tenant") or ""))
        found = (item for item in opened if is_meant(item, args, now))
        return await asyncio.to_thread(lambda: [summary(item) for item in itertools.islice(found, limit)])

    async def list_held(self, args: dict[str, Any]) -> Rows:
        return await self.list({**args, "held": True})

    async def show(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """One message with its envelope and edits; None when it is not in this process's files."""
        item = await self._hand.look(number_in(args))
        if item is None:
            return None
        return {**summary(item), "edits": [tuple(edit) for edit in item.edits], "recipients": recipients(item)}

    # -- changing ---------------------------------------------------------------------------------------------------

    async def retry(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """Try now what waits for its time. A held message stays held."""
        return await self._change(number_in(args), "retried", lambda item: "")

    async def hold(self, args: dict[str, Any]) -> dict[str, Any] | None:
        def change(item: Item) -> str:
            item.state.update(held=BY_OPERATOR, held_at=self._queue.clock.now())
            return BY_OPERATOR

        return await self._change(number_in(args), "held", change)

    async def release(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """Let it leave, `way` as it was written, as a copy for each (CC-8) or with hidden recipients (CC-9)."""
        return await self._release(number_in(args), str(args.get("way") or AS_WRITTEN), OPERATOR)

    async def _release(self, number: int, way: str, who: Decider) -> dict[str, Any] | None:
        """Shown as it was written, an exposure is an incident (CC-20)."""
        if way not in WAYS:
            raise OpRefused("usage", f"way must be one of {', '.join(WAYS)}")
        was: list[tuple[str, dict[str, Any] | None]] = []

        def change(item: Item) -> str:
            who.check(item)
            reason = item.held
            is_shown = way == AS_WRITTEN and reason in EXPOSED
            was.append((reason, released(item, reason, self._queue.clock.now()) if is_shown else None))
            if way != AS_WRITTEN:
                item.state["edits"] = [tuple(edit) for edit in _edits(way, item)]
            item.state.update(held="", released=reason)
            return reason

        done = await self._change(number, "released", change, way=way, by=who.by, name=who.name)
        if done is not None:
            reason, incident = was[0]
            if reason:
                _decided(done["id"], who.by, way, reason)
            if incident is not None:
                let_go(done, incident)
        return done

    async def _change(
        self, number: int, word: str, change: Callable[[Item], str], **said: str
    ) -> dict[str, Any] | None:
        """Apply `change`, which tells why it is held, to a waiting message; let go it leaves in its turn, retried now."""
        item = await self._hand.pick(number)
        if item is None:
            return None
        state, due = dict(item.state), item.due
        try:
            reason = change(item)
            now, turn = self._queue.clock.now(), float(item.meta.get("turn", 0.0))
            item.due = turn if turn > now and word != "retried" and not item.held else 0.0
            if reason and not item.held:
                item.state["let_go"] = max(now, item.due)  # what a person takes for it is no delay (OUT-2)
            await self._queue.record(item)
        except Exception:  # a bug too must not keep it out of everybody's sight
            item.state, item.due = state, due
            self._queue.release(item)
            raise
        self._wake()
        if word != "retried" or not item.held:
            by = said.pop("by", "operator")
            self._tell(item.id, word, by, **whose(item), reason=reason, detail=_detail(item, reason), **said)
        stands = "held" if item.held else "parked" if item.due else "ready"
        return {"id": item.queue_id, "state": stands, **({"due": item.due} if item.due else {})}

    async def delete(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """Gone without a report: for the operator, and audited by the supervisor."""
        number = number_in(args)
        try:
            item = await self._hand.pick(number)
        except Unreadable:
            await self._hand.bury(number)
            self._tell(number, "deleted", "operator")
            return {"id": encode_id(number), "state": "deleted"}
        if item is None:
            return None
        waiting = _waiting(item, but=self._passes.failed(number))
        await self._end(item, [])
        rows = [[address, "deleted", "", "", ""] for address in waiting.values()]
        self._tell(number, "deleted", "operator", **whose(item), outcomes=rows)
        return {"id": item.queue_id, "state": "deleted"}

    async def refuse(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """A message ends with a report to its sender (PIPE-2)."""
        return await self._refuse(number_in(args), OPERATOR)

    async def _refuse(self, number: int, who: Decider) -> dict[str, Any] | None:
        item = await self._hand.pick(number)
        if item is None:
            return None
        try:
            who.check(item)
            reason = item.held or BY_OPERATOR
            failed = self._passes.failed(number)  # the host has answered for these, and that is what their sender reads
            waiting = _waiting(item, but=failed)
            ended = dict.fromkeys(waiting, Failed("5.7.1", ENDED[who.by], ""))
            reports = self._reporter(item, {**owed(item), **failed, **ended}, gave_up=False)
        except Exception:
            self._queue.release(item)
            raise
        await self._end(item, reports)
        self._wake()
        rows = [[address, "failed", "5.7.1", "", ""] for address in waiting.values()]
        said = {"name": who.name, **whose(item), "outcomes": rows}
        self._tell(number, "refused", who.by, reason=reason, detail=_detail(item, reason), **said)
        _decided(item.queue_id, who.by, REFUSE, reason)
        return {"id": item.queue_id, "state": "refused"}

    async def _end(self, item: Item, reports: Sequence[Item]) -> None:
        """Make `item` final, its reports first; when the disk fails it stands where it stood."""
        fates = item.fates
        try:
            for report in reports:
                await self._queue.commit(report)
            item.fates = [Fate.FAILED if fate is Fate.WAITING else fate for fate in fates]
            await self._queue.record(item)
        except Exception:
            item.fates = fates
            self._queue.release(item)
            raise
        self._passes.forget(item.id)

    def _tell(self, number: int, word: str, by: str, **data: Any) -> None:
        """Into the delivery log, when it is done. `by`: see Decider."""
        self._say(number, word, self._queue.clock.now(), by=by, **{key: value for key, value in data.items() if value})

    async def expire_held(
        self, now: float, seconds: Callable[[str], float], stopping: asyncio.Event | None = None
    ) -> int:
        """Refuse what was held longer than `seconds(reason)`, until `stopping`; how many (PIPE-2).

        Raises what went wrong with one, when the others are done, and SpoolUnavailable at once.
        """
        held = self._queue.held
        self._ends = {number: end for number, end in self._ends.items() if number in held}
        ended, failure = 0, None
        for number in list(held):
            if stopping is not None and stopping.is_set():
                break
            try:
                if number not in self._ends:
                    self._ends[number] = await self._end_of(number, seconds)
                if now >= self._ends[number]:
                    await self._refuse(number, Decider("time"))
                    ended += 1
            except (Busy, Unreadable):
                continue  # somebody has it in hand, or nobody can read it: the next round looks again
            except SpoolUnavailable:
                raise
            except Exception as error:  # of one message; those behind it must not wait for that
                failure = error
        if failure is not None:
            raise failure
        return ended

    async def release_paused(self, is_paused: Callable[[Item], bool]) -> int:
        """Let go what waited for its sender, where he is paused no more; how many."""
        lots = self._hand.places(held=True)

        def waits(item: Item) -> bool:
            return item.held == PAUSED and not is_paused(item)

        found = await asyncio.to_thread(lambda: [item.id for item in self._hand.opened(lots, "") if waits(item)])
        released = 0

        def change(item: Item) -> str:
            if not waits(item):  # it was, when it was looked for
                raise OpRefused(*OVER)
            item.state.update(held="")
            return PAUSED

        for number in found:
            try:
                released += await self._change(number, "released", change) is not None
            except (Busy, Unreadable, OpRefused):
                continue  # somebody has it in hand, nobody can read it, or it waits for something else now
        return released

    async def _end_of(self, number: int, seconds: Callable[[str], float]) -> float:
        item = await self._hand.look(number)
        if item is None:
            raise Busy
        return held_since(item) + seconds(item.held)


def held_since(item: Item) -> float:
    """Since when it is held, for whatever reason it is held for now."""
    return float(item.state.get("held_at", item.meta["at"]))


def _edits(way: str, item: Item) -> list[Edit]:
    """The change of a release. Who may only see himself is not hidden but alone (CC-4)."""
    fields = item.parsed().fields if item.raw else None
    alone = item.meta.get("held_detail", {}).get("offers") == SPLIT
    return split(fields) if way == SPLIT or alone else hide(fields)


def _decided(queue_id: str, by: str, choice: str, reason: str) -> None:
    metrics.HOLD_DECISIONS.inc((by, choice))
    log.info(events.HOLD_DECIDED, queue_id=queue_id, by=by, choice=choice, reason=reason)


def _waiting(item: Item, *, but: Container[int]) -> dict[int, str]:
    """Addresses without an answer, by index; `but` are the indexes of those who have one in the present pass."""
    fates = enumerate(zip(item.recipients, item.fates, strict=True))
    return {index: one.address for index, (one, fate) in fates if fate is Fate.WAITING and index not in but}


def _detail(item: Item, reason: str) -> dict[str, str]:
    """What fills the sentence of the reason that intake held the message for."""
    return item.meta.get("held_detail", {}) if reason == item.meta.get("held") else {}


def is_meant(item: Item, args: dict[str, Any], now: float) -> bool:
    """Of one `credential`; only what waits for a `later` time, or for the turn that a limit gave it, `parked` (THROTTLE-1)."""
    is_later = item.due > now and not item.held
    is_parked = is_later and "turn" in item.meta and not item.state.get("tries")
    is_his = args.get("credential") in (None, "", item.meta["credential"])
    return is_his and (is_later or not args.get("later")) and (is_parked or not args.get("parked"))


def number_in(args: dict[str, Any]) -> int:
    number = decode_id(str(args.get("id", "")))
    if number is None:
        raise OpRefused("usage", f"{args.get('id')!r} is no queue id: it has 13 characters, as in the 250 reply")
    return number


def summary(item: Item) -> dict[str, Any]:
    """One line of `zegel queue list`."""
    meta = item.meta
    return {
        "id": item.queue_id,
        "tenant": meta["tenant"],
        "stream": meta["stream"],
        "credential": meta["credential"],
        "class": meta["class"],
        "from": meta["from"],
        "recipient_count": len(meta["rcpt"]),
        "waiting": sum(fate is Fate.WAITING for fate in item.fates),
        "accepted_at": meta["at"],
        "due": item.due,
        "tries": item.state.get("tries", 0),
        "held": item.held,
        "held_detail": _detail(item, item.held),
        "held_since": held_since(item) if item.held else None,
    }


def recipients(item: Item) -> list[dict[str, str]]:
    """Each recipient with its fate."""
    return [
        {"address": recipient.address, "state": fate.name.lower()}
        for recipient, fate in zip(item.recipients, item.fates, strict=True)
    ]


OPERATOR = Decider()
_OPS = {
    "queue.stats": QueueOps.stats,
    "queue.list": QueueOps.list,
    "queue.show": QueueOps.show,
    "queue.retry": QueueOps.retry,
    "queue.hold": QueueOps.hold,
    "queue.release": QueueOps.release,
    "queue.delete": QueueOps.delete,
    "held.list": QueueOps.list_held,
    "held.show": QueueOps.show,
    "held.release": QueueOps.release,
    "held.refuse": QueueOps.refuse,
}
