"""Held mail for those whom it concerns: its sender by the link in our letter, its tenant by the API, the operator; and what the
operator does to many messages at once.

The same queue and the same changes as relay.serve.queue_ops, with the questions who may look and who may choose: a tenant sees
his own mail only, and the sender's link is for one message, for one time that it is held, until its time is over, and for the
choices that were offered (CC-10). Each is asked when the message is in hand, so that of two who choose at once one is too late.
"""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from relay.delivery.passes import Passes
from relay.delivery.report import Reporter
from relay.mail import preview
from relay.mail.domain import org_domain
from relay.mail.envelope import Stream
from relay.mail.notice import REFUSE
from relay.mail.reply import rule_of
from relay.observe import events
from relay.observe.log import log
from relay.serve.channel import OpRefused
from relay.serve.queue_ops import (
    LIST_LIMIT,
    OVER,
    PAUSED,
    WAYS,
    Decider,
    QueueOps,
    Rows,
    Say,
    held_since,
    number_in,
    recipients,
    summary,
)
from relay.settings.model import Limits
from relay.spool.files import QueueFiles
from relay.spool.hand import Busy, Unreadable
from relay.spool.item import Item, decode_id

# Held until somebody chooses for its sender, not until a person reviews it (CC-10, CC-13).
ASKED = frozenset(("recipients.ask", "recipients.invitation"))
HOUR_SECONDS = 3600.0
EXPIRE_SECONDS = 60.0
NOT_OFFERED = ("held.choice", "this is not for the sender to choose: ask the administrator")


def hold_seconds(limits: Limits, reason: str) -> float:
    """How long mail is held for `reason` before it goes back to its sender (PIPE-2)."""
    return HOUR_SECONDS * (limits.hold_ask_hours if reason in ASKED else limits.hold_review_hours)


def offers(item: Item) -> tuple[str, ...]:
    """What its sender may choose besides not sending it, while it is held for what intake held it for."""
    if item.held != item.meta.get("held"):
        return ()
    return tuple(way for way in str(item.meta.get("held_detail", {}).get("offers", "")).split() if way in WAYS)


class HeldOps(QueueOps):
    """The commands `held.` and `queue.` of one process."""

    def __init__(
        self,
        queue: QueueFiles,
        *,
        wake: Callable[[], None],
        reporter: Reporter,
        say: Say,
        hold_seconds: Callable[[str], float],
        passes: Passes | None = None,
    ) -> None:
        super().__init__(queue, wake=wake, reporter=reporter, say=say, passes=passes)
        self.hold_seconds = hold_seconds
        self._whose: dict[int, int] = {}  # tenants of held messages, as far as they were looked at

    async def run(self, op: str, args: dict[str, Any]) -> Any:
        method = _OPS.get(op)
        return await super().run(op, args) if method is None else await self._guarded(method(self, args), args)

    async def watch(self, stopping: asyncio.Event, crashed: Callable[[BaseException], None]) -> None:
        """Until the gateway stops: refuse what was held too long. A campaign may end at once, so nothing else waits for it."""
        while not stopping.is_set():
            await asyncio.sleep(EXPIRE_SECONDS)
            try:
                expired = await self.expire_held(self._queue.clock.now(), self.hold_seconds, stopping)
            except Exception as error:  # a full disk, for instance: the next look tries again
                crashed(error)
                continue
            if expired:
                log.info(events.HOLD_EXPIRED, message_count=expired)

    # -- looking ----------------------------------------------------------------------------------------------------

    async def page(self, args: dict[str, Any]) -> Rows:
        """Held mail of one tenant, oldest first: at most `limit` after the id `after`."""
        limit, after = min(int(args.get("limit", 100)), LIST_LIMIT), decode_id(str(args.get("after", ""))) or 0
        tenant, held = int(args["tenant_id"]), self._queue.held
        if len(self._whose) > 2 * len(held):
            self._whose = {number: self._whose[number] for number in held if number in self._whose}
        # What another tenant has waiting is opened once, not each time that this one asks.
        whose = self._whose
        refs = array(
            "Q", [ref for number, ref in sorted(held.items()) if number > after and whose.get(number, tenant) == tenant]
        )

        def read() -> Rows:
            found = (item for item in self._noted(refs) if item.tenant == tenant and item.held)
            return [self._described(item) for item in itertools.islice(found, limit)]

        return await asyncio.to_thread(read)

    def _noted(self, refs: array[int]) -> Iterator[Item]:
        """The messages behind `refs`; whose they are is noted. In a thread."""
        for item in self._hand.opened([(None, [refs])], ""):
            self._whose[item.id] = item.tenant
            yield item

    async def look(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """One message of the tenant that is held now; None when it is not here or not his. `since` as for `decide`."""
        item = await self._hand.look(number_in(args), body=True)
        if item is None or not self._concerns(item, args):
            return None
        return {**self._described(item), "subject": preview.subject_of(item.parsed()), "recipients": recipients(item)}

    async def show_content(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """What a person may see of the message that `look` finds: texts as written, not to be trusted, and its files by name."""
        item = await self._hand.look(number_in(args), body=True)
        if item is None or not self._concerns(item, args):
            return None
        return await asyncio.to_thread(lambda: preview.content(item.parsed()).as_json())

    # -- many at once -----------------------------------------------------------------------------------------------

    async def retry_many(self, args: dict[str, Any]) -> dict[str, int]:
        """`queue.retry` of each of `ids` that is here and that nobody has in hand; how many that were. What is held stays so."""
        numbers = [number_in({"id": one}) for one in args["ids"][:LIST_LIMIT]]
        return {"retried": sum(await asyncio.gather(*map(self._retried, numbers)))}

    async def _retried(self, number: int) -> bool:
        try:
            done = await self._change(number, "retried", lambda item: "")
        except (Busy, Unreadable):
            return False
        return done is not None and done["state"] == "ready"

    # -- choosing ---------------------------------------------------------------------------------------------------

    async def decide(self, args: dict[str, Any]) -> dict[str, Any] | None:
        """`choice` of `by` (sender, tenant) for one message that is held `since` then; None when it is not here.

        Raises OpRefused: held.unknown (not his), held.over, held.choice.
        """
        number, choice, by = number_in(args), str(args.get("choice")), str(args.get("by"))
        if choice not in (*WAYS, REFUSE) or by not in ("sender", "tenant"):
            raise OpRefused("usage", f"choice must be one of {', '.join((*WAYS, REFUSE))}")

        def check(item: Item) -> None:
            if item.tenant != args["tenant_id"]:
                raise OpRefused("held.unknown", "there is no such message")
            if not self._concerns(item, args):
                raise OpRefused(*OVER)
            if by == "sender":
                if self._queue.clock.now() >= self._until(item):
                    raise OpRefused(*OVER)
                if choice not in (*offers(item), REFUSE):
                    raise OpRefused(*NOT_OFFERED)

        who = Decider(by, str(args.get("name", "")), check)
        done = await (self._refuse(number, who) if choice == REFUSE else self._release(number, choice, who))
        return done and {**done, "choice": choice}

    async def paused(self, args: dict[str, Any]) -> dict[str, int]:
        """What waits for its paused sender: how many a release of place `freed` lets leave at once, and how many in their turn.

        A place is (scope, subject), "" for any; mail of a place in `still`, which stays paused, waits on.
        """
        now, lots = self._queue.clock.now(), self._hand.places(held=True)

        def turns() -> list[bool]:
            return [
                float(item.meta.get("turn", 0.0)) > now
                for item in self._hand.opened(lots, str(args["tenant"]))
                if item.held == PAUSED
                and _stands_at(item, *args["freed"])
                and not any(_stands_at(item, *place) for place in args.get("still", ()))
            ]

        found = await asyncio.to_thread(turns)
        return {"at_once": found.count(False), "in_turn": found.count(True)}

    def _concerns(self, item: Item, args: dict[str, Any]) -> bool:
        """Whether it is held now, and is what was asked for; the operator asks of every tenant."""
        tenant, since = args.get("tenant_id", item.tenant), args.get("since", held_since(item))
        return bool(item.held) and item.tenant == tenant and since == held_since(item)

    def _until(self, item: Item) -> float:
        return held_since(item) + self.hold_seconds(item.held)

    def _described(self, item: Item) -> dict[str, Any]:
        detail = item.meta.get("held_detail", {}) if item.held == item.meta.get("held") else {}
        return {
            **summary(item),
            "rule": rule_of(item.held),
            "held_detail": detail,
            "held_since": held_since(item),
            "held_until": self._until(item),
            "offers": offers(item),
        }


def _stands_at(item: Item, scope: str, subject: str) -> bool:
    """Whether how this place stands has a say in when the message leaves (relay.recheck.is_paused)."""
    meta = item.meta
    if scope in ("domain", "tenant") and meta["stream"] != Stream.MARKETING:
        return False
    own = {
        "credential": meta["credential"],
        "stream": meta["stream"],
        "domain": meta["domain"] and org_domain(meta["domain"]),
    }
    return scope in ("", "tenant") or subject in ("", own[scope])


_OPS = {
    "queue.retry_many": HeldOps.retry_many,
    "held.paused": HeldOps.paused,
    "held.page": HeldOps.page,
    "held.look": HeldOps.look,
    "held.content": HeldOps.show_content,
    "held.decide": HeldOps.decide,
}
