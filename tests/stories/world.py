"""A gateway in one process with a clock in the hand: whatever judges, counts, keeps, delivers and remembers is the real one.

Built as `relay.serve.worker` builds it, down to its settings, which are those that the product comes with. Outside stand only
what has no say in a verdict: sockets in front (the desk is asked as a session asks it), the supervisor's channel (the
owner is asked directly), and the next hop, which answers what the story says.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from relay.consent.lookup import Lookup
from relay.consent.rested import Rested
from relay.counters.contract import DAY
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import open_shared
from relay.counters.once import is_first
from relay.counters.ring import News
from relay.delivery import route
from relay.delivery.hands import Hands
from relay.delivery.outcome import Delivered, Failed, Outcome
from relay.delivery.render import Links, Signer
from relay.delivery.report import Reporter
from relay.delivery.scheduler import Attempt, Scheduler
from relay.directory import Directory
from relay.enqueue import House
from relay.gather import Counting, Gather
from relay.intake import Intake
from relay.keyring import Keyring
from relay.mail.envelope import Account
from relay.owner import Owner, OwnerError
from relay.policy.catalogue import Catalogue
from relay.policy.pipeline import Pipeline
from relay.policy.ruling import Ruling
from relay.recheck import Recheck, Terms
from relay.reputation.book import Book, Sender, place_of
from relay.reputation.judge import Bounds, Level
from relay.reputation.rows import chosen, seats
from relay.scan import Scan
from relay.serve.channel import Channel, OpRefused
from relay.serve.held_ops import HeldOps, hold_seconds
from relay.serve.outcomes import Outcomes
from relay.serve.used import Uses
from relay.serve.watch import Watch
from relay.settings.model import Settings
from relay.smtp.auth import Login
from relay.smtp.desk import Desk, LoginLimits
from relay.smtp.front import Limits
from relay.spool.cipher import Cipher
from relay.spool.files import QueueFiles
from relay.spool.item import Item
from relay.store.generation import CONSENT, DIRECTORY, Generation
from relay.store.history import History
from relay.store.threads import Threads
from relay.store.uses import FOLDER, UseFiles
from relay.trace import Trace
from tests.fakes.clock import FakeClock
from tests.stories.story import DEAD

HOUR = 3600.0
HOST = "next.hop.test"
TAKEN = Delivered("2.0.0", "250 ok", HOST)
NOBODY = Failed("5.1.1", "550 5.1.1 no such user", HOST, 550)


def settings_for(folder: Path, counters: str) -> Settings:
    """What the product comes with, but for the places; nothing leaves, so no next hop is ever asked."""
    table: dict[str, Any] = {
        "server": {"hostname": "gw.test", "data_dir": str(folder / "data"), "keys_dir": str(folder / "keys")},
        "delivery": {"mode": "smarthost", "smarthosts": ["smtp://127.0.0.1:9"], "tls": "off"},
        "storage": {"counters": counters, "counters_timeout_seconds": 10.0},
    }
    return Settings.model_validate_json(json.dumps(table))


def owner_of(settings: Settings, keyring: Keyring, clock: FakeClock) -> Owner:
    places = SimpleNamespace(
        server=settings.server, storage=SimpleNamespace(database=f"sqlite:///{settings.database_path}")
    )
    return Owner.open(places, keyring, policies=settings.policies, now=clock.now)


class Log(Trace):
    """The delivery log, which also remembers what it wrote last of each message."""

    def __init__(self, history: History, keyring: Keyring) -> None:
        super().__init__(history, keyring)
        self.answers: dict[str, tuple[Ruling, str]] = {}

    def answered(self, number: int, ruling: Ruling, word: str, *, reply: str, message_id: str, size: int) -> None:
        super().answered(number, ruling, word, reply=reply, message_id=message_id, size=size)
        self.answers[reply] = ruling, word


class Line:
    """Stands for the channel to the supervisor: the owner is in this process."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def call(self, op: str, args: dict[str, Any]) -> Any:
        world = self._world
        if op == "worker.submit":
            return await world.watch.submit(args)
        if op == "notice.once":
            return is_first(world.counters, f"notice:{args['key']}", DAY, world.clock.now())
        if op == "thread.remember":
            return world.threads.remember(int(args["key"]), args["shown"], float(args["at"]), int(args["tenant"]))
        try:
            return world.owner.call(op, args)
        except OwnerError as error:
            raise OpRefused(error.code, error.text) from None

    def tell(self, op: str, args: dict[str, Any]) -> None:
        self._world.later.append(asyncio.get_running_loop().create_task(self.call(op, args)))


class World:
    """Make, `open`, and `close`. Time goes by `pass_to` only."""

    def __init__(self, folder: Path, now: float, counters: str = "embedded") -> None:
        """`folder` holds what a gateway has kept: data and keys."""
        self.clock = FakeClock(now)
        self.settings = settings_for(folder, counters)
        data = self.settings.server.data_dir
        self.keyring = Keyring.open(self.settings.server.keys_dir, create=False)
        self.owner = owner_of(self.settings, self.keyring, self.clock)
        self.generation = Generation.open(data)
        self.counters = EmbeddedCounters(data)
        self.threads = Threads(data, self.keyring.subject_hashes, writable=True)
        self.later: list[asyncio.Task[Any]] = []
        self.bugs: list[BaseException | None] = []
        self.delivered: Counter[str] = Counter()
        """Recipients that a login's mail has reached."""
        self.sent: list[tuple[Item, str]] = []
        """Each copy that has reached somebody, in order; letters of our own are not among them."""
        self.letters: Counter[str] = Counter()
        """Letters of our own that have reached an address."""
        self._seen = -1
        self._directory = Directory(self.keyring)

    # -- wiring, as relay.serve.worker has it -----------------------------------------------------------------------

    async def open(self) -> World:
        settings, data = self.settings, self.settings.server.data_dir
        self.shared = open_shared(settings.storage, self.counters)
        self.book = Book(self.shared.windows, Bounds(**settings.reputation.model_dump()))
        await self.shared.windows.look()
        self.lookup = Lookup(settings.database_path, self.keyring, now=self.clock.now, generation=self.generation)
        cipher = Cipher(self.keyring.queue_keys, self.keyring.current_queue_key_id)
        self.queue = QueueFiles(data / "queue", cipher, self.clock, on_work=lambda: None)
        self.history = History(data / "history", "story", cipher.seal)
        self.history.start()
        self.log = Log(self.history, self.keyring)
        await self.queue.start()
        self.catalogue = Catalogue.load(settings.policies)
        self.pipeline = Pipeline(self.catalogue)
        self._build_delivery()
        self._build_front()
        return self

    def _build_delivery(self) -> None:
        settings, line = self.settings, cast("Channel", Line(self))
        url = settings.web.public_url
        reporter = Reporter(
            settings.server.hostname, self.queue.next_id, self.clock, public_url=url, made=self.log.made
        )
        self.watch = Watch(settings, self.keyring, self.log, reporter, self.clock, owner=line)
        self.outcomes = Outcomes(
            self.book,
            line.call,
            self.clock,
            tenant=lambda number: self.directory().tenant_by_id(number),
            house=(settings.server.hostname, url),
        )
        rested = Rested(settings.database_path, self.keyring, generation=self.generation, now=self.clock.now)
        self.uses = Uses(UseFiles(settings.server.data_dir / FOLDER, "story"), rested)  # which no story asks
        self.watch.used = self.uses
        self.watch.outcomes, self.watch.queue, self.watch.shared = self.outcomes, self.queue, self.shared
        terms = Terms(settings.limits.freeze_hours, self.book)
        self.recheck = Recheck(self.pipeline, self.lookup, self.generation, self.directory, self.clock, terms)
        signer = Signer(self._no_keys, self.clock.now, lambda item, recipient: Links("", ""))
        plans = route.plans(settings.delivery)
        self.scheduler = Scheduler(
            self.queue, self.clock, signer, Hands(self.recheck, reporter, self.watch, self.bugs.append, plans)
        )
        self.hold_seconds = partial(hold_seconds, settings.limits)
        self.queue_ops = HeldOps(
            self.queue,
            wake=lambda: None,
            reporter=reporter,
            say=self.log.say,
            hold_seconds=self.hold_seconds,
            passes=self.scheduler.passes,
        )

    def _build_front(self) -> None:
        settings, limits = self.settings, self.settings.limits
        counting = Counting(self.counters, self.shared, self.book)
        generation, scan = partial(self.generation.read, CONSENT), Scan.of(self.keyring, self.clock.monotonic)
        gather = Gather(self.lookup, self.threads, counting, generation=generation, scan=scan)
        house = House(settings.server.hostname, settings.web.public_url, settings.server.language)
        self.intake = Intake(self.pipeline, gather, self.queue, self.log, house=house, watcher=self.watch)
        self.desk = Desk(
            self.intake,
            self.directory,
            self.clock,
            limits=Limits.of(limits),
            logins=LoginLimits.of(limits),
        )

    @staticmethod
    def _no_keys(domain: str, tenant: int) -> tuple[()]:
        return ()  # nothing is rendered, so nothing is signed

    async def close(self) -> None:
        self.intake.gather.scan.stop()
        self.scheduler.paused = True
        await self._settle()
        await self.watch.drain()
        await self.queue.stop()
        await self.history.stop()
        await self.shared.close()
        self.threads.close()
        self.lookup.close()
        self.counters.close()
        self.owner.close()
        assert not self.bugs, self.bugs

    # -- asking -----------------------------------------------------------------------------------------------------

    def directory(self) -> Directory:
        """As it is in force now."""
        seen = self.generation.read(DIRECTORY)
        if seen != self._seen:
            self._directory = Directory.load_safely(self.settings.database_path, self.keyring, self.generation)
            self._seen = seen
        return self._directory

    def account(self, login: str) -> Account:
        found = self.directory().account(login)
        assert found is not None, login
        return found

    async def login(self, name: str, password: str, client: str = "192.0.2.1") -> str:
        """The reply to AUTH; "235" for one that is let in."""
        answer = await self.desk.login(Login(name, password), client)
        return answer if isinstance(answer, str) else "235"

    def level(self, tenant: str, scope: str, subject: str) -> str:
        """How a login, stream, From domain or the tenant stands: good, warn, review or paused."""
        whose = self.directory().tenant(tenant)
        assert whose is not None, tenant
        return Level(self.book.windows.level(place_of(whose.id, scope, subject))).word

    async def let_send(self, whose: dict[str, str]) -> None:
        """As `zegel reputation release`: a `stream` of a tenant, or all of it, stands well again, and what waited may leave."""
        tenant = self.directory().tenant(whose["tenant"])
        assert tenant is not None, whose
        scope, subject = ("stream", whose["stream"]) if "stream" in whose else ("", "")
        found = chosen(seats(tenant, self.directory().credentials_of(tenant)), scope, subject)
        assert await self.book.release([seat.place for seat in found], self.clock.now())
        await self.shared.windows.look()
        self.outcomes.release(self.queue_ops.release_paused)
        assert self.outcomes._releasing is not None
        await self.outcomes._releasing

    # -- time -------------------------------------------------------------------------------------------------------

    async def pass_to(self, when: float) -> None:
        """Let time go by with the upkeep of a worker: what is due leaves, what is held too long goes back."""
        await self.deliver()
        begun = self.clock.now()
        while self.clock.now() < when:
            now = self.clock.now()
            if not (self.queue.backlog.later or self.queue.backlog.frozen or self.queue.held):
                self.clock.advance(when - now)
                break
            step = 60.0 if now - begun < HOUR else HOUR
            self.clock.advance(min(step, when - now))
            await self._upkeep()
        await self._upkeep()

    async def _upkeep(self) -> None:
        self.queue.tick(self.recheck.is_frozen)
        await self.queue.loader.idle()
        self.outcomes.release(self.queue_ops.release_paused)
        await self.queue_ops.expire_held(self.clock.now(), self.hold_seconds)
        await self.deliver()

    async def deliver(self) -> None:
        """Everything that may leave now leaves, and what comes of it is counted."""
        while True:
            taken = 0
            while (attempt := self.scheduler.take()) is not None:
                taken += 1
                attempt.done([self._answer(attempt, recipient.address) for recipient in attempt.recipients])
            await self._settle()
            if not taken and not self.queue.ready:
                return

    def _answer(self, attempt: Attempt, address: str) -> Outcome:
        meta = attempt.item.meta
        if not meta["credential"]:  # our own letters and reports
            self.letters[address] += 1
            return TAKEN
        if address.startswith(DEAD) and address[len(DEAD)].isdigit():
            return NOBODY
        self.delivered[meta["credential"]] += 1
        self.sent.append((attempt.item, address))
        return TAKEN

    async def _settle(self) -> None:
        """What was recorded is durable and stands where it stands; what was seen is counted, what is to be said is queued."""
        for _ in range(2):
            while self.scheduler._tasks:
                await asyncio.wait(list(self.scheduler._tasks))
            await self.queue.writer.drain()
            await self.queue.loader.idle()
            while self.watch._tasks or self.later:
                tasks, self.later = [*self.watch._tasks, *self.later], []
                for done in (await asyncio.wait(tasks))[0]:
                    done.result()
            await self.outcomes.flush()
            await self.shared.windows.look()
            await asyncio.sleep(0)

    async def complain(self, login: str, number: int) -> None:
        """So many of those whom the login's mail has reached complain; the tenant tells of it, as over POST /api/v1/outcomes."""
        reached = [(item, address) for item, address in self.sent if item.meta["credential"] == login]
        for item, address in reached[-number:]:
            meta = item.meta
            row = {"message": item.queue_id, "address": address, "kind": "complained", "suppress": False}
            answers = self.owner.call("outcome.tell", {"tenant": meta["tenant"], "items": [row]})
            assert isinstance(answers, list) and answers[0]["new"]
            self.outcomes.tell(Sender(item.tenant, login, meta["stream"], meta["domain"]), News(complaints=1))
        await self._settle()


def copy_of(template: Path, folder: Path) -> Path:
    """The folder of a gateway that was prepared before."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    return folder
