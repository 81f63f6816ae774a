"""Recipients taken out of queue files that no process works with: what a restore put back and nobody has released (GDPR-8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relay.spool.box import Box
from relay.spool.cipher import Cipher, CorruptRow
from relay.spool.item import Fate, Item
from relay.spool.segment import FINAL, STATE, Row, Segment

Strikes = Callable[[int, int, str], bool]
"""Whether this tenant's mail of this id may not go to an address any more."""


def strike(item: Item, strikes: Strikes) -> int:
    """End what waits for such recipients; how many. The caller makes it durable."""
    count = 0
    for index, recipient in enumerate(item.recipients):
        if item.fates[index] is Fate.WAITING and strikes(item.tenant, item.id, recipient.address):
            item.fates[index] = Fate.FAILED
            count += 1
    return count


def is_meant(item: Item, strikes: Strikes) -> bool:
    """Whether it would still go to such a recipient."""
    return any(
        fate is Fate.WAITING and strikes(item.tenant, item.id, recipient.address)
        for fate, recipient in zip(item.fates, item.recipients, strict=True)
    )


def strike_folder(folder: Path, cipher: Cipher, strikes: Strikes) -> int:
    """The same in every file of a folder, durable when this returns. May be done again. Raises sqlite3.Error or OSError."""
    return sum(_strike_file(path, Box(cipher), strikes) for path in sorted(folder.glob("*.queue")))


def _strike_file(path: Path, box: Box, strikes: Strikes) -> int:
    segment = Segment.adopt(path, 1)
    if segment is None:  # it is being released: its new owner meets the erasure
        return 0
    try:
        count = 0
        ended: list[Row] = []
        for row in segment.newest_rows():
            try:
                item = box.open(segment, row.seq, body=False)
            except (CorruptRow, ValueError, KeyError, TypeError):
                continue  # nobody can read it
            struck = strike(item, strikes)
            if struck:
                is_over = Fate.WAITING not in item.fates
                kind, blob = (FINAL, None) if is_over else (STATE, box.state(item))
                held = 0 if is_over else row.held
                ended.append(Row(segment.next_seq, item.id, kind, item.due, item.tenant, item.rank, held, blob))
                segment.next_seq += 1
                count += struck
        if ended:
            segment.append(ended)
            segment.purge(rewrite=True)
            for row in ended:
                if row.kind == FINAL:
                    segment.forget_body(row.id)
        return count
    finally:
        segment.close()
