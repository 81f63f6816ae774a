"""What the queue's writer is asked to do."""

from __future__ import annotations

import asyncio

from relay.spool.item import Item
from relay.spool.segment import Segment


class Op:
    """One row to append. `segment` is None: the writer chooses the current one. `under_way`: the attempt goes on."""

    __slots__ = ("blob", "future", "item", "kind", "segment", "seq", "under_way")

    def __init__(
        self, kind: int, item: Item, blob: bytes | None, future: asyncio.Future[None], *, segment: Segment | None
    ) -> None:
        self.kind = kind
        self.item = item
        self.blob = blob
        self.future = future
        self.segment = segment
        self.seq = 0
        self.under_way = False


class Roll:
    """A new current segment. Also the probe after a failure: it needs the disk as a commit does."""
