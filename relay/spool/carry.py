"""The mail of one tenant as it was in a cut of the queue: what waits, and what is held, with its body (GDPR-18)."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from relay.spool.box import parted
from relay.spool.cipher import Cipher, CorruptRow
from relay.spool.cut import Cut
from relay.spool.item import Item


def mail_of(cut: Cut, cipher: Cipher, tenant: int) -> Iterator[Item]:
    """Every message that can be read, one at a time, file by file; the `raw` of one whose body is gone is None.

    Raises sqlite3.Error or OSError.
    """
    for segment in cut.segments:
        for row, state in segment.messages_of(tenant):
            try:
                meta, raw = parted(cipher.open(row.id, row.data or b""))
                if raw is None:
                    body = segment.stage / f"{row.id:016x}"
                    raw = cipher.open(row.id, body.read_bytes()) if body.exists() else None
                item = Item.load(row.id, meta, raw, due=row.due)
                if state is not None:
                    item.load_state(orjson.loads(cipher.open(row.id, state)))
            except (CorruptRow, ValueError, KeyError, TypeError):
                continue  # nobody can send it either
            yield item
