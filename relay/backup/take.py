"""Make a backup: what was durable before it began is in it, with the keys to read it, while the gateway goes on.

Theory of operation. The queue is cut first (relay.spool.cut), and while it stands still the shared database is looked at:
so it knows of every opt-out and consent that mail of this queue was judged by. Everything else follows at leisure. The
keys come last: a key is written before it is used and never deleted, so all that was made with one can be read.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from relay.backup import parts
from relay.backup.parts import Head, write_part
from relay.backup.sealed import SealedWriter
from relay.backup.stores import COUNTERS, Picture, Progress, copy_counters, file_blocks, is_sqlite
from relay.consent.erased import FILE as ERASED
from relay.settings.model import Settings
from relay.spool.cut import Cut, SegmentCut, pack_row
from relay.spool.segment import DAMAGED
from relay.store import restored

FORMAT = 1
QUEUE = "queue"
# Of this machine and moment alone; made anew by whoever needs them.
# The list of erasures lies outside: an older one must never take the place of the newer.
NOT_KEPT = frozenset(("owner.lock", "control.sock", "generation", "lost+found", ERASED))
_BESIDE = ("-wal", "-shm", "-journal")


DAY = 86_400.0
KEEP_DAYS = 35
"""A backup may keep what it holds so long after its time is over in the gateway, and is then to be deleted (GDPR-12)."""


def day(moment: float) -> str:
    """A day in UTC, as in the header of a backup."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


class Taken(NamedTuple):
    """What a backup holds. Times are epoch seconds."""

    cut_at: float
    messages: int
    parts: int
    size_bytes: int
    damaged_files: int
    delete_after: str  # a day


class Backup:
    """One backup of the data and keys of `settings`, as their owner."""

    def __init__(self, settings: Settings, *, version: str, progress: Progress) -> None:
        """`progress` is told octets as they are written."""
        self._settings = settings
        self._data = settings.server.data_dir
        self._version = version
        self._progress = progress
        self._count = self._size = self._messages = 0
        self._picture: Picture | None = None
        self._cut_at = 0.0

    def estimate(self) -> int:
        """About the octets that will be read."""
        total = 0
        for path in self._data.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def write(self, file: BinaryIO, passphrase: str) -> Taken:
        """Write the whole file. Raises NoCut, NoRoom, sqlite3.Error or OSError; then what was written is of no use."""
        said = {name: day(time.time() + days * DAY) for name, days in (("made", 0), ("delete_after", KEEP_DAYS))}
        self._out = SealedWriter(file, passphrase, said=said)
        queue = self._data / QUEUE
        queue.mkdir(mode=0o700, exist_ok=True)
        with contextlib.closing(Cut(queue)) as cut:
            self._cut_at = time.time()
            cut.take(self._look)
            self._stage = cut.stage
            manifest = {"format": FORMAT, "zegel": self._version, "cut_at": self._cut_at}
            self._part({"kind": parts.MANIFEST, **manifest, "hostname": self._settings.server.hostname})
            for segment in cut.segments:
                self._segment(segment)
            for path in cut.damaged:  # nobody can read it today; whoever looks at it must still have it
                for each in (path, path.with_name(f"{path.name}-wal")):
                    self._plain(each)
            self._database()
            self._rest()
            self._keys()
        damaged = len(cut.damaged)
        self._part({"kind": parts.END, "parts": self._count, "messages": self._messages})
        self._out.finish()
        kept = restored.read(self._data)  # what nobody has released yet is in it file by file
        messages = self._messages + (kept.messages if kept is not None else 0)
        return Taken(self._cut_at, messages, self._count, self._size, damaged, said["delete_after"])

    def _look(self) -> None:
        if self._settings.database_path.exists():
            self._picture = Picture(self._settings.database_path)

    def _part(self, head: Head, blocks: Iterator[bytes] | None = None) -> None:
        self._count += 1
        self._size += write_part(self._out, head, self._told(blocks or iter(())))

    def _told(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            yield block
            self._progress(len(block))

    def _segment(self, segment: SegmentCut) -> None:
        messages = segment.count()
        if messages:
            head = {"kind": parts.SEGMENT, "name": segment.name, "messages": messages}
            self._part(head, (pack_row(row) for row in segment.rows()))
            for body in segment.bodies():
                name = f"{Path(segment.name).with_suffix('.bodies')}/{body.name}"
                self._part({"kind": parts.BODY, "name": name}, file_blocks(body))
        self._messages += messages
        segment.close()

    def _database(self) -> None:
        if self._picture is not None:
            self._part({"kind": parts.DATABASE, "name": "database"}, self._picture.blocks(self._stage))

    def _rest(self) -> None:
        """Delivery log, thread memory, outbox, counters, and whatever else lies in the data folder."""
        for path in copy_counters(self._data, self._stage):
            self._part({"kind": parts.FILE, "name": path.name}, file_blocks(path))
        for path in self._files(self._data):
            if path == self._settings.database_path or path.name.partition(".")[0] == COUNTERS:
                continue
            self._plain(path)

    def _plain(self, path: Path) -> None:
        """A file that may be gone by now, for instance one of a day that retention has ended."""
        name = str(path.relative_to(self._data))
        with contextlib.suppress(FileNotFoundError):
            if path.suffix != ".queue" and DAMAGED not in name and is_sqlite(path):
                self._part({"kind": parts.SQLITE, "name": name}, Picture(path).blocks(self._stage))
            else:
                self._part({"kind": parts.FILE, "name": name}, _opened(path))

    def _files(self, folder: Path) -> Iterator[Path]:
        """Files of the data folder beside the queue in use, keys and locks; what a restore put there waits in the queue too."""
        keys, queue = self._settings.server.keys_dir, self._data / QUEUE
        for path in sorted(folder.iterdir()):
            if path.is_symlink() or path == keys or path.name.startswith(".") or path.name in NOT_KEPT:
                continue
            if path.is_dir():
                if not (folder == queue and path.suffix == ".bodies"):
                    yield from self._files(path)
            elif DAMAGED in path.name or (path.is_file() and folder != queue and not path.name.endswith(_BESIDE)):
                yield path

    def _keys(self) -> None:
        folder = self._settings.server.keys_dir
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                self._part({"kind": parts.KEY, "name": str(path.relative_to(folder))}, file_blocks(path))


def _opened(path: Path) -> Iterator[bytes]:
    """As `file_blocks`, but a file that is gone is told now, not when its part has begun."""
    blocks = file_blocks(path)
    first = next(blocks, b"")
    return chain((first,), blocks)


def sync(file: BinaryIO, folder: Path) -> None:
    """Make a new file durable, its name included."""
    file.flush()
    os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
