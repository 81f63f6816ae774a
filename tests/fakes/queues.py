"""Queues for tests: real files, a clock in the hand, and messages of a kind."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from relay.spool.cipher import Cipher
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item
from tests.fakes.clock import FakeClock

PATIENCE_SECONDS = 20.0


class Files:
    """The embedded backend: queues over one folder, each as of a process of its own."""

    def __init__(self, folder: Path, *, min_free_bytes: int = 0) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.cipher = Cipher({1: b"k" * 32}, 1)
        self.min_free_bytes = min_free_bytes
        self.work = asyncio.Event()
        self.running: list[QueueFiles] = []
        self._copies = 0

    async def open(self, folder: Path | None = None) -> QueueFiles:
        """A queue over the folder, which has taken over what lies there without an owner."""
        queue = QueueFiles(
            folder or self.folder, self.cipher, self.clock, on_work=self.work.set, min_free_bytes=self.min_free_bytes
        )
        await queue.start()
        self.running.append(queue)
        return queue

    async def stop(self, queue: QueueFiles) -> None:
        self.running.remove(queue)
        await queue.stop()

    async def after_power_cut(self) -> QueueFiles:
        """What a machine finds that starts with the disk as it is at this moment."""
        self._copies += 1
        copy = self.folder.with_name(f"{self.folder.name}-{self._copies}")
        shutil.copytree(self.folder, copy)
        return await self.open(copy)

    async def close(self) -> None:
        for queue in list(self.running):
            await self.stop(queue)

    async def take(self, queue: QueueFiles) -> Item:
        """The next message, waited for while it is being loaded."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (item := queue.take()) is None:
                self.work.clear()
                await self.work.wait()
            return item

    async def drain(self, queue: QueueFiles, number: int) -> list[Item]:
        """`number` messages; afterwards there is none that may leave."""
        items = [await self.take(queue) for _ in range(number)]
        await queue.loader.idle()
        assert queue.take() is None
        return items

    async def finish(self, queue: QueueFiles, item: Item, *fates: Fate) -> None:
        """Record an attempt: all delivered, unless `fates` says otherwise."""
        item.fates = list(fates) or [Fate.DELIVERED] * len(item.fates)
        await queue.record(item)

    async def pass_time(self, queue: QueueFiles, seconds: float, step: float = 30.0) -> None:
        """Let time go by with the upkeep of a worker, and its threads finish."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            queue.tick()
            await queue.writer.drain()
            await queue.shelf.drain()


def message(queue: QueueFiles, body: bytes = b"hello", **changes: Any) -> Item:
    """A message that is not yet committed. `stream`, `tenant`, `due`, `held`, `turn`, `recipients` may be chosen."""
    tenant = changes.pop("tenant", 1)
    meta = {
        "tenant_id": tenant,
        "tenant": f"shop{tenant}",
        "credential": "shop-app",
        "stream": changes.pop("stream", "marketing"),
        "class": "commercial",
        "purpose": "newsletter",
        "from": changes.pop("sender", "news@sender.example"),
        "rcpt": [[f"ann{n}@example.net", ["FAILURE"], ""] for n in range(changes.pop("recipients", 1))],
        "ret": "",
        "envid": "",
        "utf8": False,
        "edits": [],
        "domain": "sender.example",
        "language": "en",
        "at": queue.clock.now(),
    }
    if "turn" in changes:
        meta["turn"] = changes["turn"]
        changes.setdefault("due", changes.pop("turn"))
    held = changes.pop("held", "")
    if held:
        meta["held"] = held
    due = changes.pop("due", queue.clock.now())
    assert not changes, changes
    raw = b"From: news@sender.example\r\nSubject: News\r\n\r\n" + body + b"\r\n"
    return Item(queue.next_id(), meta, raw, due=due)


def files_holding(folder: Path, marker: bytes) -> list[str]:
    """Names of the files under `folder` that hold `marker`."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and marker in path.read_bytes()
    )


def sealed_rows(folder: Path) -> bytes:
    """Every octet in the queue files and their logs, to look for what should be gone."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def is_root() -> bool:
    return os.geteuid() == 0
