"""The queue's promises. Every backend keeps them, and tests/contract/test_spool.py holds it to them.

`commit` returns: a power cut loses nothing of the message. `take` hands a message to one attempt only, until `record`
or `release`. `record` is durable when its future is done; a message whose recipients are all final is gone from then
on, and with its segment from the disk. A message that was committed and not recorded final is handed out again after
a restart.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from relay.spool.item import Item


class SpoolUnavailable(Exception):
    """The queue cannot be written: disk full, read-only, gone. The peer hears 4xx; nothing was promised."""


class Spool(Protocol):
    """What intake and delivery use of a queue."""

    def commit(self, item: Item) -> asyncio.Future[None]:
        """Make `item` durable. The future fails with SpoolUnavailable. Cancelled, it takes the message back: it is not sent."""
        ...

    def take(self) -> Item | None:
        """The next message that may leave now, body in memory, or None."""
        ...

    def progress(self, item: Item) -> None:
        """Write down `item.fates` soon, while the attempt goes on: a crash then repeats only what is in doubt (OUT-10)."""
        ...

    def has_urgent(self) -> bool:
        """A message of a personal or transactional stream waits in memory. Cheap."""
        ...

    def record(self, item: Item) -> asyncio.Future[None]:
        """Write down `item.fates`, `item.state` and `item.due` after an attempt; final when no recipient waits."""
        ...

    def release(self, item: Item) -> None:
        """Give an untried message back: it may leave again at once."""
        ...

    def freeze(self, item: Item) -> None:
        """Put an untried message where `take` does not find it until its sender is released. Nothing is written."""
        ...

    def pressure(self) -> str | None:
        """Why new mail must wait, as a code of reasons.toml, or None. Cheap, no I/O."""
        ...
