"""The stages of a message's way, each timed with the real objects; CPU of the thread that does it, or of the whole process
where a thread of its own helps (commit, delivery log).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from relay.cli import bench_wire
from relay.cli.bench_ground import DOMAIN, Ground, newsletter, recipient
from relay.cli.running import loop_factory
from relay.clock import SystemClock
from relay.delivery.hands import Hands
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Delivered, Outcome
from relay.delivery.render import render
from relay.delivery.retry import RetryPlan
from relay.delivery.scheduler import Scheduler
from relay.dkim.sign import body_hash
from relay.enqueue import make_item
from relay.gather import Counted
from relay.mail.envelope import Recipient
from relay.mail.message import Message
from relay.policy.facts import Allowance
from relay.policy.ruling import Ruling
from relay.serve.boot import HISTORY, QUEUE
from relay.smtp import data as smtp_data
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item
from relay.store.generation import CONSENT
from relay.store.history import History
from relay.trace import Trace

BATCHES = (8, 1, 32)  # the first is what 20 sessions come to, and counts
SENDER = f"news@{DOMAIN}"
PEER = Features(pipelining=True, eightbitmime=True)


class Stage(NamedTuple):
    """One line. `of` names the stage that it is part of or an alternative to; such lines are not in the total."""

    name: str
    microseconds: float
    of: str = ""
    remark: str = ""


def measure(ground: Ground, *, size: int, rounds: int) -> list[Stage]:
    """Every stage, in the order of a message's way."""
    return _Measuring(ground, newsletter(size), rounds).all()


class _Measuring:
    def __init__(self, ground: Ground, raw: bytes, rounds: int) -> None:
        self.ground = ground
        self.raw = raw
        self.rounds = rounds
        self.calls = max(20, 600 * 10_240 // max(10_240, len(raw)))
        self.ruling = self._ruling()
        self.number = 0

    def all(self) -> list[Stage]:
        return [*self._taking_in(), *self._keeping(), *self._sending()]

    def _best(self, step: Callable[[], object]) -> float:
        """CPU microseconds of one call, the best of the rounds."""
        step()
        best = float("inf")
        for _ in range(self.rounds):
            before = time.thread_time()
            for _ in range(self.calls):
                step()
            best = min(best, (time.thread_time() - before) / self.calls)
        return best * 1e6

    # -- in -------------------------------------------------------------------------------------------------------

    def _recipient(self) -> Recipient:
        self.number += 1
        return Recipient(recipient(self.number))

    def _ruling(self) -> Ruling:
        """The judged message, settled at RCPT as a session would have it."""
        everyone = (Recipient(recipient(0)),)
        message = Message.split(self.raw)
        assert isinstance(message, Message)
        ruling = self.ground.intake.judge(self.ground.submission(everyone, message), frozenset({everyone[0].address}))
        assert ruling.passes, ruling.reason
        return ruling

    def _taking_in(self) -> list[Stage]:
        ground, intake, raw = self.ground, self.ground.intake, self.raw
        wire = min(
            bench_wire.sessions(ground.account, SENDER, recipient(0), raw, count=self.calls) for _ in range(self.rounds)
        )
        stages = [
            Stage("session: four commands, four replies", wire * 1e6, remark="sockets included"),
            Stage("find the end, unstuff", self._best(self._find_end), "session: four commands, four replies"),
            Stage("MAIL: is the sender yours", self._best(lambda: intake.sender(ground.submission(())))),
        ]
        ground.policy_seconds.clear()
        asked = self._best(lambda: intake.recipient(ground.submission((self._recipient(),))))
        stages += [Stage("RCPT: consent, suppression", asked), *self._by_policy("RCPT: consent, suppression")]
        stages.append(Stage("split into fields", self._best(lambda: Message.split(raw))))
        ground.policy_seconds.clear()
        judged = self._best(self._ruling) - stages[-1].microseconds
        return [*stages, Stage("judge the content", judged), *self._by_policy("judge the content")]

    def _find_end(self) -> bytes:
        return smtp_data.unstuff(self.raw) if smtp_data.find_end(bytearray(self.raw + b".\r\n"), 0) else b""

    def _by_policy(self, stage: str) -> list[Stage]:
        return [
            Stage(name, statistics.median(seconds) * 1e6, stage)
            for name, seconds in sorted(
                self.ground.policy_seconds.items(), key=lambda pair: -statistics.median(pair[1])
            )
        ]

    # -- kept -----------------------------------------------------------------------------------------------------

    def _item(self) -> Item:
        return make_item(self.ground.intake.queue.next_id(), self.ruling, self.ground.intake.house)

    def _keeping(self) -> list[Stage]:
        ground, ruling = self.ground, self.ruling
        fresh = replace(ruling, mail=replace(ruling.mail))
        item = self._item()
        counted = Counted(0, fresh.mail)
        allow = self._best(lambda: ground.intake.admit(fresh, cast("Allowance", ground.intake.charge(fresh, counted))))
        stages = [Stage("limits: charge all six", allow), Stage("make the queue item", self._best(self._item))]
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            commits = runner.run(self._commits())
        first = f"commit in batches of {BATCHES[0]}"
        stages.append(Stage(first, commits[BATCHES[0]][0], remark=commits[BATCHES[0]][1]))
        sealed = self._best(lambda: ground.cipher.seal(item.id, item.dump() + self.raw))
        stages.append(Stage("seal (AES-256-GCM)", sealed, first))
        stages += [Stage(f"in batches of {size}", commits[size][0], first, commits[size][1]) for size in BATCHES[1:]]
        stages.append(Stage("delivery log, both entries", self._log(item)))
        self.outcome = commits[0]
        return stages

    async def _commits(self) -> dict[int, tuple[float, str]]:
        """By batch size: CPU microseconds of one commit and how long a batch took; under 0 those of writing an outcome."""
        folder = self.ground.settings.server.data_dir / QUEUE
        found: dict[int, tuple[float, str]] = {}
        queue = QueueFiles(folder, self.ground.cipher, SystemClock(), on_work=_nothing)
        await queue.start()
        outcomes = []
        for size in BATCHES:
            batches = max(4, self.calls // 2 // size)
            lots = [[self._item() for _ in range(size)] for _ in range(batches)]
            cpu, wall = time.process_time(), time.perf_counter()
            for lot in lots:
                await asyncio.gather(*map(queue.commit, lot))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            found[size] = (cpu / batches / size * 1e6, f"synced; a batch takes {wall / batches * 1e3:.1f} ms")
            outcomes.append(await self._outcomes(queue, size, batches))
        found[0] = (outcomes[0], f"in batches of {BATCHES[0]}, synced")
        await queue.stop()
        return found

    async def _outcomes(self, queue: QueueFiles, size: int, batches: int) -> float:
        """CPU microseconds to take one message and to write that it is delivered."""
        before = time.process_time()
        for _ in range(batches):
            writing = []
            for _ in range(size):
                item = queue.take()
                assert item is not None, "it was committed a moment ago"
                item.fates = [Fate.DELIVERED]
                writing.append(queue.record(item))
            await asyncio.gather(*writing)
        return (time.process_time() - before) / batches / size * 1e6

    def _log(self, item: Item) -> float:
        """CPU microseconds of both lines in the delivery log, thread included; the start of thread and file is left out."""
        few, many = 200, 2_200
        return (self._logged(item, many) - self._logged(item, few)) / (many - few) * 1e6

    def _logged(self, item: Item, count: int) -> float:
        """CPU seconds from the start of a log of its own to its end, with `count` messages."""
        ground = self.ground
        history = History(ground.settings.server.data_dir / HISTORY, f"bench-{count}", ground.cipher.seal)
        trace = Trace(history, ground.keyring)
        before = time.process_time()
        history.start()
        for number in range(count):
            trace.answered(number, self.ruling, "accepted", reply="250 2.0.0", message_id="<a@b>", size=10_240)
            trace.say(item.id, "finished", item.due, outcomes=[["a@b", "delivered", "2.0.0", "", ""]], tries=1)
        asyncio.run(history.stop())
        return time.process_time() - before

    # -- out ------------------------------------------------------------------------------------------------------

    def _sending(self) -> list[Stage]:
        item = self._item()
        item.generation = self.ground.generation.read(CONSENT)
        signed = self._best(lambda: self._render(item))
        copy = self._render(item)
        wire = min(bench_wire.deliveries(SENDER, recipient(0), copy, count=self.calls) for _ in range(self.rounds))
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        bare = self._best(lambda: key.sign(b"x" * 400, padding.PKCS1v15(), hashes.SHA256()))
        message = item.parsed()
        return [
            Stage("schedule, ask consent again, conclude", self._schedule(item), remark="nothing changed since intake"),
            Stage("asked again in full", self._ask_again(item), "schedule, ask consent again, conclude"),
            Stage("render and sign", signed),
            Stage("RSA-2048 alone", bare, "render and sign", "the floor: OpenSSL"),
            Stage("body hash", self._best(lambda: body_hash(message.body)), "render and sign"),
            Stage("next hop: send, hear, take", wire * 1e6, remark="sockets included"),
            Stage("write the outcome", self.outcome[0], remark=self.outcome[1]),
        ]

    def _render(self, item: Item) -> Rendered:
        item.body_hash = ""
        copy = render(item, recipient(0), PEER, self.ground.signer, {})
        assert isinstance(copy, Rendered), copy
        return copy

    def _ask_again(self, item: Item) -> float:
        def step() -> None:
            item.generation = -1
            self.ground.recheck(item, [0])

        return self._best(step)

    def _schedule(self, item: Item) -> float:
        spool = _OneItem(item)
        hands = Hands(self.ground.recheck, _no_report, _NoLog(), _raise, lambda item: RetryPlan((300.0,), 3600.0, 0.0))
        scheduler = Scheduler(spool, SystemClock(), self.ground.signer, hands)
        done: list[Outcome] = [Delivered("2.0.0", "250 taken", "127.0.0.1")]

        def step() -> None:
            item.fates = [Fate.WAITING]
            attempt = scheduler.take()
            assert attempt is not None
            attempt.done(done)

        async def run() -> float:
            spool.written.set_result(None)
            return self._best(step)

        with asyncio.Runner() as runner:
            spool.written = runner.get_loop().create_future()
            return runner.run(run())


class _OneItem:
    """Keeps relay.spool.contract.Spool with one message that is always there."""

    written: asyncio.Future[None]

    def __init__(self, item: Item) -> None:
        self._item = item

    def take(self) -> Item | None:
        return self._item

    def progress(self, item: Item) -> None:
        return

    def has_urgent(self) -> bool:
        return False

    def freeze(self, item: Item) -> None:
        """Nobody is suspended here."""

    def release(self, item: Item) -> None:
        return

    def record(self, item: Item) -> asyncio.Future[None]:
        return self.written

    def next_id(self) -> int:
        return 0

    def commit(self, item: Item) -> asyncio.Future[None]:
        return self.written

    def pressure(self) -> str | None:
        return None


def _no_report(item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, until: float = 0.0) -> list[Item]:
    return []


class _NoLog:
    """Keeps relay.delivery.hands.Recorder and nothing else."""

    def concluded(
        self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, recoded: Collection[str] = ()
    ) -> None:
        return

    def postponed(self, item: Item, why: str) -> None:
        return


def _raise(error: BaseException) -> None:
    raise error


def _nothing() -> None:
    """Nobody waits for work here."""
