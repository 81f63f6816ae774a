"""What people do to the queue: list, show, retry, hold, release, delete, stats; and to held mail: release, refuse.

Runs in the process that owns the queue files: a worker, or the command line when the gateway is down. Every change is
durable before the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from relay.delivery.report import Reporter
from relay.serve.channel import OpRefused
from relay.spool.backlog import reference, split_reference
from relay.spool.contract import SpoolUnavailable
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item, decode_id, encode_id

LIST_LIMIT = 1000
Rows = list[dict[str, Any]]


class QueueOps:
    """The queue of one process, as commands."""

    def __init__(self, queue: QueueFiles, *, wake: Callable[[], None], reporter: Reporter) -> None:
        self._queue = queue
        self._wake = wake
        self._reporter = reporter

    async def run(self, op: str, args: dict[str, Any]) -> Any:
        """Do one command. Raises OpRefused."""
        method = _OPS.get(op)
        if method is None:
            raise OpRefused("unknown", f"there is no command {op}")
        try:
            return await method(self, args)
        except SpoolUnavailable:
            raise OpRefused("storage", "the queue cannot be written; look at the disk and try again") from None

    # -- looking ----------------------------------------------------------------------------------------------------

    async def stats(self, args: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue
        return {
            "ready": queue.hot.size + queue.backlog.ready,
            "waiting": queue.backlog.later,
            "in_flight": len(queue.in_flight),
            "held": len(queue.held),
            "corrupt": queue.corrupt,
            "segments": len(queue.segments),
            "bytes": sum(segment.bytes for segment in queue.segments.values()),
        }

    async def list(self, args: dict[str, Any]) -> Rows:
        """At most `limit` messages, oldest first within what this process holds; `tenant` and `held` narrow."""
        limit = min(int(args.get("limit", 100)), LIST_LIMIT)
        return await asyncio.to_thread(self._list, limit, args.get("tenant", ""), bool(args.get("held")))

    async def list_held(self, args: dict[str, Any]) -> Rows:
        return await self.list({**args, "held": True})

    def _list(self, limit: int, tenant: str, held: bool) -> Rows:
        found: Rows = []
        for ref in self._references(held=held):
            if len(found) >= limit:
                break
            item = self._open(ref, body=False)
            if item is not None and (not tenant or item.meta["tenant"] == tenant):
                found.append(summary(item))
        return found

    def _references(self, *, held: bool) -> Iterator[int]:
        queue = self._queue
        yield from list(queue.held.values())
        if held:
            return
        for item in [*queue.in_flight.values(), *queue.hot_items()]:
            if item.segment is not None:
                yield reference(item.segment.number, item.seq)
        yield from queue.backlog.references()

    def _open(self, ref: int, *, body: bool) -> Item | None:
        number, seq = split_reference(ref)
        segment = self._queue.segments.get(number)
        return None if segment is None else self._queue.try_open(segment, seq, self._queue.states.get(ref), body=body)

    async def show(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """One message with its envelope and edits; None when it is not in this process's files."""
        ref = await self._find(args)
        if ref is None:
            return None
        item = await asyncio.to_thread(self._open, ref, body=False)
        if item is None:
            return None
        return {**summary(item), "edits": item.meta["edits"], "recipients": recipients(item)}

    async def _find(self, args: dict[str, Any]) -> int | None:
        number = decode_id(str(args.get("id", "")))
        if number is None:
            raise OpRefused("usage", f"{args.get('id')!r} is no queue id: it has 13 characters, as in the 250 reply")
        return await asyncio.to_thread(self._queue.find, number)

    # -- changing ---------------------------------------------------------------------------------------------------

    async def _take(self, args: dict[str, Any]) -> Item | None:
        """The message out of its line and in our hands; None when it is not here."""
        ref = await self._find(args)
        if ref is None:
            return None
        item = await asyncio.to_thread(self._open, ref, body=True)
        if item is None:
            return None
        if not self._queue.withdraw(item, ref):
            raise OpRefused("busy", f"{item.queue_id} is being delivered at this moment; try again")
        return item

    async def retry(self, args: dict[str, Any]) -> dict[str, Any] | None:
        item = await self._take(args)
        if item is None:
            return None
        item.due = 0.0
        await self._queue.record(item)
        self._wake()
        return {"id": item.queue_id, "state": "ready"}

    async def hold(self, args: dict[str, Any]) -> dict[str, Any] | None:
        item = await self._take(args)
        if item is None:
            return None
        item.state["held"] = "queue.held_by_operator"
        await self._queue.record(item)
        return {"id": item.queue_id, "state": "held"}

    async def release(self, args: dict[str, Any]) -> dict[str, Any] | None:
        item = await self._take(args)
        if item is None:
            return None
        item.state["held"] = ""
        item.due = 0.0
        await self._queue.record(item)
        self._wake()
        return {"id": item.queue_id, "state": "ready"}

    async def delete(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """Gone without a report: for the operator, and audited by the supervisor."""
        item = await self._take(args)
        if item is None:
            return None
        await self._end(item)
        return {"id": item.queue_id, "state": "deleted"}

    async def refuse(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """A held message ends with a report to its sender (PIPE-2)."""
        item = await self._take(args)
        if item is None:
            return None
        reason = item.held or "queue.held_by_operator"
        waiting = [r for r, fate in zip(item.recipients, item.fates, strict=True) if fate is Fate.WAITING]
        for report in self._reporter.refused(item, [(recipient, reason) for recipient in waiting]):
            await self._queue.commit(report)
        await self._end(item)
        self._wake()
        return {"id": item.queue_id, "state": "refused"}

    async def _end(self, item: Item) -> None:
        item.fates = [Fate.FAILED if fate is Fate.WAITING else fate for fate in item.fates]
        await self._queue.record(item)

    async def expire_held(self, now: float, seconds: Callable[[str], float]) -> int:
        """Refuse what was held longer than `seconds(reason)`; how many (PIPE-2)."""
        ended = 0
        for number, ref in list(self._queue.held.items()):
            item = await asyncio.to_thread(self._open, ref, body=False)
            if item is not None and now - item.meta["at"] >= seconds(item.held):
                await self.refuse({"id": encode_id(number)})
                ended += 1
        return ended


def summary(item: Item) -> dict[str, Any]:
    """One line of `zegel queue list`."""
    meta = item.meta
    return {
        "id": item.queue_id,
        "tenant": meta["tenant"],
        "stream": meta["stream"],
        "class": meta["class"],
        "from": meta["from"],
        "recipient_count": len(meta["rcpt"]),
        "waiting": sum(fate is Fate.WAITING for fate in item.fates),
        "accepted_at": meta["at"],
        "due": item.due,
        "tries": item.state.get("tries", 0),
        "held": item.held,
    }


def recipients(item: Item) -> list[dict[str, str]]:
    """Each recipient with its fate."""
    return [
        {"address": recipient.address, "state": fate.name.lower()}
        for recipient, fate in zip(item.recipients, item.fates, strict=True)
    ]


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
