"""What a row holds: a message with its body, or a newer state of it; sealed, and opened again.

A message's plain text is `length of meta (4) | meta (JSON) | body`; the highest bit of the length says that the body
lies in a file of its own.
"""

from __future__ import annotations

import struct
from typing import Any

import orjson

from relay.spool.cipher import Cipher, CorruptRow
from relay.spool.item import Item
from relay.spool.segment import LARGE_BYTES, STATE, Row, Segment

_LENGTH = struct.Struct(">I")
_ELSEWHERE = 1 << 31


class NoRoom(Exception):
    """The message has a large body, and memory holds enough of those."""


class Box:
    """Seals messages for rows and opens rows again. Safe in every thread."""

    def __init__(self, cipher: Cipher) -> None:
        self.cipher = cipher

    def message(self, item: Item) -> bytes:
        """The blob of a message row; without the body where that is large."""
        assert item.raw is not None
        meta = item.dump()
        if len(item.raw) > LARGE_BYTES:
            plain = _LENGTH.pack(len(meta) | _ELSEWHERE) + meta
        else:
            plain = b"".join((_LENGTH.pack(len(meta)), meta, item.raw))
        return self.cipher.seal(item.id, plain)

    def state(self, item: Item) -> bytes:
        return self.cipher.seal(item.id, item.dump_state())

    def write_body(self, segment: Segment, item: Item) -> None:
        """The large body's file; on disk when this returns. Raises OSError."""
        assert item.raw is not None
        segment.write_body(item.id, self.cipher.seal_parts(item.id, item.raw))

    def open(self, segment: Segment, seq: int, *, body: bool = True, largest: int | None = None) -> Item:
        """The message whose newest row is `seq`, with its body if that is small or of at most `largest` octets.

        `body=False`: without its large body. Raises NoRoom, CorruptRow, sqlite3.Error or OSError.
        """
        newest = _row(segment, seq)
        if newest.kind != STATE:
            return self._open(segment, newest, None, body=body, largest=largest)
        state = orjson.loads(self.cipher.open(newest.id, newest.data or b""))
        first = _row(segment, state["of"])
        if first.id != newest.id:
            raise CorruptRow("row")
        return self._open(segment, first, (state, seq), body=body, largest=largest)

    def meta(self, row: Row) -> dict[str, Any]:
        """The envelope in a message row, see `Item.meta`. Raises CorruptRow."""
        found: dict[str, Any] = orjson.loads(_meta(self.cipher.open(row.id, row.data or b"")))
        return found

    def _open(
        self,
        segment: Segment,
        row: Row,
        state: tuple[dict[str, object], int] | None,
        *,
        body: bool,
        largest: int | None,
    ) -> Item:
        meta, raw = parted(self.cipher.open(row.id, row.data or b""))
        if raw is None and body:
            raw = self._body(segment, row.id, largest)
        item = Item.load(row.id, meta, raw, due=row.due)
        item.segment, item.first, item.seq = segment, row.seq, row.seq
        if state is not None:
            item.load_state(state[0])
            item.seq = state[1]
        return item

    def _body(self, segment: Segment, number: int, largest: int | None) -> bytes:
        try:
            if largest is not None and segment.body_size(number) > largest:
                raise NoRoom
            return self.cipher.open(number, segment.read_body(number))
        except FileNotFoundError:
            raise CorruptRow("body") from None


def parted(plain: bytes) -> tuple[bytes, bytes | None]:
    """Meta and body of a message's plain text; None where the body lies in a file of its own."""
    (size,) = _LENGTH.unpack_from(plain)
    meta = _meta(plain)
    return meta, None if size & _ELSEWHERE else plain[4 + len(meta) :]


def _meta(plain: bytes) -> bytes:
    (size,) = _LENGTH.unpack_from(plain)
    return plain[4 : 4 + (size & ~_ELSEWHERE)]


def _row(segment: Segment, seq: int) -> Row:
    row = segment.load(seq)
    if row is None or row.data is None:
        raise CorruptRow("row")
    return row
