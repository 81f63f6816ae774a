"""What a backup holds, one part after the other: `length (4) | head, JSON`, then blocks `length (4) | octets`, then a length 0.

A part of the kind END comes last and counts the others, so that a backup whose writer stopped half-way is none.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from relay.backup.sealed import BadBackup

MANIFEST, DATABASE, SQLITE, FILE, SEGMENT, BODY, KEY, END = (
    "manifest", "database", "sqlite", "file", "segment", "body", "key", "end",
)  # fmt: skip
KINDS = frozenset((MANIFEST, DATABASE, SQLITE, FILE, SEGMENT, BODY, KEY, END))
BLOCK_BYTES = 256 * 1024
MOST_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")

Head = dict[str, Any]


class _Sink(Protocol):
    def write(self, data: bytes) -> None: ...


class _Source(Protocol):
    def read(self, size: int) -> bytes: ...


def write_part(sink: _Sink, head: Head, blocks: Iterable[bytes] = ()) -> int:
    """One part; the octets of its blocks. `head` has `kind` and, where it is of a file, `name`."""
    text = json.dumps(head).encode()
    sink.write(_LENGTH.pack(len(text)) + text)
    total = 0
    for block in blocks:
        if block:
            sink.write(_LENGTH.pack(len(block)))
            sink.write(block)
            total += len(block)
    sink.write(_LENGTH.pack(0))
    return total


def read_parts(source: _Source) -> Iterator[tuple[Head, Iterator[bytes]]]:
    """Every part with its blocks, up to and with END. The blocks of a part must be used up before the next. Raises BadBackup."""
    kind = ""
    while kind != END:
        try:
            head: Head = json.loads(source.read(_length(source)))
            kind, name = head["kind"], head.get("name", "")
        except (ValueError, KeyError, TypeError):
            raise BadBackup("a part of it has no name") from None
        if kind not in KINDS:
            raise BadBackup(f"it holds a {kind!r}, which this version does not know: use the version that made it")
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise BadBackup("a name in it leads out of the folder")
        yield head, _blocks(source)


def _blocks(source: _Source) -> Iterator[bytes]:
    while length := _length(source):
        yield source.read(length)


def _length(source: _Source) -> int:
    (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
    if length > MOST_BYTES:
        raise BadBackup("a part of it is impossibly large")
    return int(length)
