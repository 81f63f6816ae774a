"""The embedded queue: segments of this process, one writer thread, and what waits in memory.

Theory of operation. An accepted message goes to the writer thread; when its row is durable its future is done and the
message stands in a line. While memory allows, it stands there with its body (hot), so that the usual message is never
read back; otherwise only its reference waits (backlog) and `refill` loads it when its turn comes near. A segment is
given up for a new one when it is large, or when all of it is final; a segment without a live row is deleted.
Segments that lie in the folder without an owner are adopted, at start and every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import struct
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from relay.clock import Clock
from relay.spool import adopt
from relay.spool.backlog import Backlog, Fair, reference, split_reference
from relay.spool.cipher import Cipher, CorruptRow
from relay.spool.contract import SpoolUnavailable
from relay.spool.item import Fate, IdSource, Item, encode_id
from relay.spool.segment import FINAL, LARGE_BYTES, MESSAGE, STATE, Row, Segment, write_large
from relay.spool.writer import Writer

SEGMENT_BYTES = 64 * 1024 * 1024
HOT_BYTES = 64 * 1024 * 1024
REFILL = 64
_LENGTH = struct.Struct(">I")


class _Op(NamedTuple):
    kind: int
    item: Item
    blob: bytes | None
    future: asyncio.Future[None]


class _ItemLine(deque[Item]):
    """A line of messages with their bodies."""

    def push(self, entry: Item) -> None:
        self.append(entry)

    def pop(self) -> Item:  # type: ignore[override]  # a line has no index to pop at
        return self.popleft()


class QueueFiles:
    """The queue of one process; keeps relay.spool.contract.Spool. Every method is for the event loop's thread."""

    def __init__(self, folder: Path, cipher: Cipher, clock: Clock, *, on_work: Callable[[], None]) -> None:
        self.folder = folder
        self.cipher = cipher
        self.clock = clock
        self.on_work = on_work
        self.backlog = Backlog()
        self.hot: Fair[Item] = Fair(_ItemLine)
        self.hot_bytes = 0
        self.in_flight: dict[int, Item] = {}
        self.held: dict[int, int] = {}  # id -> reference
        self.states: dict[int, int] = {}  # reference -> row of the newest state
        self.segments: dict[int, Segment] = {}
        self.corrupt = 0
        self.failure: str | None = None
        self._number = 0
        self._loading = False
        self._loads: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Lock a node number, open a segment, adopt what lies there without an owner."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.loop = asyncio.get_running_loop()
        node, self._node_lock = adopt.claim_node(self.folder)
        self.ids = IdSource(node)
        self.current = self._create()
        self.writer: Writer[_Op | Segment] = Writer(self.loop, self._write, self._done, name="spool")
        await self.adopt_orphans()

    def _create(self) -> Segment:
        self._number += 1
        name = encode_id(self.ids.next(self.clock.now()))
        segment = Segment.create(self.folder / f"{name}.queue", self._number)
        self.segments[segment.number] = segment
        return segment

    # -- intake ---------------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        return self.ids.next(self.clock.now())

    def commit(self, item: Item) -> asyncio.Future[None]:
        """See the contract. `item.raw` must hold the message."""
        assert item.raw is not None
        meta = item.dump()
        if len(item.raw) > LARGE_BYTES:
            blob = None  # sealed in the writer's thread: it takes milliseconds
        else:
            blob = self.cipher.seal(item.id, b"".join((_LENGTH.pack(len(meta)), meta, item.raw)))
        future: asyncio.Future[None] = self.loop.create_future()
        self.writer.submit(_Op(MESSAGE, item, blob, future))
        return future

    def pressure(self) -> str | None:
        return self.failure

    # -- delivery -------------------------------------------------------------------------------------------------

    def take(self) -> Item | None:
        """See the contract."""
        item = self.hot.pop()
        if item is not None:
            self.hot_bytes -= len(item.raw or b"")
            self.in_flight[item.id] = item
        if self.hot.size < REFILL // 2 and self.backlog.ready and not self._loading:
            self._refill()
        return item

    def has_urgent(self) -> bool:
        """See the contract."""
        return bool(self.hot.lines[0])

    def release(self, item: Item) -> None:
        self.in_flight.pop(item.id, None)
        self._stand(item, item.segment)

    def record(self, item: Item) -> asyncio.Future[None]:
        """See the contract."""
        final = Fate.WAITING not in item.fates
        future: asyncio.Future[None] = self.loop.create_future()
        blob = None if final else self.cipher.seal(item.id, item.dump_state())
        self.writer.submit(_Op(FINAL if final else STATE, item, blob, future))
        return future

    # -- the writer's thread --------------------------------------------------------------------------------------

    def _write(self, batch: Sequence[_Op | Segment]) -> list[BaseException | None]:
        errors: list[BaseException | None] = []
        rows: dict[int, list[Row]] = {}
        for op in batch:
            if isinstance(op, Segment):
                continue
            segment = self.current if op.kind == MESSAGE else op.item.segment
            rows.setdefault(segment.number, []).append(self._row(op, segment))
        failed: dict[int, BaseException] = {}
        for number, lot in rows.items():
            try:
                self.segments[number].append(lot)
                self.segments[number].bytes += sum(len(row.data or b"") for row in lot)
            except sqlite3.Error as error:
                failed[number] = error
                self.segments[number].added -= sum(row.kind == MESSAGE for row in lot)
        for op in batch:
            if isinstance(op, Segment):
                op.delete()
                errors.append(None)
            else:
                errors.append(failed.get(op.item.segment.number))
        if self.current.bytes > SEGMENT_BYTES:
            self.current = self._create()
        return errors

    def _row(self, op: _Op, segment: Segment) -> Row:
        item = op.item
        seq = segment.next_seq
        segment.next_seq += 1
        blob = op.blob
        if op.kind == MESSAGE:
            item.segment, item.seq = segment, seq
            segment.added += 1
            if blob is None:
                meta = item.dump()
                blob = self.cipher.seal(item.id, _LENGTH.pack(len(meta)) + meta)
                assert item.raw is not None
                write_large(segment.body_path(item.id), self.cipher.seal(item.id, item.raw))
        elif op.kind == STATE:
            item.state["seq"] = seq
        return Row(seq, item.id, op.kind, item.due, item.tenant, item.rank, bool(item.held), blob)

    # -- back on the loop -----------------------------------------------------------------------------------------

    def _done(self, op: _Op | Segment, error: BaseException | None) -> None:
        if isinstance(op, Segment):
            return
        if error is not None:
            self.failure = "queue storage failed"
            if not op.future.done():
                op.future.set_exception(SpoolUnavailable(str(error)))
            return
        self.failure = None
        item, segment = op.item, op.item.segment
        self.in_flight.pop(item.id, None)
        if op.kind == FINAL:
            segment.finished += 1
            self.states.pop(reference(segment.number, item.seq), None)
            segment.forget_body(item.id)
            self._retire(segment)
        else:
            if op.kind == STATE:
                self.states[reference(segment.number, item.seq)] = item.state.pop("seq")
            if op.kind == MESSAGE and op.future.cancelled():
                self.writer.submit(_Op(FINAL, item, None, self.loop.create_future()))
                return
            self._stand(item, segment)
        if not op.future.done():
            op.future.set_result(None)

    def _stand(self, item: Item, segment: Segment) -> None:
        """Put a durable message where it waits."""
        ref = reference(segment.number, item.seq)
        now = self.clock.now()
        size = len(item.raw or b"")
        if item.held:
            self.held[item.id] = ref
        elif (
            item.due <= now
            and item.raw is not None
            and self.hot_bytes + size <= HOT_BYTES
            and not self.backlog.has_ready(item.rank, item.tenant)
        ):
            self.hot.push(item, item.rank, item.tenant)
            self.hot_bytes += size
            self.on_work()
        else:
            item.forget_body()
            self.backlog.push(ref, item.rank, item.tenant, due=item.due, now=now)
            if item.due <= now and not self._loading:
                self._refill()

    def _retire(self, segment: Segment) -> None:
        if segment.live == 0 and segment is not self.current:
            self.segments.pop(segment.number, None)
            self.writer.submit(segment)

    # -- loading --------------------------------------------------------------------------------------------------

    def _refill(self) -> None:
        refs: list[int] = []
        while len(refs) < REFILL and self.hot_bytes < HOT_BYTES and (ref := self.backlog.fair.pop()) is not None:
            refs.append(ref)
        if not refs:
            return
        self._loading = True
        task = asyncio.ensure_future(self._load(refs))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _load(self, refs: list[int]) -> None:
        try:
            items = await self.loop.run_in_executor(None, self._read, refs)
        finally:
            self._loading = False
        for item in items:
            self.hot.push(item, item.rank, item.tenant)
            self.hot_bytes += len(item.raw or b"")
        if items:
            self.on_work()

    def _read(self, refs: list[int]) -> list[Item]:
        """In a thread: the messages behind `refs`. What does not open is counted and left where it is."""
        items = []
        for ref in refs:
            number, seq = split_reference(ref)
            segment = self.segments.get(number)
            if segment is None:
                continue
            item = self.try_open(segment, seq, self.states.get(ref))
            if item is not None:
                items.append(item)
        return items

    def open_row(self, segment: Segment, seq: int, state_seq: int | None, *, body: bool = True) -> Item:
        """The message of one row. Raises CorruptRow, sqlite3.Error or OSError."""
        row = segment.load(seq)
        if row is None or row.data is None:
            raise CorruptRow("row")
        plain = self.cipher.open(row.id, row.data)
        (size,) = _LENGTH.unpack_from(plain)
        raw = plain[4 + size :]
        if not raw and body:
            with contextlib.suppress(FileNotFoundError):
                raw = self.cipher.open(row.id, segment.body_path(row.id).read_bytes())
        item = Item.load(row.id, plain[4 : 4 + size], raw, due=row.due)
        item.segment, item.seq = segment, seq
        if state_seq is not None:
            state = segment.load(state_seq)
            if state is None or state.data is None:
                raise CorruptRow("state")
            item.load_state(self.cipher.open(state.id, state.data))
        return item

    def try_open(self, segment: Segment, seq: int, state_seq: int | None, *, body: bool = True) -> Item | None:
        """As `open_row`; None, counted, where the row does not open."""
        try:
            return self.open_row(segment, seq, state_seq, body=body)
        except (CorruptRow, sqlite3.Error, OSError, ValueError, KeyError, struct.error):
            self.corrupt += 1
            return None

    # -- for people -------------------------------------------------------------------------------------------------

    def find(self, number: int) -> int | None:
        """The reference of a live message; None when it is not in these files. Reads files whole: in a thread."""
        if number in self.held:
            return self.held[number]
        for segment in list(self.segments.values()):
            rows = list(segment.find(number))
            if rows and not any(row.kind == FINAL for row in rows):
                return reference(segment.number, rows[0].seq)
        return None

    def hot_items(self) -> list[Item]:
        """What stands in line with its body."""
        return [
            item for lines in self.hot.lines for line in lines.values() if isinstance(line, _ItemLine) for item in line
        ]

    def withdraw(self, item: Item, ref: int) -> bool:
        """Take a waiting message out of where it waits; False when an attempt has it."""
        if item.id in self.in_flight:
            return False
        if self.held.pop(item.id, None) is None and not self.backlog.discard(ref):
            for lines in self.hot.lines:
                for tenant, line in lines.items():
                    match = (
                        next((hot for hot in line if hot.id == item.id), None) if isinstance(line, _ItemLine) else None
                    )
                    if match is not None and isinstance(line, _ItemLine):
                        line.remove(match)
                        self.hot.size -= 1
                        self.hot_bytes -= len(match.raw or b"")
                        if not len(line):
                            del lines[tenant]
                        return True
            return False
        return True

    # -- upkeep ---------------------------------------------------------------------------------------------------

    async def adopt_orphans(self) -> int:
        """Take over segments without an owner; how many messages came with them."""
        total = 0
        known = {segment.path for segment in self.segments.values()}
        for path in sorted(self.folder.glob("*.queue")):
            if path in known:
                continue
            found = await self.loop.run_in_executor(None, adopt.adopt, path, self._number + 1)
            if isinstance(found, adopt.Adopted):
                self._number += 1
                total += self._take_over(found)
            elif found is adopt.UNREADABLE:
                self.corrupt += 1
        return total

    def _take_over(self, found: adopt.Adopted) -> int:
        segment = found.segment
        self.segments[segment.number] = segment
        segment.added = len(found.rows)
        now = self.clock.now()
        for row in found.rows:
            ref = reference(segment.number, row.seq)
            state = found.states.get(row.id)
            if state is not None:
                self.states[ref] = state.seq
            latest = state or row
            if latest.held:
                self.held[row.id] = ref
            else:
                self.backlog.push(ref, row.rank, row.tenant, due=latest.due, now=now)
        self._retire(segment)
        if not self._loading:
            self._refill()
        return len(found.rows)

    def tick(self) -> None:
        """Once a second: what has ripened may leave; a current segment whose every row is final is given up (GDPR-3)."""
        if self.backlog.ripen(self.clock.now()) and not self._loading:
            self._refill()
        if self.writer.busy:
            return
        if self.current.bytes and self.current.live == 0:
            try:
                self.current = self._create()
            except (OSError, sqlite3.Error):
                self.failure = "queue storage failed"
        for segment in list(self.segments.values()):
            self._retire(segment)

    async def stop(self) -> None:
        """Everything in hand is durable; the segments are given up for others to adopt, empty ones deleted."""
        await self.writer.drain()
        for load in list(self._loads):
            await load
        self.writer.stop()
        for segment in self.segments.values():
            if segment.live:
                segment.close()
            else:
                segment.delete()
        os.close(self._node_lock)
