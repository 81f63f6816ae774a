"""TAR archives (POSIX ustar, and what GNU made of it) as a stream: one block ahead, no file of it ever whole."""

from __future__ import annotations

from collections.abc import Iterator

from relay.mail.documents.budget import Bomb, Broken, Budget, Chunks

_BLOCK = 512
_FILES = b"0\0007"
_KNOWN = b"123456LKxgV"  # links, devices, folders, long names, labels: nothing of a file


def read_tar(chunks: Chunks, budget: Budget) -> Iterator[tuple[str, Chunks]]:
    """Name and content of each file, to be read before the next is asked for. Raises Broken, Bomb, OutOfTime."""
    tape = _Tape(chunks)
    for _ in range(budget.limits.entries + 1):
        head = tape.read(_BLOCK)
        if not head.strip(b"\0"):
            return
        size = _size(head)
        budget.check()
        if head[156] in _FILES:
            content = tape.pieces(size)
            yield head[:100].partition(b"\0")[0].decode("utf-8", "replace"), content
        elif head[156] in _KNOWN:
            content = tape.pieces(size)
        else:
            raise Broken("unsupported")  # a file with holes, or in several volumes
        for _ in content:
            budget.check()
        tape.read(-size % _BLOCK)
    raise Bomb("entries")


def _size(head: bytes) -> int:
    if len(head) < _BLOCK or head[257:262] != b"ustar":
        raise Broken("broken")
    field = head[124:136]
    if field[0] & 0x80:  # as a number, for what eleven octal digits do not hold
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise Broken("broken") from None


class _Tape:
    """Chunks of any length, read in the lengths that are asked for."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._held = b""

    def read(self, octets: int) -> bytes:
        """So many octets of at most a block; fewer at the end."""
        while len(self._held) < octets:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._held += chunk
        found, self._held = self._held[:octets], self._held[octets:]
        return found

    def pieces(self, octets: int) -> Iterator[bytes]:
        """The next so many octets as chunks. Raises Broken where there are fewer."""
        while octets > 0:
            chunk = self._held or next(self._chunks, b"")
            if not chunk:
                raise Broken("broken")
            piece, self._held = chunk[:octets], chunk[octets:]
            octets -= len(piece)
            yield piece
