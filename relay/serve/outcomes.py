"""What became of deliveries, counted: windows of senders, suppressions of addresses that do not exist, letters to tenants.

Outcomes are gathered for a moment and counted together, so a message pays for one look into a dictionary. What cannot be counted
or stored now (Redis is away, the owner starts again) waits here and is tried with the next; who dies takes that moment with him.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from relay.clock import Clock
from relay.counters.contract import CountersUnavailable
from relay.counters.ring import DELIVERED, REFUSED, SIZE, UNKNOWN, News
from relay.counters.windows import Place
from relay.delivery.outcome import Deferred, Delivered, Outcome
from relay.mail.envelope import MailClass, Stream, Tenant
from relay.mail.letters import standing_letter
from relay.observe import events, metrics
from relay.observe.log import log
from relay.observe.scarcity import scarcity
from relay.recheck import is_paused
from relay.reputation.book import Book, Change, Seat, Sender, seats_of
from relay.reputation.bounce import kind_of
from relay.serve.channel import OpRefused, OpUnavailable
from relay.spool.item import Item

FLUSH_SECONDS = 0.25
AFTER_SECONDS = 0.05
MOST_WAITING = 20_000
ROWS_AT_ONCE = 100
WORDS = ("delivered", "bounced", "unknown", "refused")

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Outcomes:
    """Counts for one process. `call` asks the owner and the workers; somebody must run `watch`."""

    def __init__(
        self, book: Book, call: Call, clock: Clock, *, tenant: Callable[[int], Tenant | None], house: tuple[str, str]
    ) -> None:
        """`tenant` answers whose a number is; `house` is the gateway's name and the address of its pages."""
        self.book = book
        self._call = call
        self._clock = clock
        self._tenant = tenant
        self._house = house
        self._releases = -1  # nobody has looked yet
        self._releasing: asyncio.Task[None] | None = None
        self._fresh: dict[Sender, bytearray] = {}
        self._bad = asyncio.Event()
        self._waiting: dict[Place, tuple[Seat, Sender, News]] = {}
        self._dead: list[dict[str, Any]] = []
        self._letters: list[dict[str, Any]] = []

    # -- on the road of a message -----------------------------------------------------------------------------------

    def saw(self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool) -> None:
        """A round of deliveries has ended; what is to be tried again says nothing yet, nor does what was refused here."""
        meta = item.meta
        if meta["class"] == MailClass.SYSTEM:
            return
        sender = Sender(item.tenant, meta["credential"], meta["stream"], meta["domain"])
        codes = bytearray()
        for index, outcome in outcomes.items():
            if isinstance(outcome, Delivered):
                codes.append(DELIVERED)
            elif isinstance(outcome, Deferred):
                if gave_up and outcome.code:
                    codes.append(REFUSED)
            elif outcome.code:
                address = meta["rcpt"][index][0]
                is_ours = outcome.of_nobody or _names(outcome.reply, meta["from"], but_not=address)
                kind = REFUSED if is_ours else kind_of(outcome.status, outcome.reply, outcome.code)
                codes.append(kind)
                if kind == UNKNOWN and meta["stream"] != Stream.PERSONAL and len(self._dead) < MOST_WAITING:
                    self._dead.append({"tenant": meta["tenant"], "address": address})
        if codes:
            self._fresh.setdefault(sender, bytearray()).extend(codes)
            if max(codes):
                self._bad.set()

    def release(self, ask: Callable[[Callable[[Item], bool]], Awaitable[int]]) -> None:
        """After a person has released somebody, here or at another gateway: `ask` lets mail go that is paused no more.

        Much may be held, so nobody waits for it.
        """
        releases = self.book.windows.marks()[1]
        if releases < 0 or releases == self._releases or not (self._releasing is None or self._releasing.done()):
            return
        self._releasing = asyncio.get_running_loop().create_task(self._release(ask, releases))

    async def _release(self, ask: Callable[[Callable[[Item], bool]], Awaitable[int]], releases: int) -> None:
        try:
            released = await ask(partial(is_paused, self.book))
        except Exception as error:  # the next look tries again
            _crashed(error)
            return
        self._releases = releases
        if released:
            log.info(events.REPUTATION_RELEASED, message_count=released)

    # -- beside it --------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Without end: count what was seen, four times a second, and sooner where there is bad news."""
        while True:
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._bad.wait()
            except TimeoutError:
                pass
            self._bad.clear()
            try:
                await self.flush()
            except Exception as error:  # who counts must go on counting
                _crashed(error)
            is_away = bool(self._waiting or self._dead or self._letters)
            await asyncio.sleep(FLUSH_SECONDS if is_away else AFTER_SECONDS)  # bad news comes in heaps

    async def flush(self) -> None:
        """Count everything that was seen, as far as that can be done now."""
        fresh, self._fresh = self._fresh, {}
        for sender, codes in fresh.items():
            for code, word in enumerate(WORDS):
                if number := codes.count(code):
                    metrics.OUTCOMES.inc((word,), number)
            self.tell(sender, News(ended=bytes(codes)))
        await self.count()
        await self._store_dead()
        await self._send_letters()

    def tell(self, sender: Sender, news: News) -> None:
        """Put by what is to be counted for a sender."""
        for seat in seats_of(sender):
            known = self._waiting.get(seat.place)
            if known is None and len(self._waiting) >= MOST_WAITING:
                metrics.RECORDS_LOST.inc(("outcome",), len(news.ended) + len(news.late) + news.complaints)
                continue
            self._waiting[seat.place] = (seat, sender, _joined(known[2], news) if known else news)

    async def count(self) -> None:
        """Count what was put by; what cannot be is put by again."""
        waiting, self._waiting = self._waiting, {}
        now = self._clock.now()
        asked = [self.book.count(seat, news, now) for seat, _, news in waiting.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        changes: list[Change] = []
        for (place, (seat, sender, news)), answer in zip(waiting.items(), answers, strict=True):
            if isinstance(answer, CountersUnavailable):
                later = self._waiting.get(place)
                self._waiting[place] = (seat, sender, _joined(news, later[2]) if later else news)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer is not None:
                changes.append(answer)
        self._announce(changes)

    def _announce(self, changes: Sequence[Change]) -> None:
        """Into the log each; to the tenant's contact one letter of all that is worse."""
        worse: dict[int, list[Change]] = {}
        for change in changes:
            tenant = self._tenant(change.tenant)
            log.warning(
                events.REPUTATION_CHANGED,
                tenant=tenant.name if tenant else "",
                scope=change.scope,
                whose=change.subject,
                before=change.before.word,
                after=change.after.word,
                rule=change.rule,
                deliveries=change.tally.deliveries,
                bounces=change.tally.bounces,
                complaints=change.tally.complaints,
            )
            if change.after > change.before:
                worse.setdefault(change.tenant, []).append(change)
        for number, told in worse.items():
            tenant = self._tenant(number)
            if tenant is not None and tenant.contact:
                self._letters.append(self._letter(tenant, told))

    def _letter(self, tenant: Tenant, changes: Sequence[Change]) -> dict[str, Any]:
        host, url = self._house
        lines = [(change.scope, change.subject or tenant.name, change.after.word, change.rule) for change in changes]
        figures = max((change.tally for change in changes), key=lambda each: each.deliveries)
        numbers = (figures.deliveries, figures.bounces, figures.complaints)
        raw = standing_letter(tenant, lines, numbers, host=host, url=url, now=self._clock.now())
        return {
            "tenant": {"id": tenant.id, "name": tenant.name},
            "recipient": tenant.contact,
            "language": tenant.language,
            "domain": host,
            "raw": raw,
        }

    async def _send_letters(self) -> None:
        letters, self._letters = self._letters, []
        for place, letter in enumerate(letters):
            try:
                await self._call("worker.submit", letter)
            except (OpRefused, OpUnavailable):
                self._letters += letters[place:]
                return

    async def _store_dead(self) -> None:
        """Who does not exist gets nothing more from programs (REP-3)."""
        while self._dead:
            rows, self._dead = self._dead[:ROWS_AT_ONCE], self._dead[ROWS_AT_ONCE:]
            try:
                await self._call("suppression.bounced", {"rows": rows})
            except (OpRefused, OpUnavailable):
                self._dead = rows + self._dead
                return


def _names(reply: str, sender: str, *, but_not: str) -> bool:
    """Whether a host that refuses a recipient names our sender instead, as many do (Postfix: smtpd_delay_reject)."""
    text = reply.lower()
    return bool(sender) and sender.lower() in text and but_not.lower() not in text


def _crashed(error: Exception) -> None:
    if not scarcity.met(error):
        metrics.CRASHES.inc(("watch",))
        log.error(events.WATCH_CRASHED, kind=type(error).__name__)


def _joined(first: News, then: News) -> News:
    """Both, in order; of what waits for long as much as a window holds."""
    ended, late = first.ended + then.ended, first.late + then.late
    return News(ended[-SIZE:], late[-SIZE:], first.complaints + then.complaints)
