"""What reading a mail's documents may cost, and the pieces that come out of it (DLP-8).

Theory of operation. One budget serves a whole mail. Whoever unpacks pays for each chunk before the next is made, so a limit
ends the work in the middle and nothing over it is ever in memory. Three things can end it: `Bomb` and `OutOfTime` end the
scan of the mail, `Broken` ends one document.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

CHUNK = 64 * 1024  # octets that are worked on at a time: no single step holds the interpreter for more than a few ms
RATIO_FROM_BYTES = 1024 * 1024  # small files of equal lines compress by any ratio and hurt nobody
MAX_WHOLE_BYTES = 32 * 1024 * 1024  # of a document inside an archive that must be in memory as a whole


class Bomb(Exception):
    """A limit of DLP-8 was passed; the message says which, never with what."""


class OutOfTime(Exception):
    """The time for the scan is over."""


class Broken(Exception):
    """The document cannot be read; the message is one of the words of `Unreadable`."""


class Limits(NamedTuple):
    """The limits of DLP-8; `depth` is one level of archives, by the shape of the reader."""

    unpacked_bytes: int = 100 * 1000 * 1000
    ratio: int = 100
    entries: int = 1_000


class Text(NamedTuple):
    """A piece of running text, at most a few times CHUNK; `ends` where the next piece is no continuation of it."""

    text: str
    ends: bool = False


class Row(NamedTuple):
    """One row of a table: the cells that hold something, and the column of each; `first` where a table begins."""

    cells: Sequence[str]
    columns: Sequence[int]
    first: bool = False


class Unreadable(NamedTuple):
    """A file, or one in an archive, that cannot be checked: encrypted | broken | nested | unsupported."""

    why: str


class Crashed(NamedTuple):
    """A reader failed in a way that nobody foresaw: kind and place of the error, for the operator."""

    place: str

    @classmethod
    def by(cls, bug: BaseException) -> Crashed:
        """What is said of an error: never its message, which may hold what was read."""
        last = traceback.extract_tb(bug.__traceback__)[-1]
        return cls(f"{type(bug).__name__} at {last.filename.rpartition('/')[2]}:{last.lineno}")


class Mail(NamedTuple):
    """A mail that lay in an archive, for whoever knows how to read mail."""

    content: bytes
    name: str


Piece = Text | Row | Unreadable | Crashed | Mail
Chunks = Iterator[bytes]
ReadPdf = Callable[[bytes, "Budget"], Iterator[str]]
"""Text of a PDF in pieces; raises Broken. Runs outside of this process, see relay.scan."""


class Budget:
    """What is left for one mail. `expired` tells whether its time is over; `pdf` reads PDF where there is a reader."""

    __slots__ = ("_expired", "left", "limits", "pdf", "told_of_pdf")

    def __init__(
        self, limits: Limits | None = None, *, expired: Callable[[], bool] | None = None, pdf: ReadPdf | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.left = self.limits.unpacked_bytes
        self.pdf = pdf
        self.told_of_pdf = False  # that there is no reader: once for a mail
        self._expired = expired

    def check(self) -> None:
        """Raises OutOfTime where the time is over."""
        if self._expired is not None and self._expired():
            raise OutOfTime

    def spend(self, octets: int) -> None:
        """Pay for so many unpacked octets. Raises Bomb or OutOfTime."""
        self.left -= octets
        if self.left < 0:
            raise Bomb("unpacked_bytes")
        self.check()


def slices(content: bytes) -> Chunks:
    """Octets in memory as chunks."""
    return (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))


def whole(chunks: Chunks, limit: int = MAX_WHOLE_BYTES) -> bytes:
    """All chunks as one; raises Broken where they are over `limit`."""
    pieces, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise Broken("unsupported")
        pieces.append(chunk)
    return b"".join(pieces)
