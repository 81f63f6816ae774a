"""Queued copies for people who were erased, in the process that has them: dropped, with a line in the delivery log (GDPR-8).

Theory of operation. Who is new is looked for in the queue files, by slices (relay.spool.sweep); a call ends after BUDGET_SECONDS
and the next one goes on from there. All who come while a search is under way are looked for in one next search. What was found
is followed until the person waits in it no more and, once it is final, until it has left the file. All mail of a tenant that was
deleted is looked for, and goes, in the same way, without a line (GDPR-18).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from relay.consent.erased import Deleted, Erased, finder
from relay.delivery.passes import Passes
from relay.keyring import Keyring
from relay.observe import privacy_metrics
from relay.serve.queue_ops import Say
from relay.spool.backlog import reference
from relay.spool.cipher import CorruptRow
from relay.spool.files import QueueFiles
from relay.spool.hand import Busy, Hand, Unreadable
from relay.spool.item import Fate, Item, last_id
from relay.spool.segment import FINAL, Segment
from relay.spool.strike import Strikes, is_meant, strike
from relay.spool.sweep import Sweep
from relay.trace import whose

PURGE_APART_SECONDS = 60.0
BUDGET_SECONDS = 1.0
"""Of one call, so that it answers well within relay.serve.supervisor.ANSWER_SECONDS; about half of the time is the mail's."""


EVERY_ID = (1 << 63) - 1
Sought: TypeAlias = Erased | Deleted
Finder = Callable[[Mapping[int, Any]], Callable[[int, str], Collection[int]]]
"""Of what is sought: what says whose a tenant's mail to an address is."""


class Search(NamedTuple):
    """One search, for these people by the numbers of their erasures, or for tenants by theirs."""

    people: dict[int, Sought]
    sweep: Sweep
    strikes: Strikes


class Striking:
    """Over the queue of one process."""

    def __init__(self, queue: QueueFiles, passes: Passes, say: Say, keyring: Keyring) -> None:
        self._queue = queue
        self._people = _Searches(queue, passes, say, lambda people: finder(people, keyring))
        self._tenants = _Searches(queue, passes, None, _of_tenants)

    async def run(self, args: dict[str, Any]) -> dict[str, int]:
        """`people`: see `Erased`, each with the `id` of the erasure; or `tenants`: see `Deleted`. Answers by that id, or by the
        tenant's, as text, how much is not over: messages that are busy or not purged, and 1 while it is looked for them; and
        one of `workers`.

        Raises SpoolUnavailable, sqlite3.Error or OSError; then the next call goes on from there.
        """
        await self._queue.adopt_orphans()
        found = {int(row["id"]): Erased.load(row) for row in args.get("people", ())}
        tenants = {row["tenant_id"]: Deleted(**row) for row in args.get("tenants", ())}
        left = await self._people.run(found) if found else {}
        left |= await self._tenants.run(tenants) if tenants else {}
        return {"workers": 1, **{str(number): count for number, count in left.items()}}


class _Searches:
    """All searches for what is `Erased`, or for what is `Deleted`."""

    def __init__(self, queue: QueueFiles, passes: Passes, say: Say | None, finder: Finder) -> None:
        """Where there is no `say` nothing is written down of what goes."""
        self._queue, self._passes, self._say, self._finder = queue, passes, say, finder
        self._hand = Hand(queue)
        self._searches: list[Search] = []
        self._whole = True  # the last search has been through once
        self._purged_at = float("-inf")

    async def run(self, people: Mapping[int, Sought]) -> dict[int, int]:
        """How much of each is not over. See Striking."""
        monotonic = self._queue.clock.monotonic
        end = monotonic() + BUDGET_SECONDS
        self._begin(people)
        left: Counter[int] = Counter(people.keys() - {number for one in self._searches for number in one.people})
        for search in self._searches:
            is_whole = await search.sweep.advance(lambda: monotonic() >= end)
            if search is self._searches[-1]:
                self._whole = is_whole
            if not is_whole:
                left.update(search.people.keys())
            await self._follow(search, left, lambda: monotonic() >= end)
        return {number: left[number] for number in people}

    def _begin(self, people: Mapping[int, Sought]) -> None:
        """Searches that nobody asks for any more end; one for all who are new begins where none is under way."""
        self._searches = [one for one in self._searches if one.people.keys() & people.keys()]
        sought = {number for one in self._searches for number in one.people}
        fresh = {number: one for number, one in people.items() if number not in sought}
        if not fresh or (self._searches and not self._whole):
            return
        his, last = self._finder(fresh), {number: _last_id(one) for number, one in fresh.items()}

        def named(tenant: int, message: int, address: str) -> list[int]:
            return [number for number in his(tenant, address) if message <= last[number]]

        tenants = {one.tenant_id for one in fresh.values()}
        sweep = Sweep(self._queue.shelf, self._queue.box, tenants, max(last.values()), named)
        self._searches.append(Search(fresh, sweep, lambda *mail: bool(named(*mail))))
        self._whole = False

    # -- what was found ---------------------------------------------------------------------------------------------

    async def _follow(self, search: Search, left: Counter[int], is_late: Callable[[], bool]) -> None:
        """What still waits is struck, what is final is to leave its file; `left` counts up for all that is not over."""
        met, live = search.sweep.met, set[int]()
        final: dict[int, set[int]] = {}  # segment -> people
        for number in list(met):
            segment = self._queue.shelf.segments.get(number)
            if segment is None:
                del met[number]
                continue
            if is_late():
                left.update(itertools.chain.from_iterable(met[number].values()))
                continue
            newest = await asyncio.to_thread(segment.newest_of, list(met[number]))
            for message, people in list(met[number].items()):
                seq, kind = newest.get(message, (0, None))
                if kind == FINAL:
                    final.setdefault(number, set()).update(people)
                elif kind is None or (not is_late() and await self._is_over(segment, seq, message, search.strikes)):
                    del met[number][message]
                    continue
                else:
                    live |= people
                left.update(people)
        self._purge(number for number, people in final.items() if not people <= live)

    async def _is_over(self, segment: Segment, seq: int, number: int, strikes: Strikes) -> bool:
        """Strike a message that is not final; true when it would not go to the person any more, or nobody can read it."""
        item = await asyncio.to_thread(self._opened, segment, seq)
        if item is None:
            return (await asyncio.to_thread(segment.newest_of, [number])).get(number, (0, 0))[0] == seq
        if not is_meant(item, strikes):
            return True  # the others have it when they have it, and it goes with them
        try:
            await self._strike(number, reference(segment.number, seq), strikes)
        except Busy:
            pass
        except Unreadable:
            return True
        return False

    def _opened(self, segment: Segment, seq: int) -> Item | None:
        try:
            return self._queue.box.open(segment, seq, body=False)
        except (CorruptRow, ValueError, KeyError, TypeError):
            return None

    async def _strike(self, number: int, ref: int, strikes: Strikes) -> None:
        item = await self._hand.pick(number, ref)
        if item is None:
            return
        fates = list(item.fates)
        try:
            count = strike(item, strikes)
            await self._queue.record(item)
        except Exception:  # a bug too must not keep it out of everybody's sight
            item.fates = fates
            self._queue.release(item)
            raise
        if Fate.WAITING not in item.fates:
            self._passes.forget(number)
        if count and self._say is not None:
            privacy_metrics.STRUCK.inc((), count)
            now = self._queue.clock.now()
            self._say(number, "dropped", now, **whose(item), by="erasure", recipients=count)

    def _purge(self, numbers: Iterable[int]) -> None:
        """What is final leaves the disk early, for many erasures together: it costs what else is in the same files."""
        wanted, now = set(numbers), self._queue.clock.monotonic()
        if wanted and now - self._purged_at >= PURGE_APART_SECONDS:
            self._purged_at = now
            self._queue.shelf.hasten(wanted)


def _last_id(one: Sought) -> int:
    """Of a tenant that was deleted nothing is new data."""
    return last_id(one.until) if isinstance(one, Erased) else EVERY_ID


def _of_tenants(tenants: Mapping[int, Sought]) -> Callable[[int, str], list[int]]:
    return lambda tenant_id, address: [tenant_id] if tenant_id in tenants else []
