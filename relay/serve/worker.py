"""One worker process: sessions in, queue files, delivery out. Built, run and drained here, in that order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from relay.clock import SystemClock
from relay.consent.lookup import Lookup
from relay.counters.contract import CountersUnavailable
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import open_shared
from relay.delivery import route
from relay.delivery.capture import Capture
from relay.delivery.hands import Hands
from relay.delivery.pool import Doors, Pool
from relay.delivery.render import Signer
from relay.delivery.report import Reporter
from relay.delivery.scheduler import Scheduler
from relay.directory import Directory
from relay.dkim.sign import Signer as Key
from relay.enqueue import House
from relay.gather import Counting, Gather
from relay.intake import Intake
from relay.keyring import Keyring, KeyringError
from relay.observe import events, metrics
from relay.observe.health import Health
from relay.observe.log import log
from relay.observe.scarcity import scarcity
from relay.policy.catalogue import Catalogue
from relay.policy.pipeline import Pipeline
from relay.recheck import Recheck, Terms
from relay.reputation.book import Book
from relay.reputation.judge import Bounds
from relay.scan import Scan
from relay.serve import descriptors, lag
from relay.serve.boot import HISTORY, QUEUE, Boot, control_path
from relay.serve.channel import Channel, OpRefused, connect, take_leave
from relay.serve.held_ops import HeldOps, hold_seconds
from relay.serve.links import OwnLinks
from relay.serve.outcomes import Outcomes
from relay.serve.overdue import Overdue, noticed
from relay.serve.striking import Striking
from relay.serve.used import Uses
from relay.serve.watch import Watch
from relay.smtp.desk import Desk, LoginLimits, place_of
from relay.smtp.front import Gate, InFlight, Limits
from relay.smtp.listener import Listeners
from relay.spool.cipher import Cipher
from relay.spool.files import QueueFiles
from relay.store import StoreUnavailable
from relay.store.generation import CONSENT, DIRECTORY, Generation
from relay.store.history import History
from relay.store.threads import Threads
from relay.trace import Trace

TICK_SECONDS = 0.25
ADOPT_EVERY_TICKS = 20
AGE_EVERY_TICKS = 60
OVERDUE_EVERY_TICKS = 240
UNREAD = "it has changed and cannot be read"
UNKNOWN = "it cannot be read: logins get 451"


class Worker:
    """Everything of one worker. Call `start`, then `run`."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self.settings = boot.settings
        self.clock = SystemClock()
        data = self.settings.server.data_dir
        self.keyring = Keyring.open(self.settings.server.keys_dir, create=False)
        self.generation = Generation.open(data)
        # Loaded in `start`, and until it can be nobody is let in and nobody is turned away (PIPE-3).
        self._directory = Directory(self.keyring)
        self._directory_seen = -1
        self.counters = EmbeddedCounters(data)
        self.shared = open_shared(
            self.settings.storage, self.counters, kept_seconds=2 * self.settings.limits.reply_timeout_seconds
        )
        self.book = Book(self.shared.windows, Bounds(**self.settings.reputation.model_dump()))
        self.cipher = Cipher(self.keyring.queue_keys, self.keyring.current_queue_key_id)
        self.history = History(data / HISTORY, str(boot.place), self.cipher.seal)
        self.health = Health()
        self._is_stale = self._is_blind = False
        self.stopping = asyncio.Event()
        self._ticks = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def directory(self) -> Directory:
        return self._directory

    def _wake(self) -> None:
        self.pool.wake()

    # -- build ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Queue first, then delivery, then the doors: nothing is accepted before it can be kept and sent."""
        settings, data = self.settings, self.settings.server.data_dir
        self.lookup = Lookup(settings.database_path, self.keyring, generation=self.generation)
        await self._follow_directory()
        self._later(self.shared.watch())
        with contextlib.suppress(CountersUnavailable):  # then nobody is known to be paused, and mail goes on
            await self.shared.windows.look()
        self._later(self.shared.windows.follow())
        self.queue = QueueFiles(
            data / QUEUE,
            self.cipher,
            self.clock,
            on_work=self._wake,
            min_free_bytes=settings.limits.min_free_disk_bytes,
        )
        self.trace = Trace(self.history, self.keyring)
        self.history.start()
        self.channel = await connect(str(control_path(settings)), self._command)
        self._later(self.channel.run())
        await self._build_delivery()
        await self.queue.start()
        self._build_front()
        self.listeners = Listeners(settings, self.desk, self.gate, self.in_flight)
        await self.listeners.start(self.boot.sockets)
        self._check_health()  # a queue that could not be opened is said from the first moment
        await self.channel.call("worker.hello", {"place": self.boot.place, "pid": os.getpid()})

    async def _build_delivery(self) -> None:
        settings = self.settings
        self.reporter = Reporter(
            settings.server.hostname,
            self.queue.next_id,
            self.clock,
            public_url=settings.web.public_url,
            made=self.trace.made,
        )
        self.watch = Watch(settings, self.keyring, self.trace, self.reporter, self.clock, owner=self.channel)
        self.catalogue = Catalogue.load(settings.policies)
        observe = metrics.POLICY_SECONDS.observe
        self.pipeline = Pipeline(self.catalogue, timer=self.clock.monotonic, record=lambda name, s: observe(s, (name,)))
        links = OwnLinks(self.keyring, self.lookup, settings.web.public_url)
        signer = Signer(self._keys_for, self.clock.now, links)
        terms = Terms(settings.limits.freeze_hours, self.book)
        self.recheck = Recheck(self.pipeline, self.lookup, self.generation, self.directory, self.clock, terms)
        self.recheck.look(self.settings.server.data_dir)
        house = settings.server.hostname, settings.web.public_url
        self.outcomes = Outcomes(
            self.book, self._ask, self.clock, tenant=lambda number: self.directory().tenant_by_id(number), house=house
        )
        self.watch.outcomes = self.outcomes
        self.uses = self.watch.used = Uses.open(settings, str(self.boot.place), self.generation)
        self._later(self.outcomes.watch())
        self._later(self.uses.run(self.channel.call))
        plans = route.plans(settings.delivery)
        self.scheduler = Scheduler(
            self.queue,
            self.clock,
            signer,
            Hands(self.recheck, self.reporter, self.watch, self._crashed, plans),
            provider="capture" if settings.delivery.mode == "capture" else "smarthost",
        )
        self.overdue = Overdue(
            self.queue,
            self.scheduler,
            self.clock,
            plans=plans,
            first_seconds=route.first_word_seconds(settings.delivery),
        )
        self.pool: Pool | Capture
        if settings.delivery.mode == "capture":
            self.pool = Capture(self.scheduler.take, self.watch.keep_copy, self._crashed)
        else:
            workers = settings.server.workers or os.cpu_count() or 1
            doors = Doors(noticed=noticed, crashed=self._crashed)
            self.pool = Pool(route.pool_settings(settings, workers), self.scheduler.take, doors=doors)

    def _build_front(self) -> None:
        settings, limits = self.settings, self.settings.limits
        workers = settings.server.workers or os.cpu_count() or 1
        threads = Threads(settings.server.data_dir, self.keyring.subject_hashes, writable=False)
        generation, scan = partial(self.generation.read, CONSENT), Scan.of(self.keyring, self.clock.monotonic)
        counting = Counting(self.counters, self.shared, self.book)
        gather = Gather(self.lookup, threads, counting, generation=generation, scan=scan)
        house = House(
            settings.server.hostname,
            settings.web.public_url,
            settings.server.language,
            settings.privacy.client_address_in_received == "show",
            limits.reply_timeout_seconds,
        )
        self.intake = Intake(
            self.pipeline,
            gather,
            self.queue,
            self.trace,
            house=house,
            watcher=self.watch,
        )
        self.watch.queue, self.watch.shared = self.queue, self.shared
        self.queue_ops = HeldOps(
            self.queue,
            wake=self.pool.wake,
            reporter=self.reporter,
            say=self.trace.say,
            hold_seconds=self._hold_seconds,
            passes=self.scheduler.passes,
        )
        self.striking = Striking(self.queue, self.scheduler.passes, self.trace.say, self.keyring)
        self.desk = Desk(
            self.intake, self.directory, self.clock, limits=Limits.of(limits), logins=LoginLimits.of(limits)
        )
        self.gate = Gate(
            total=descriptors.room(settings, descriptors.present(), workers).possible,
            per_address=limits.connections_per_address,
            presence=self.counters,
            member=self.boot.place,
        )
        cap = max(limits.max_message_bytes, limits.max_in_flight_bytes // workers)
        self.in_flight = InFlight(cap, share=max(limits.max_message_bytes, cap // 4))

    def _keys_for(self, domain: str, tenant: int) -> Sequence[Key]:
        return self._directory.keys_for(domain, tenant or None)

    # -- run --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until SIGTERM, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        self._later(self._tick())
        self._later(self.queue_ops.watch(self.stopping, self._crashed))
        self._later(lag.probe())
        await self.stopping.wait()
        await self.stop()

    async def _tick(self) -> None:
        while not self.stopping.is_set():
            await asyncio.sleep(TICK_SECONDS)
            self._ticks += 1
            try:
                await self._upkeep()
            except Exception as error:  # upkeep must go on: the next tick tries again
                self._crashed(error)

    async def _upkeep(self) -> None:
        await self._follow_directory()
        self.recheck.look(self.settings.server.data_dir)
        self.queue.tick(self.recheck.is_frozen)
        self.outcomes.release(self.queue_ops.release_paused)
        self._check_health()
        self.watch.measure(self.queue, self.gate, self.in_flight)
        if isinstance(self.pool, Pool):
            metrics.NEXT_HOPS_FAILING.set(sum(peer.failures > 0 for peer in self.pool.state().peers))
        if self._ticks % ADOPT_EVERY_TICKS == 0:
            adopted = await self.queue.adopt_orphans()
            if adopted:
                log.info(events.QUEUE_ADOPTED, message_count=adopted)
        if self._ticks % AGE_EVERY_TICKS == 0:
            await self.watch.measure_age(self.queue)
        if self._ticks % OVERDUE_EVERY_TICKS == 0 and isinstance(self.pool, Pool):
            await self.overdue.sweep(self.pool.state())

    async def _ask(self, op: str, args: dict[str, Any]) -> Any:
        """The owner; a mail of our own goes into this worker's queue."""
        return await (self.watch.submit(args) if op == "worker.submit" else self.channel.call(op, args))

    def _hold_seconds(self, reason: str) -> float:
        return hold_seconds(self.settings.limits, reason)

    async def _follow_directory(self) -> None:
        """Take in changes. While they cannot be read the last ones hold, the queue goes on, and it is tried again."""
        seen = self.generation.read(DIRECTORY)
        if seen == self._directory_seen and self.clock.now() < self.keyring.next_at:
            return
        path = self.settings.database_path
        try:
            self.keyring.reload(now=self.clock.now())
            self.cipher.renew(self.keyring.queue_keys, self.keyring.current_queue_key_id)
            if seen == self._directory_seen:
                return
            self._directory = await asyncio.to_thread(Directory.load_safely, path, self.keyring, self.generation)
        except (KeyringError, StoreUnavailable, SQLAlchemyError) as error:
            if not self._is_stale:
                log.error(events.DIRECTORY_STALLED, kind=type(error).__name__)
            self._is_stale = True
            metrics.DIRECTORY_STALE.set(1.0)
            self.health.fail("directory", UNREAD if self._directory.is_known else UNKNOWN)
            return
        self._directory_seen, self._is_stale = seen, False
        metrics.DIRECTORY_STALE.set(0.0)
        self.health.recover("directory")

    def _check_health(self) -> None:
        self.health.beat("upkeep", self.clock.monotonic(), within_seconds=10.0)
        pressure = self.queue.pressure()
        if pressure is None:
            self.health.recover("queue")
        else:
            self.health.fail("queue", pressure)
        self._check_store()

    def _check_store(self) -> None:
        """A lookup that failed is tried again, so that this worker is ready as soon as it can read."""
        if self.lookup.failure:
            with contextlib.suppress(sqlite3.Error):
                self.lookup.look()
        if not self.lookup.failure:
            self.health.recover("store")
            self._is_blind = False
            return
        self.health.fail("store", "the shared database cannot be read")
        if not self._is_blind:
            self._is_blind = True
            log.error(events.STORE_FAILED, kind=self.lookup.failure)

    async def stop(self) -> None:
        """Drain: doors, then deliveries, then the queue; what is left stays in the queue files for the next worker."""
        seconds = self.settings.server.drain_timeout_seconds
        await self.listeners.drain(seconds)
        self.intake.gather.scan.stop()
        await self._rest()
        await self.scheduler.drain()
        await self.outcomes.flush()
        await self.watch.drain()
        await self.intake.owed.drain(seconds)
        await self.queue.stop()
        await self.history.stop()
        await self.uses.stop(self.channel.call)
        await take_leave(self.channel, self.boot.place, metrics.snapshot())
        for task in self._tasks:
            task.cancel()
        await self.shared.close()

    async def _rest(self) -> None:
        """End the deliveries and begin none, with the doors open: who leaves for a successor closes them for a moment only."""
        self.scheduler.paused = True
        await self.pool.drain(self.settings.server.drain_timeout_seconds)

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._crashed(task.exception())
        if not self.stopping.is_set() and not task.cancelled():
            self.stopping.set()  # the channel ended: without a supervisor a worker drains and goes

    def _crashed(self, error: BaseException | None) -> None:
        if scarcity.met(error):
            return
        metrics.CRASHES.inc(("worker",))
        if error is not None:
            log.error(events.WORKER_CRASHED, kind=type(error).__name__, place=place_of(error))

    # -- commands from the supervisor ---------------------------------------------------------------------------------

    async def _command(self, channel: Channel, op: str, args: dict[str, Any]) -> Any:
        if op == "metrics.snapshot":
            return metrics.snapshot()
        if op == "worker.ready":
            return self.health.reasons(self.clock.monotonic())
        if op == "worker.notes":
            return [note for note in (self.shared.note and f"limits: {self.shared.note}", self.recheck.note) if note]
        if op == "worker.reload":
            return self.listeners.reload_certificates()
        if op == "worker.submit":
            return await self.watch.submit(args)
        if op == "worker.rest":
            return await self._rest()
        if op == "queue.forget":
            return await self.striking.run(args)
        if op == "queue.waits" and isinstance(self.pool, Pool):  # what is captured waits for no host
            return await self.overdue.waits(args, self.pool.state())
        if op.startswith(("queue.", "held.")):
            return await self.queue_ops.run(op, args)
        raise OpRefused("unknown", f"{op} is no command of a worker")


async def main(boot: Boot) -> None:
    """Run one worker to its end."""
    worker = Worker(boot)
    await worker.start()
    gc.collect()
    gc.freeze()  # what the start made stays: the collector need not look at it again
    await worker.run()
