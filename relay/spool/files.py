"""The embedded queue: segments of this process, one writer thread, and what waits in memory.

Theory of operation. An accepted message goes to the writer thread; when its row is durable its future is done and the
message stands in a line (stand.py). While memory allows, it stands there with its body, so that the usual message is
never read back; otherwise only its reference waits and is loaded when its turn comes near. The shelf (shelf.py) retires
and purges segments. Segments that lie in the folder without an owner are adopted, at start and every few seconds.

When a commit fails, or no segment can be made at start, new mail gets 4xx and `tick` probes for one once a second.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from relay.clock import Clock
from relay.observe import events, metrics
from relay.observe.log import log
from relay.spool import adopt
from relay.spool.backlog import Backlog, reference
from relay.spool.box import Box
from relay.spool.cipher import Cipher
from relay.spool.contract import SpoolUnavailable
from relay.spool.item import Fate, IdSource, Item, encode_id
from relay.spool.loader import Loader
from relay.spool.op import Op, Roll
from relay.spool.segment import FINAL, LARGE_BYTES, MESSAGE, STATE, Row, Segment
from relay.spool.shelf import Shelf
from relay.spool.stand import Fair, Standing
from relay.spool.storage import Storage
from relay.spool.writer import Writer

SEGMENT_BYTES = 64 * 1024 * 1024
ADOPT_TOGETHER = 4096
NO_FILE = "no queue file can be made"


class QueueFiles:
    """The queue of one process; keeps relay.spool.contract.Spool. Every method is for the event loop's thread."""

    def __init__(
        self, folder: Path, cipher: Cipher, clock: Clock, *, on_work: Callable[[], None], min_free_bytes: int = 0
    ) -> None:
        self.folder, self.clock, self.on_work = folder, clock, on_work
        self.box = Box(cipher)
        self.standing = Standing(clock)
        self.storage = Storage(folder, min_free_bytes)
        self._rolling = self._stopping = False
        self._parked: dict[int, list[Op]] = {}
        self._progress: dict[int, bool] = {}  # messages with a row of progress under way; True: and more to say
        self._scolded: set[Path] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Lock a node number, open a segment if the disk takes one, adopt what lies there without an owner. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.loop = asyncio.get_running_loop()
        node, self._node_lock = adopt.claim_node(self.folder)
        self.ids = IdSource(node)
        self.shelf = Shelf(self.folder, node, self.clock, resume=self._resume)
        self.shelf.damaged = adopt.damaged(self.folder)
        self.loader = Loader(self.box, self.shelf, self.standing, self.clock, on_work=self.on_work)
        self.writer: Writer[Op | Roll] = Writer(self.loop, self._write, self._done, name="spool")
        self.storage.note(await self.loop.run_in_executor(None, self._roll))
        self.storage.look()
        await self.adopt_orphans()

    @property
    def hot(self) -> Fair:
        return self.standing.hot

    @property
    def backlog(self) -> Backlog:
        return self.standing.backlog

    @property
    def held(self) -> dict[int, int]:
        return self.standing.held

    @property
    def in_flight(self) -> dict[int, Item]:
        return self.standing.in_flight

    @property
    def ready(self) -> int:
        """Messages that may leave now and are in no attempt."""
        return self.hot.size + self.backlog.ready + self.loader.loading

    @property
    def corrupt(self) -> int:
        """Rows and files that cannot be read and wait for a person."""
        return len(self.loader.unreadable) + self.shelf.damaged

    # -- intake ---------------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        return self.ids.next(self.clock.now())

    def commit(self, item: Item) -> asyncio.Future[None]:
        """See the contract. `item.raw` must hold the message."""
        assert item.raw is not None
        future: asyncio.Future[None] = self.loop.create_future()
        if len(item.raw) > LARGE_BYTES:
            self._later(self._commit_large(item, future))
        else:
            self.writer.submit(Op(MESSAGE, item, self.box.message(item), future, segment=None))
        return future

    async def _commit_large(self, item: Item, future: asyncio.Future[None]) -> None:
        """The body first, in a thread of its own: it takes long enough for others to wait for."""
        segment = self.shelf.current
        op = Op(MESSAGE, item, None, future, segment=segment)
        if segment is None:
            self._done(op, SpoolUnavailable(NO_FILE))
            return
        segment.reserved += 1
        try:
            op.blob = self.box.message(item)
            await self.loop.run_in_executor(None, self.box.write_body, segment, item)
        except Exception as error:  # whatever it was, the message is not durable and its sender must hear so
            segment.pending += 1
            self._done(op, error)
            return
        self._submit(op, segment)

    def pressure(self) -> str | None:
        return self.storage.failure or self.storage.space or None

    # -- delivery -------------------------------------------------------------------------------------------------

    def take(self) -> Item | None:
        """See the contract."""
        item = self.standing.take()
        self.loader.follow(item)
        return item

    def has_urgent(self) -> bool:
        """See the contract."""
        return bool(self.hot.lines[0])

    def release(self, item: Item) -> None:
        self._leave(item)
        self._stand(item)

    def freeze(self, item: Item) -> None:
        """See the contract."""
        self._leave(item)
        self.standing.freeze(item)

    def record(self, item: Item) -> asyncio.Future[None]:
        """See the contract."""
        if item.id in self._progress:
            self._progress[item.id] = False  # this row tells all that the next one would, and none may follow the last
        final = Fate.WAITING not in item.fates
        future: asyncio.Future[None] = self.loop.create_future()
        segment: Segment = item.segment
        blob = None if final else self.box.state(item)
        self._submit(Op(FINAL if final else STATE, item, blob, future, segment=segment), segment)
        return future

    def progress(self, item: Item) -> None:
        """See the contract. One row at a time for a message; what comes meanwhile goes into the next."""
        if item.id in self._progress:
            self._progress[item.id] = True
            return
        self._progress[item.id] = False
        segment: Segment = item.segment
        op = Op(STATE, item, self.box.state(item), self.loop.create_future(), segment=segment)
        op.under_way = True
        op.future.add_done_callback(_ignore)
        self._submit(op, segment)

    def _progressed(self, item: Item) -> None:
        if self._progress.pop(item.id, False) and item.id in self.in_flight:
            self.progress(item)

    def _submit(self, op: Op, segment: Segment) -> None:
        """To the writer, unless a thread has the segment: the writer must not wait for it."""
        if segment.number in self.shelf.away:
            self._parked.setdefault(segment.number, []).append(op)
        else:
            segment.pending += 1
            self.writer.submit(op, can_wait=True)

    def _resume(self, segment: Segment) -> None:
        for op in self._parked.pop(segment.number, ()):
            self._submit(op, segment)

    # -- the writer's thread --------------------------------------------------------------------------------------

    def _write(self, batch: Sequence[Op | Roll]) -> list[BaseException | None]:
        errors: list[BaseException | None] = [None] * len(batch)
        lots: dict[Segment | None, list[int]] = {}
        for index, op in enumerate(batch):
            if isinstance(op, Roll):
                errors[index] = self._roll()
        current = self.shelf.current
        for index, op in enumerate(batch):
            if isinstance(op, Op):
                lots.setdefault(op.segment or current, []).append(index)
        for segment, lot in lots.items():
            ops = [op for op in map(batch.__getitem__, lot) if isinstance(op, Op)]
            error = SpoolUnavailable(NO_FILE) if segment is None else self._append(segment, ops)
            if error is not None:
                for index in lot:
                    errors[index] = error
        if current is not None and current.bytes > SEGMENT_BYTES:
            self._roll()  # when it fails, the rows above are durable all the same and the next batch tries again
        return errors

    def _append(self, segment: Segment, ops: Sequence[Op]) -> BaseException | None:
        rows = []
        seq = segment.next_seq
        messages = size = 0
        for op in ops:
            item = op.item
            op.segment, op.seq = segment, seq
            rows.append(Row(seq, item.id, op.kind, item.due, item.tenant, item.rank, bool(item.held), op.blob))
            seq += 1
            size += len(op.blob or b"")
            if op.kind == MESSAGE:
                messages += 1
                segment.low, segment.high = min(segment.low, item.id), max(segment.high, item.id)
        segment.next_seq = seq
        segment.added += messages  # before they are there: a segment with a message under way is not empty
        try:
            segment.append(rows)
        except Exception as error:  # the disk, the file, or a bug: nothing of this lot is durable
            segment.added -= messages
            return error
        segment.bytes += size
        return None

    def _roll(self) -> BaseException | None:
        try:
            self.shelf.current = self.shelf.create()
        except (OSError, sqlite3.Error) as error:
            return error
        return None

    # -- back on the loop -----------------------------------------------------------------------------------------

    def _done(self, op: Op | Roll, error: BaseException | None) -> None:
        if isinstance(op, Roll):
            self._rolling = False
            self.storage.note(error)
            return
        try:
            self._conclude(op, error)
        finally:  # somebody waits for the answer, whatever else goes wrong
            if not op.future.done():
                if error is None:
                    op.future.set_result(None)
                else:
                    op.future.set_exception(SpoolUnavailable(str(error)))

    def _conclude(self, op: Op, error: BaseException | None) -> None:
        segment = op.segment
        if segment is None:  # there is no file for new messages
            self.storage.note(error)
            metrics.SPOOL_FAILURES.inc()
            return
        if op.kind == MESSAGE:
            self.storage.note(error)
            if len(op.item.raw or b"") > LARGE_BYTES:
                segment.reserved -= 1
                segment.pending -= 1
        else:
            segment.pending -= 1
        if op.under_way:
            self._progressed(op.item)
        elif error is None:
            self._written(op, segment)
        else:
            self._failed(op, segment, error)

    def _written(self, op: Op, segment: Segment) -> None:
        item = op.item
        self._leave(item)
        if op.kind == FINAL:
            if segment.has_bodies:
                self._later(self._in_thread(segment.forget_body, item.id))
            self.shelf.finished(segment)
            return
        if op.kind == MESSAGE:
            item.segment, item.first, item.seq = segment, op.seq, op.seq
            if op.future.cancelled():
                item.fates = [Fate.FAILED] * len(item.fates)
                self.record(item).add_done_callback(_ignore)
                return
        item.seq = op.seq
        segment.oldest_ids[item.rank] = min(segment.oldest_ids.get(item.rank, item.id), item.id)
        self._stand(item)

    def _failed(self, op: Op, segment: Segment, error: BaseException) -> None:
        if op.kind != MESSAGE:
            self.shelf.complain(segment, error)
            return
        metrics.SPOOL_FAILURES.inc()
        if segment.has_bodies:
            self._later(self._in_thread(segment.forget_body, op.item.id))
        self.shelf.retire(segment)

    def _leave(self, item: Item) -> None:
        if self.standing.leave(item.id):
            self.loader.refill()

    def _stand(self, item: Item) -> None:
        if self.standing.put(item):
            if self.hot.size:
                self.on_work()
            self.loader.follow(item)

    # -- upkeep ---------------------------------------------------------------------------------------------------

    async def adopt_orphans(self) -> int:
        """Take over segments without an owner; how many messages came with them."""
        total = 0
        known = {segment.path for segment in list(self.shelf.segments.values())}
        for path in await self.loop.run_in_executor(None, adopt.candidates, self.folder, known):
            if self._stopping:
                break
            found = await self.loop.run_in_executor(None, adopt.adopt, path, self.shelf.number())
            if isinstance(found, adopt.Adopted):
                total += await self._take_over(found)
            elif found is not None:
                self._scold(found)
        return total

    def _scold(self, found: adopt.Unusable) -> None:
        if found.aside is not None:
            self.shelf.damaged += 1
            log.error(events.QUEUE_FILE_DAMAGED, file=found.path.name, aside=found.aside.name, error=found.error[:200])
        elif found.path not in self._scolded:
            self._scolded.add(found.path)
            log.error(events.QUEUE_FILE_FAILED, file=found.path.name, error=found.error[:200], damaged=False)

    async def _take_over(self, found: adopt.Adopted) -> int:
        segment, rows = found
        segment.added = len(rows)
        segment.oldest_ids = {row.rank: row.id for row in reversed(rows)}
        self.shelf.add(segment)
        now = self.clock.now()
        for index, row in enumerate(rows):
            ref = reference(segment.number, row.seq)
            if row.held:
                self.held[row.id] = ref
            else:
                self.backlog.push(ref, row.rank, row.tenant, due=row.due, now=now)
            if index % ADOPT_TOGETHER == ADOPT_TOGETHER - 1:
                await asyncio.sleep(0)
        self.shelf.retire(segment)
        self.loader.refill()
        return len(rows)

    def tick(self, is_frozen: Callable[[int, str], bool] = lambda tenant, login: True) -> None:
        """A few times a second: what has ripened or is frozen no more may leave; probe after a failure; tidy (GDPR-3)."""
        if self.backlog.ripen(self.clock.now()) + self.backlog.thaw(is_frozen):
            self.loader.refill()
        self.storage.look()
        probe = self.storage.wants_probe(self.clock.monotonic())
        if not self._rolling and (probe or self.shelf.wants_roll()):
            self._rolling = True
            self.writer.submit(Roll())
        self.shelf.tick()

    async def _in_thread(self, work: Callable[[int], None], number: int) -> None:
        try:
            await self.loop.run_in_executor(None, work, number)
        except OSError as error:
            log.error(events.QUEUE_FILE_FAILED, file=encode_id(number), error=str(error)[:200], damaged=False)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Everything in hand is durable; the segments are given up for others to adopt, empty ones deleted."""
        self._stopping = True
        while self._tasks or self.writer.busy or self.shelf.away:
            await self.shelf.drain()
            if self._tasks:
                await asyncio.wait(list(self._tasks))
            await self.writer.drain()
        await self.shelf.drain()
        await self.loader.stop()
        await self.loop.run_in_executor(None, self.writer.stop)
        await self.loop.run_in_executor(None, self.shelf.close)
        os.close(self._node_lock)


def _ignore(done: asyncio.Future[None]) -> None:
    """Nobody waits: what could not be written is repeated by the next worker."""
    done.exception()
