"""Put a backup back into empty folders; then the queue and all marketing wait for `zegel queue release`.

Theory of operation. Everything is written into a folder `.restore` within the data folder and the keys' folder, and no
gateway starts while there is one. Only when the whole backup has been read and found whole is that said in a file
`whole`, and then everything moves to its place. Killed before that: the next restore begins anew. Killed after it: the
next restore finishes the moves, so there is never a gateway with half of its data.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from relay.backup import parts
from relay.backup.forgotten import erase_again, known, since
from relay.backup.parts import Head, read_parts
from relay.backup.sealed import BadBackup, SealedReader
from relay.backup.stores import COUNTERS, Progress
from relay.backup.take import FORMAT, QUEUE
from relay.consent.erased import write_down
from relay.counters.cell_rate import CELLS
from relay.counters.embedded import EmbeddedCounters
from relay.keyring import Keyring
from relay.settings.model import Settings
from relay.spool.cut import RESTORED, unpack_row, write_segment
from relay.store import restored
from relay.store.restored import STAGE, Restored

WHOLE = "whole"
_IGNORED = frozenset((STAGE, "lost+found"))


class NotEmpty(Exception):
    """There is something where the backup should go; the text names it. Nothing was changed."""


class BadList(Exception):
    """The list of erasures cannot be used; the text says why."""


class Back(NamedTuple):
    """What came back. `finished`: of a restore that had been broken off, whose file was not read again."""

    note: Restored
    finished: bool
    erased: int = 0  # people who were erased once more
    deleted: int = 0  # tenants that were deleted once more
    delete_after: str = ""  # the day until which the backup may be kept; "" where it does not say


class Restore:
    """One restore into the folders of `settings`, as their owner."""

    def __init__(self, settings: Settings, *, progress: Progress, erased: Path | None = None) -> None:
        """`erased`: the list of erasures of the gateway that the backup is of; who is on it does not come back."""
        self._erased = erased
        self._people = self._tenants = 0
        self._data = settings.server.data_dir
        self._keys = settings.server.keys_dir
        self._database = settings.database_path
        self._progress = progress
        self._stage, self._key_stage = self._data / STAGE, self._keys / STAGE
        self._manifest: Head = {}
        self._messages = 0

    def run(self, file: BinaryIO, passphrase: str) -> Back:
        """Raises NotEmpty, BadBackup, BadList, BlockingIOError (another restore is at work), KeyringError or OSError."""
        for folder in (self._data, self._keys):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (self._stage / WHOLE).exists():
                return Back(self._finish(), True)
            for folder in (self._data, self._keys):
                _require_empty(folder)
            self._clear()
            try:
                source = SealedReader(file, passphrase)
                self._fill(source)
            except BaseException:
                self._clear()
                raise
            return Back(self._finish(), False, self._people, self._tenants, str(source.header.get("delete_after", "")))
        finally:
            os.close(handle)

    def _clear(self) -> None:
        for stage in (self._stage, self._key_stage):
            shutil.rmtree(stage, ignore_errors=True)

    def _fill(self, source: SealedReader) -> None:
        """Everything into the stages, durable, with the note; then WHOLE. Raises BadBackup and leaves the rest to the caller."""
        for stage in (self._stage, self._key_stage):
            stage.mkdir(mode=0o700)
        for count, (head, blocks) in enumerate(read_parts(source)):
            self._take(head, self._told(blocks), count)
        source.finish()
        self._check()
        self._forget()
        _sync_tree(self._key_stage)
        _sync_tree(self._stage)
        _write(self._stage / WHOLE, iter(()))
        _sync(self._stage)

    def _told(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            yield block
            self._progress(len(block))

    def _take(self, head: Head, blocks: Iterator[bytes], count: int) -> None:
        kind, name = head["kind"], head.get("name", "")
        if (kind == parts.MANIFEST) != (count == 0):
            raise BadBackup("its first part does not say what it is")
        if kind == parts.MANIFEST:
            if head.get("format") != FORMAT:
                raise BadBackup("a newer version of Zegel made it: restore it with that one, or a later one")
            self._manifest = head
        elif kind == parts.SEGMENT:
            self._messages += _segment(self._stage / QUEUE / RESTORED / name, blocks, head)
        elif kind == parts.BODY:
            _write(self._stage / QUEUE / RESTORED / name, blocks)
        elif kind == parts.DATABASE:
            _write(self._stage / self._database.name, blocks)
        elif kind == parts.KEY:
            _write(self._key_stage / name, blocks)
        elif kind == parts.END:
            if head.get("parts") != count:
                raise BadBackup("parts of it are missing")
        else:
            _write(self._stage / name, blocks)
        for _ in blocks:
            raise BadBackup(f"there is more in {name or kind} than there should be")

    def _check(self) -> None:
        """The keys open, nobody is present any more, and the note is there."""
        Keyring.open(self._key_stage, create=False)
        if not (self._stage / self._database.name).exists():
            raise BadBackup("there is no database in it")
        if (self._stage / COUNTERS).exists():
            counters = EmbeddedCounters(self._stage)
            for member in range(CELLS):  # sessions that were open at the cut
                counters.vacate(member)
            counters.close()
        earlier = restored.read(self._stage)  # the backup was made before somebody released a restore
        cut_at = min(self._manifest["cut_at"], earlier.cut_at if earlier is not None else self._manifest["cut_at"])
        messages = self._messages + (earlier.messages if earlier is not None else 0)
        restored.write(self._stage, Restored(cut_at, time.time(), messages))

    def _forget(self) -> None:
        """Who was erased or deleted since the cut is so again, before anything here can be read (GDPR-8, GDPR-18).

        The list comes along whole: an older backup that is put back after this one needs what this one knew already.
        """
        if self._erased is None:
            return
        try:
            everybody = known(self._erased)
        except ValueError as error:
            raise BadList(str(error)) from None
        gone = since(everybody, self._manifest["cut_at"])
        self._people, self._tenants = len(gone.people), len(gone.tenants)
        if any(gone):
            keyring = Keyring.open(self._key_stage, create=False)
            erase_again(self._stage, self._database.name, keyring, gone)
        write_down(self._stage, [*everybody.people, *everybody.tenants])

    def _finish(self) -> Restored:
        """Move everything to its place, the keys first. May be begun again at any point."""
        note = restored.read(self._stage) or restored.read(self._data)
        assert note is not None, "it was written before WHOLE"
        if self._key_stage.exists():
            _move_all(self._key_stage, self._keys)
            _sync(self._keys)
            self._key_stage.rmdir()
        _move_all(self._stage, self._data, but=WHOLE)
        _sync(self._data)
        (self._stage / WHOLE).unlink()
        self._stage.rmdir()
        _sync(self._data)
        return note


def _require_empty(folder: Path) -> None:
    strange = sorted(set(os.listdir(folder)) - _IGNORED)
    if strange:
        raise NotEmpty(
            f"{folder} is not empty, there is {strange[0]}: a backup is restored into empty folders only, "
            "so move what is there out of the way"
        )


def _segment(path: Path, blocks: Iterator[bytes], head: Head) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        messages = write_segment(path, map(unpack_row, blocks))
    except struct.error:
        raise BadBackup(f"a row of {path.name} in it is no row") from None
    if messages != head.get("messages"):
        raise BadBackup(f"messages of {path.name} are missing in it")
    return messages


def _write(path: Path, blocks: Iterator[bytes]) -> None:
    """A new file for its owner only. Raises BadBackup where the name comes twice."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BadBackup(f"{path.name} comes twice in it") from None
    with open(handle, "wb") as file:
        file.writelines(blocks)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move_all(stage: Path, folder: Path, *, but: str = "") -> None:
    for path in sorted(stage.iterdir()):
        if path.name != but:
            path.rename(folder / path.name)


def release(data_dir: Path) -> int:
    """Let the restored queue go, and marketing with it; how many queue files. Raises OSError; may be repeated."""
    from relay.spool.cut import release as release_queue

    moved = release_queue(data_dir / QUEUE)
    restored.remove(data_dir)
    with contextlib.suppress(OSError):
        _sync(data_dir)
    return moved
