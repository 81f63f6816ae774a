"""The one writer of the shared database: operations in, commits out (design, "embedded").

Theory of operation. One process holds `owner.lock` in the data folder; its owner runs in one thread. Operations that
wait at the same moment may share a commit (`call_many`), each in a savepoint of its own. An answer leaves only after
the commit, and only then the generation counters move, so a reader never trusts what might still be undone. Imports
come in chunks of at most 500 rows, so an opt-out waits for one chunk at most.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from relay import store
from relay.consent.erased import Deleted, Erased, write_down
from relay.keyring import Keyring, KeyringError
from relay.owner import dkim_keys, domains
from relay.owner.args import Args
from relay.owner.desk import Result
from relay.owner.error import OwnerError
from relay.owner.reader import HOUSE, Places, Reader
from relay.owner.registry import OPERATIONS
from relay.store.connection import BUSY_TIMEOUT_MS, told, url_of
from relay.store.generation import CONSENT, DIRECTORY, PLACE_BYTES, Generation, mark_of
from relay.store.logfiles import LogFiles
from relay.store.restored import is_broken_off
from relay.store.uses import FOLDER

LOCK = "owner.lock"
# Who reads opens the keyring anew before what is written under a new key can be missed (UNSUB-20).
_NEW_KEYS = frozenset(("keys.rotate",))
# Erasing must leave nothing behind in the write-ahead log either (GDPR-8).
_SCRUBS = frozenset(("consent.erase", "mydata.erase", "erasure.again", "erasure.done", "tenant.emptied"))
SCRUB_AGAIN_MS = 50
_ASKS_DNS = {"domain.verify": "domain", "dkim.check": "dkim", "dkim.activate": "dkim"}


class Owner(Reader):
    """The writer. One per data folder, used from one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        keyring: Keyring,
        *,
        generation: Generation,
        lock: int,
        policies: Mapping[str, object],
        now: Callable[[], float],
    ) -> None:
        super().__init__(engine, keyring, policies=policies, now=now)
        self._generation = generation
        self._lock = lock
        self._connection = engine.connect()
        self._file = _file_of(engine.url)
        self._place = mark_of(self._file)[:PLACE_BYTES] if self._file is not None else b""
        self._log = LogFiles(self._file) if self._file is not None else None
        self._folder: Path | None = None  # where the list of the erased lies; none for a database without a data folder
        self._must_scrub = False  # the log holds pages of who was erased: somebody was reading it
        self._note_log()

    @classmethod
    def open(
        cls,
        settings: Places,
        keyring: Keyring,
        *,
        policies: Mapping[str, object] = HOUSE,
        now: Callable[[], float] = time.time,
    ) -> Owner:
        """Take the folder's lock, bring the schema up to date, and stand ready. `policies` is the config's table.

        Raises OwnerError `owner.busy` where another process is the owner, StoreUnavailable where the database is not
        to be had.
        """
        data_dir = Path(settings.server.data_dir)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_broken_off(data_dir):
                raise store.StoreUnavailable(f"a restore into {data_dir} was broken off: run `zegel restore` again")
            keyring.remove_leftovers()
            database, generation = settings.storage.database, Generation.open(data_dir)
            owner = cls._open(database, keyring, generation, lock=lock, policies=policies, now=now)
            owner.keep_uses_in(data_dir / FOLDER)
            owner.keep_list_in(data_dir)
            return owner
        except BlockingIOError:
            os.close(lock)
            text = "another process owns this data folder: talk to it through its control socket, or stop it"
            raise OwnerError("owner.busy", text) from None
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _open(
        cls,
        database: str,
        keyring: Keyring,
        generation: Generation,
        *,
        lock: int,
        policies: Mapping[str, object],
        now: Callable[[], float],
    ) -> Owner:
        path = _file_of(url_of(database))
        if path is None:
            return cls(store.open(database), keyring, generation=generation, lock=lock, policies=policies, now=now)
        if generation.read(DIRECTORY) and not (path.exists() and path.stat().st_size):
            # A new one would know nobody: every login would be refused for good, and every opt-out forgotten.
            raise store.StoreUnavailable(
                f"{path} is gone or empty: put it back from a backup; to begin anew, empty {path.parent} first"
            )
        if not generation.is_readable:  # it was set aside and nobody has seen since that it is whole
            store.check_whole(path)
        with generation.writing(path):
            owner = cls(store.open(database), keyring, generation=generation, lock=lock, policies=policies, now=now)
        generation.set_readable(True)
        return owner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder back. The owner is of no use afterwards."""
        with self._writing():  # the last one to close copies the log into the file
            self._connection.close()
            super().close()
        self._generation.close()
        os.close(self._lock)

    def call(self, op: str, args: Mapping[str, object], *, actor: str = "operator") -> Result:
        """Run one operation; what it wrote is durable when this returns. Raises OwnerError, and then nothing changed."""
        answer = self.call_many([(op, args, actor)])[0]
        if isinstance(answer, OwnerError):
            raise answer
        return answer

    def call_many(self, calls: Sequence[tuple[str, Mapping[str, object], str]]) -> list[Result | OwnerError]:
        """Run operations under one commit, in order, each for its actor; one that is refused takes nothing else with it.

        Raises StoreUnavailable where the commit failed: then none of them happened.
        """
        answers: list[Result | OwnerError] = []
        gone: dict[int, list[Erased | Deleted]] = {}  # by the place of the answer
        slots: set[int] = set()
        self._connect()
        self.look()
        if self._must_scrub:
            self._scrub(SCRUB_AGAIN_MS)
        try:
            with self._writing(), self._connection.begin():
                for op, args, actor in calls:
                    try:
                        if self._must_scrub and op == "erasure.done":
                            raise OwnerError(
                                "erasure.log_in_use", "somebody still reads the log that names who was erased"
                            )
                        desk = self._desk(self._connection, actor)
                        with self._connection.begin_nested():
                            answers.append(self._run(desk, op, args))
                        if desk.gone:
                            gone[len(answers) - 1] = desk.gone
                        slots.update(OPERATIONS[op].slots)
                    except OwnerError as error:
                        answers.append(error)
        except sa.exc.DatabaseError as error:
            # A damaged file comes as the bare class; the other subclasses are bugs of ours.
            damaged = type(error) is sa.exc.DatabaseError
            if not damaged and not isinstance(error, sa.exc.OperationalError):
                raise
            raise store.StoreUnavailable(told(error), damaged=damaged) from error
        finally:
            if any(op in _NEW_KEYS for op, *_ in calls):  # the key is in its file, whatever became of the commit
                self._renew_readers()
        for slot in sorted(slots):
            self._generation.bump(slot)
        if any(op in _SCRUBS for op, *_ in calls):
            self._scrub()
        if gone and not self._write_down([one for some in gone.values() for one in some]):
            for answer in map(answers.__getitem__, gone):
                if isinstance(answer, dict):
                    answer["listed"] = False
        return answers

    def keep_list_in(self, folder: Path | None) -> None:
        """Where the list of the erased lies, outside every backup: whoever hears that he is erased is on it. None: nowhere."""
        self._folder = folder

    def _write_down(self, gone: Sequence[Erased | Deleted]) -> bool:
        """False where the disk did not take it: the row that stays open does it again (relay.serve.erasures)."""
        if self._folder is None:
            return True
        try:
            write_down(self._folder, gone)
        except OSError:
            return False
        return True

    def check(self, *, write: bool) -> None:
        """Whether a change would be kept; with `write` by making one that changes nothing. Raises StoreUnavailable."""
        self._connect()
        self.look()
        if not write or self._connection.dialect.name != "sqlite":
            return
        try:
            with self._writing(), self._connection.begin():
                version = int(self._connection.exec_driver_sql("PRAGMA user_version").scalar_one())
                self._connection.exec_driver_sql(f"PRAGMA user_version = {version}")
        except sa.exc.DatabaseError as error:
            raise store.StoreUnavailable(told(error)) from error

    # -- the file under it --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Before each commit, and now and then: take a rotated key into use, and see whether the file is still ours.

        Raises StoreUnavailable where it is not as this owner left it; `damaged` where it is still the same one.

        A file that was deleted or replaced still takes writes, and all of them are gone with the next start.
        """
        if self._now() >= self._tools.keyring.next_at:
            with contextlib.suppress(KeyringError):  # the key before does as well, until the file can be read
                self._tools.keyring.reload(now=self._now())
        if self._file is None or self._log is None:
            return
        if self._generation.is_as_left(self._file):
            self._log.look()
            return
        if self.mark()[:PLACE_BYTES] == self._place:
            raise store.StoreUnavailable("the database is damaged, or somebody else has changed it", damaged=True)
        raise store.StoreUnavailable("the database was deleted or replaced: put it back, or start the gateway again")

    def is_gone(self) -> bool:
        """Whether the file was deleted, or another one lies in its place; False where that cannot be seen."""
        if self._file is None:
            return False
        try:
            os.stat(self._file)
        except OSError as error:
            return isinstance(error, FileNotFoundError | NotADirectoryError)
        return self.mark()[:PLACE_BYTES] != self._place

    @property
    def is_readable(self) -> bool:
        """False from `set_aside` to `take_back`."""
        return self._generation.is_readable

    def set_aside(self, damaged: bool) -> bool:
        """Let nobody read the database until `take_back`: one that is damaged, or not as it was left. Whether it is so."""
        if damaged or self.has_lost_log or not (self._file is None or self._generation.is_as_left(self._file)):
            self._generation.set_readable(False)
            return True
        return False

    def examine(self) -> bytes:
        """Walk the whole file, from any thread; the answer is for `take_back`. Raises StoreUnavailable where it is damaged."""
        mark = self.mark()
        if self._file is not None:
            if mark[:PLACE_BYTES] != self._place:
                raise store.StoreUnavailable("another file lies in its place")
            store.check_whole(self._file)
        return mark

    def take_back(self, mark: bytes | None = None) -> None:
        """Let the database be read again: as it was left, or as it was `mark`ed when it was found whole."""
        if mark is not None and mark == self.mark():
            with self._writing():
                self._reconnect()
            self._generation.bump(DIRECTORY)
            self._generation.bump(CONSENT)
        self._generation.set_readable(True)

    def _connect(self) -> None:
        """Again, where an attempt to do so failed. Raises StoreUnavailable."""
        if self._connection.closed:
            try:
                self._reconnect()
            except sa.exc.DatabaseError as error:
                raise store.StoreUnavailable(told(error)) from error

    def _reconnect(self) -> None:
        self._connection.close()
        self._engine.dispose()  # what these connections remember is of the file before
        self._connection = self._engine.connect()
        self._note_log()

    def _raw(self) -> sqlite3.Connection:
        raw = self._connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # the connection is open, and asked for with SQLite only
        return raw

    def _note_log(self) -> None:
        if self._log is not None:
            self._log.note(self._raw())

    @property
    def has_lost_log(self) -> bool:
        """Whether the write-ahead log under the connection was deleted or replaced."""
        return self._log is not None and not self._log.are_ours()

    def keep_log(self) -> bool:
        """Begin a new log where ours was deleted, with all that is in it copied back first. Whether it was so.

        Every other process that has the database open can read no more then. Raises StoreUnavailable where a reader of this
        process is in the way.
        """
        if self._file is None or self._log is None or self._log.are_ours():
            return False
        if not self._generation.is_as_left(self._file):
            return False  # it must come back first
        self._connect()
        with self._writing():
            self._log.copy_back(self._raw())
            self._reconnect()
        self._generation.begin_log()
        return True

    def _renew_readers(self) -> None:
        self._generation.bump(DIRECTORY)
        self._generation.bump(CONSENT)
        self._generation.renew()

    def mark(self) -> bytes:
        """What the file is like now; equal as long as nobody touches it."""
        return mark_of(self._file) if self._file is not None else b""

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self._file is None:
            yield
            return
        with self._generation.writing(self._file):
            yield

    def questions(self, op: str, args: Mapping[str, object]) -> list[str]:
        """Names whose TXT records an operation wants to see; empty for nearly all. See `gather_evidence`.

        Raises OwnerError, or StoreUnavailable where the database cannot be opened.
        """
        kind = _ASKS_DNS.get(op)
        if kind is None or args.get("vouched") is True:
            return []
        if kind == "domain":
            return [domains.question(Args(args).domain("domain"))]
        self._connect()
        with self._connection.begin():
            return dkim_keys.questions(self._desk(self._connection, ""), Args(args))

    def _scrub(self, patience_ms: int = BUSY_TIMEOUT_MS) -> None:
        """Leave no page of before in the write-ahead log. Where somebody reads it, the next commit tries again."""
        if self._connection.dialect.name != "sqlite":
            return
        with self._writing():
            raw = self._raw()
            raw.execute(f"PRAGMA busy_timeout={patience_ms}")
            try:
                ((is_busy, _, _),) = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            self._must_scrub = bool(is_busy)
            self._connection.rollback()


def _file_of(url: URL) -> Path | None:
    """The file the database is in; None where it is in none."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
