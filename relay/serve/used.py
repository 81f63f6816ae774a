"""Writes down on which consent each delivered mail rested, beside the road of the message (CONSENT-13, CONSENT-15).

The loop keeps a line for a message, and nothing else is done there. A thread looks up what it rested on and writes twice
a second, durably; what cannot be read or written now is tried with the next. Who dies takes half a second with him
(decision 017). The first use of a consent in each month is told to the owner, from whose mark it ages.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from relay.consent.rested import Mailed, Rest, Rested
from relay.delivery.outcome import Delivered, Outcome
from relay.keyring import Keyring
from relay.mail.envelope import MailClass
from relay.observe import metrics
from relay.observe.use_metrics import USES
from relay.policy.ageing import month_of
from relay.serve.channel import OpRefused, OpUnavailable
from relay.settings.model import Settings
from relay.spool.item import Item
from relay.store.generation import Generation
from relay.store.history import short_hash
from relay.store.uses import FOLDER, Use, UseFiles

FLUSH_SECONDS = 0.5
TELL_SECONDS = 1.0
MOST_WAITING = 200_000  # mails, while the database or the disk is away
KEYS_AT_ONCE = 500

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Sent(NamedTuple):
    """A message and whom it reached in one round."""

    id: int
    tenant: int
    purpose: str
    at: float
    addresses: tuple[str, ...]


class Uses:
    """One for a process. `saw` is for the loop's thread and never waits; `rested` and `files` are for the thread alone."""

    def __init__(self, files: UseFiles, rested: Rested) -> None:
        self._files = files
        self._rested = rested
        self._waiting: deque[Sent] = deque()
        self._undone: list[Sent] = []  # of the thread
        self._fresh: deque[tuple[bytes, float]] = deque()  # keys of consents first used in a month, and its start
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, settings: Settings, process: str, generation: Generation) -> Uses:
        """Those of one process of the gateway. The thread has a keyring of its own, since its reads renew it."""
        keyring = Keyring.open(settings.server.keys_dir, create=False)
        return cls(
            UseFiles(settings.server.data_dir / FOLDER, process),
            Rested(settings.database_path, keyring, generation=generation),
        )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="uses", daemon=True)
        self._thread.start()

    def saw(self, item: Item, outcomes: Mapping[int, Outcome], now: float) -> None:
        """A round of deliveries has ended. Only advertising rests on a consent; a confirmation rests on having asked."""
        meta = item.meta
        if meta["class"] != MailClass.COMMERCIAL or meta.get("confirm"):
            return
        rcpt = meta["rcpt"]
        got = tuple([rcpt[index][0] for index, outcome in outcomes.items() if type(outcome) is Delivered])
        if got:
            self._waiting.append(Sent(item.id, item.tenant, meta["purpose"], now, got))

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
        self.flush()
        lost = len(self._undone) + len(self._waiting)
        if lost:
            metrics.RECORDS_LOST.inc(("use",), lost)
        self._files.close()
        with contextlib.suppress(sqlite3.Error):
            self._rested.close()

    def flush(self) -> None:
        """Write what was seen; what cannot be is put by, as far as there is room."""
        batch, self._undone = self._undone, []
        while self._waiting:
            batch.append(self._waiting.popleft())
        if not batch:
            return
        mailed = [Mailed(sent.tenant, sent.purpose, address, sent.at) for sent in batch for address in sent.addresses]
        try:
            rests = self._rested.of(mailed)
            ids = [sent.id for sent in batch for _ in sent.addresses]
            self._files.write([_use(*row) for row in zip(ids, mailed, rests, strict=True)])
        except (sqlite3.Error, OSError):
            self._undone = batch[-MOST_WAITING:]
            if len(batch) > MOST_WAITING:
                metrics.RECORDS_LOST.inc(("use",), len(batch) - MOST_WAITING)
            return
        month, last = month_of(batch[0].at), month_of(batch[-1].at)
        for mail, rest in zip(mailed, rests, strict=True):
            if rest.used_at < last and rest.event and len(self._fresh) < MOST_WAITING:  # else the next mail tells
                self._fresh.append((rest.key, month if month == last else month_of(mail.at)))
        shown = sum(rest.event > 0 for rest in rests)
        USES.inc(("record",), shown)
        USES.inc(("nothing",), len(rests) - shown)

    # -- in the loop ------------------------------------------------------------------------------------------------

    async def run(self, call: Call) -> None:
        """Without end: write, and tell the owner which consents were used."""
        self.start()
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self.tell(call)

    async def tell(self, call: Call) -> None:
        """Tell the owner which consents were used for the first time in a month; what it cannot hear now is told again."""
        fresh = {}
        while self._fresh:
            key, month = self._fresh.popleft()
            fresh[key] = month
        keys = list(fresh)
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            try:
                await call("consent.used", {"keys": [key.hex() for key in some], "at": max(fresh[key] for key in some)})
            except (OpRefused, OpUnavailable):
                self._fresh.extendleft((key, fresh[key]) for key in keys[start:])
                return

    async def stop(self, call: Call) -> None:
        """Everything that was seen is written and told when this returns, as far as that can be done."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        await self.tell(call)


def _use(number: int, mail: Mailed, rest: Rest) -> Use:
    return Use(short_hash(rest.key), mail.at, number, mail.tenant, rest.event, rest.rule)
