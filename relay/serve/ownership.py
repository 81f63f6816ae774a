"""The owner of the data folder inside the supervisor: one thread that writes, and what else only one process may do.

Operations that arrive while one commit runs share the next (relay.owner). The thread also keeps thread memory and
small counts; nothing of it touches the path of a message.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import sqlalchemy.exc

from relay.clock import SystemClock
from relay.counters.door import enter
from relay.counters.embedded import EmbeddedCounters
from relay.counters.once import is_first
from relay.dkim import rotation
from relay.dns import Resolver
from relay.keyring import Keyring, KeyringError
from relay.observe import events, metrics
from relay.observe.actor import OPERATOR, actor
from relay.observe.log import log
from relay.owner import READ_ONLY, Owner, OwnerError, Reader
from relay.owner.evidence import gather_evidence
from relay.owner.holds import record_of
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.incidents import clocks, tell_opened
from relay.serve.retention import Forgetting
from relay.settings.model import Settings
from relay.smtp.desk import place_of
from relay.store import StoreUnavailable
from relay.store.logfiles import LOST
from relay.store.threads import Threads

DAY_SECONDS = 86_400.0
UPKEEP_SECONDS = 3600.0
LOOK_SECONDS = 0.25
MAX_TOGETHER = 64
READERS = 2
LONG_READERS = 2
# They walk whole chains, or many files.
LONG_READS = frozenset(("consent.verify", "consent.heads", "mailing.page", "tenant.holds"))
WRITE_FAILED = "the shared database cannot be written"
DAMAGED = "the shared database is damaged, or somebody else has changed it: put it back, or restore it from a backup"
GONE = "the shared database was deleted or replaced: put it back under its name, from a backup if need be"
UNREADABLE = "the shared database cannot be read: look at it and at its disk with `zegel doctor`, then do it again"
LEAVING = frozenset(("optout", "consent.withdraw", "suppression.add", "consent.erase", "mydata.change", "mydata.erase"))
IN_CHUNKS = frozenset(
    (
        "consent.export",
        "consent.import_rows",
        "consent.records",
        "consent.used",
        "incident.seen",
        "outcome.tell",
        "retention.run",
        "suppression.bounced",
        "tenant.empty",
    )
)

Waiting = tuple[str, dict[str, Any], "asyncio.Future[Any]", str]  # operation, arguments, its answer, who asks


class Ownership:
    """Holds the owner's lock from `take` to `release`."""

    def __init__(self, settings: Settings, on_new_log: Callable[[], object] = lambda: None) -> None:
        """`on_new_log` is called when every process that has the database open must be replaced."""
        self._settings = settings
        self._on_new_log = on_new_log
        self._clock = SystemClock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="owner")
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="reader")
        self._long_readers = ThreadPoolExecutor(max_workers=LONG_READERS, thread_name_prefix="long-reader")
        self._waiting: list[Waiting] = []
        self._running: asyncio.Task[None] | None = None
        self._failure = ""
        self._examined = b""  # what the file was like when it was last found damaged
        self._looking = asyncio.Lock()
        self._owner: Owner | None = None
        self._reader: Reader | None = None

    def take(self) -> None:
        """Open keys, database, memory and counters. Raises OwnerError, KeyringError or StoreUnavailable, each with a remedy."""
        data = self._settings.server.data_dir
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keyring = Keyring.open(self._settings.server.keys_dir, create=False)
        self._owner = Owner.open(_Places(self._settings), self.keyring, policies=self._settings.policies)
        self._reader = Reader.open(_Places(self._settings), self.keyring)
        self._threads = Threads(data, self.keyring.subject_hashes, writable=True)
        self._counters = EmbeddedCounters(data)
        self._resolver = Resolver()
        metrics.STORE_USABLE.set(1.0)

    def take_in(self, settings: Settings) -> None:
        """New settings for what is asked, and forgotten, from now on."""
        self._settings = settings
        if self._owner is not None:
            self._owner.judge_by(settings.policies)

    def release(self) -> None:
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._long_readers.shutdown(wait=True, cancel_futures=True)
        self._thread.shutdown(wait=True)
        if self._reader is not None:
            self._reader.close()
        if self._owner is not None:
            self._owner.close()
            self._threads.close()

    def vacate(self, place: int) -> None:
        """A worker ended: nothing of it is present any more."""
        if place >= 0:
            self._counters.vacate(place)

    async def problems(self) -> list[str]:
        """Why the gateway is not ready, as far as the shared database goes."""
        if self._failure != DAMAGED:  # to examine one takes long; the answer may not
            await self._look()
        return [self._failure] if self._failure else []

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look at the database again and again: nobody may read it while it is not as its owner left it (PIPE-3)."""
        while not stopping.is_set():
            try:
                await self._look()
            except Exception as error:  # who looks must go on looking: without it nothing would ever be read again
                metrics.CRASHES.inc(("owner",))
                log.error(events.STORE_FAILED, kind=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Where the database stands. After a failure a write is tried; a damaged one is examined when it has changed."""
        owner = self._owner
        assert owner is not None
        async with self._looking:
            was, mark = self._failure, None
            try:
                if was == DAMAGED:
                    mark = await self._examine(owner)
                    if mark is None:
                        return
                else:
                    if was and await self._in_thread(owner.keep_log):
                        log.warning(events.STORE_LOG_RENEWED)
                        self._on_new_log()
                    await self._in_thread(partial(owner.check, write=bool(was)))
                if was:
                    await self._in_thread(owner.take_back, mark)
                    assert self._reader is not None
                    self._reader.renew()
            except (StoreUnavailable, sqlite3.Error, sqlalchemy.exc.DatabaseError, OSError) as error:
                await self._fail(error)
                return
            if was:
                log.info(events.STORE_RECOVERED)
                self._failure = ""
                metrics.STORE_USABLE.set(1.0)

    async def _examine(self, owner: Owner) -> bytes | None:
        """The mark of a database that was found whole; None where it is damaged, and for one that is as it was then."""
        mark = owner.mark()
        if mark == self._examined:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, owner.examine)
        except (StoreUnavailable, sqlite3.Error, OSError) as error:
            if getattr(error, "damaged", False):  # else it could not be examined, which is tried again
                self._examined = mark
            return None

    async def _fail(self, error: Exception) -> None:
        """Take note, tell, and let nobody read what its owner did not leave so."""
        owner = self._owner
        assert owner is not None
        damaged = bool(getattr(error, "damaged", False))
        gone = not damaged and await self._in_thread(owner.is_gone)
        lost = not gone and await self._in_thread(lambda: owner.has_lost_log)
        why = DAMAGED if damaged else GONE if gone else LOST if lost else WRITE_FAILED
        if self._failure in (why, DAMAGED):  # what is damaged stays so until it has been examined
            return
        self._failure, self._examined = why, b""
        metrics.STORE_USABLE.set(0.0)
        log.error(events.STORE_FAILED, kind=type(error).__name__)
        if await self._in_thread(owner.set_aside, damaged):
            log.error(events.STORE_BARRED, why=why)

    async def call(self, op: str, args: dict[str, Any]) -> Any:
        """One operation of relay.owner, or one of the small ones here. Raises OpRefused or OpUnavailable."""
        small = _SMALL.get(op)
        if small is not None:
            return await asyncio.get_running_loop().run_in_executor(self._thread, small, self, args)
        assert self._owner is not None
        if op in READ_ONLY:
            return await self._read(op, args)
        try:
            names = await self._in_thread(self._owner.questions, op, args)
            if names:
                args = {**args, **await gather_evidence(self._resolver, names)}
        except OwnerError as error:
            raise OpRefused(error.code, error.text) from None
        except (StoreUnavailable, sqlalchemy.exc.DatabaseError) as error:
            log.error(events.STORE_FAILED, kind=type(error).__name__)
            raise OpUnavailable("store", UNREADABLE) from None
        return await self._queue(op, args)

    @property
    def counters(self) -> EmbeddedCounters:
        """What this node counts."""
        return self._counters

    async def audit_decision(self, op: str, args: dict[str, Any], incident: dict[str, Any] | None) -> None:
        """Who decided what about a queued message (GDPR-2), and the `incident` that came of it (CC-20).

        It is done and in the delivery log; only these records can be lost.
        """
        try:
            await self._queue("hold.decided", record_of(op, args))
            if incident is not None:
                rows = {"rows": [incident], **clocks(self._settings.incidents)}
                tell_opened(await self._queue("incident.seen", rows))
        except (OpRefused, OpUnavailable) as error:
            metrics.RECORDS_LOST.inc(("audit",))
            log.error(events.STORE_FAILED, kind=type(error).__name__)

    async def _read(self, op: str, args: dict[str, Any]) -> Any:
        """What only reads never holds up who leaves: the walk of a long chain takes minutes (CONSENT-11).

        Nor does such a walk hold up a short question: it has threads of its own.
        """
        assert self._reader is not None and self._owner is not None
        if not self._owner.is_readable:
            raise OpUnavailable("store", UNREADABLE)
        threads = self._long_readers if op in LONG_READS else self._readers
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, self._reader.call, op, args)
        except OwnerError as error:
            raise OpRefused(error.code, error.text) from None
        except (StoreUnavailable, sqlalchemy.exc.DatabaseError) as error:
            log.error(events.STORE_FAILED, kind=type(error).__name__)
            raise OpUnavailable("store", UNREADABLE) from None

    def _queue(self, op: str, args: dict[str, Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((op, args, future, actor.get()))
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._work())
        return future

    async def _work(self) -> None:
        assert self._owner is not None
        while self._waiting:
            batch, self._waiting = next_batch(self._waiting)
            calls = [(op, args, who) for op, args, _, who in batch]
            try:
                answers = await self._in_thread(self._owner.call_many, calls)
            except (StoreUnavailable, sqlite3.Error, OSError) as error:
                await self._fail(error)
                answers = [OpUnavailable("store", str(error))] * len(batch)
            except Exception as error:  # a bug in one operation: the others of the batch must be answered too
                log.error(events.OP_CRASHED, op=calls[0][0], kind=type(error).__name__)
                metrics.CRASHES.inc(("owner",))
                answers = [OpUnavailable("owner")] * len(batch)
            for (op, _, future, who), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, OwnerError):
                    future.set_exception(OpRefused(answer.code, answer.text))
                elif isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    _count(op, who)
                    future.set_result(answer)

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def upkeep(self, stopping: asyncio.Event) -> None:
        """Once an hour: what is older than its class is forgotten (GDPR-11, GDPR-14)."""
        forgetting = Forgetting(self._queue, self._read, partial(self._in_thread, self._threads.forget))
        while not stopping.is_set():
            now = self._clock.now()
            try:
                await forgetting.run(self._settings, self.keyring, now)
                await self._anchor(now)
                await self._check_keys(now)
            except (sqlite3.Error, OSError, OpRefused, OpUnavailable) as error:
                metrics.UPKEEP_FAILURES.inc()
                log.error(events.UPKEEP_FAILED, kind=type(error).__name__)
            except Exception as error:  # what is due must go on being forgotten
                metrics.UPKEEP_FAILURES.inc()
                metrics.CRASHES.inc(("owner",))
                log.error(events.UPKEEP_FAILED, kind=type(error).__name__, place=place_of(error))
            await asyncio.sleep(UPKEEP_SECONDS)

    async def _anchor(self, now: float) -> None:
        """Once a day the head of every chain into the log: who rewrites a ledger later meets it there (CONSENT-14)."""
        if await self._in_thread(is_first, self._counters, "anchor", DAY_SECONDS, now):
            for head in await self._read("consent.heads", {}):
                log.info(events.LEDGER_ANCHORED, **head)

    async def _check_keys(self, now: float) -> None:
        """Each published key is looked at daily, and one that is to take over every hour until it does (DKIM-8, DKIM-9)."""
        for name in rotation.to_check(await self._read("dkim.list", {}), now):
            for row in await self.call("dkim.check", {"domain": name}):
                if row["match"] not in ("matches", "unknown") and row["state"] == "active":
                    log.warning(events.DKIM_DIFFERED, domain=name, selector=row["selector"])

    # -- small operations, in the owner's thread --------------------------------------------------------------------

    def _remember(self, args: dict[str, Any]) -> None:
        try:
            self._threads.remember(int(args["key"]), args["shown"], float(args["at"]), int(args["tenant"]))
        except sqlite3.Error as error:
            metrics.RECORDS_LOST.inc(("thread",))
            log.error(events.STORE_FAILED, kind=type(error).__name__)

    def _once(self, args: dict[str, Any]) -> bool:
        """True the first time in each day for this key (CC-18)."""
        return is_first(self._counters, "notice:" + str(args["key"]), DAY_SECONDS, self._clock.now())

    def _enter(self, args: dict[str, Any]) -> float:
        """0.0 where a page that is open to everybody may be used with `key`, else the seconds until it may."""
        key, seconds = f"web:{args['key']}", float(args["window_seconds"])
        return enter(self._counters, key, limit=int(args["limit"]), seconds=seconds, now=self._clock.now())


def next_batch(waiting: list[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
    """Who shares the next commit, and who waits: people who leave go first, and at most one chunk of many rows goes along.

    So an opt-out waits for one chunk at most, however many imports run and bounces come (CONSENT-11).
    """
    batch: list[Waiting] = []
    rest: list[Waiting] = []
    for call in waiting:
        if call[0] in LEAVING:
            (batch if len(batch) < MAX_TOGETHER else rest).append(call)
    chunks = 0
    for call in waiting:
        if call[0] in LEAVING:
            continue
        is_chunk = call[0] in IN_CHUNKS
        chunks += is_chunk
        if len(batch) < MAX_TOGETHER and (not is_chunk or chunks == 1):
            batch.append(call)
        else:
            rest.append(call)
    return batch, rest


def _count(op: str, who: str) -> None:
    """People who left through the operator; the portal counts those who left by themselves, or by a tenant's program."""
    if op == "consent.withdraw" and who.startswith(OPERATOR):
        metrics.UNSUBSCRIBES.inc(("operator",))


class _Places:
    """The settings with the database's path made whole, as relay.owner wants them."""

    class _Storage:
        def __init__(self, database: str) -> None:
            self.database = database

    def __init__(self, settings: Settings) -> None:
        self.server = settings.server
        self.storage = self._Storage(f"sqlite:///{settings.database_path}")


_SMALL = {"thread.remember": Ownership._remember, "notice.once": Ownership._once, "web.enter": Ownership._enter}

__all__ = ["KeyringError", "Ownership"]
