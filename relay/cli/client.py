"""Where an operation runs: in the running gateway over its control socket, or here, with the data folder's lock taken.

Alone, the files keep the owner of the folder: the superuser works as that user while it has them open, and anybody else
is told whom to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from relay.cli.trouble import DOWN, Trouble
from relay.observe.actor import OPERATOR, actor
from relay.serve.boot import HISTORY, QUEUE, control_path
from relay.serve.channel import Channel, OpRefused, connect
from relay.store.restored import is_broken_off

if TYPE_CHECKING:
    from pathlib import Path

    from relay.keyring import Keyring
    from relay.owner import Owner, Reader
    from relay.settings.model import Settings
    from relay.spool.files import QueueFiles
    from relay.trace import Trace

ANSWER_SECONDS = 120.0
BUSY_SECONDS = 10.0  # how long another command, or a gateway that starts, may hold the lock before we give up
BUSY_STEP_SECONDS = 0.1
LOAD_SECONDS = 10.0
LOAD_STEP_SECONDS = 0.002
_QUEUE_OPS = ("queue.", "held.")
_GATEWAY_OPS = ("worker.", "metrics.", "ready")


def call(settings: Settings, op: str, args: Mapping[str, Any]) -> Any:
    """Run one operation. Raises Trouble, OpRefused, OwnerError and others that `trouble_of` knows."""
    with Link(settings) as link:
        return link.call(op, args)


class Link:
    """Runs operations one after the other. Asks for the running gateway each time, since it may come or go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data = settings.server.data_dir
        self._owner: Owner | None = None

    def __enter__(self) -> Self:
        require_folder(self._data)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._owner is not None:
            with as_folder_owner(self._data):
                self._owner.close()
            self._owner = None

    @property
    def is_alone(self) -> bool:
        """Whether this process owns the folder by now, so that no gateway runs on it."""
        return self._owner is not None

    def call(self, op: str, args: Mapping[str, Any]) -> Any:
        """The answer of `op`. See relay.owner.registry and relay.serve.queue_ops for what there is."""
        deadline = time.monotonic() + BUSY_SECONDS
        actor.set(f"{OPERATOR}:{whoever()}")
        while True:
            if self._owner is None and is_running(self._settings):
                # It may go between the look and the question: then we look again.
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    return asyncio.run(_ask(control_path(self._settings), op, dict(args)))
                continue
            if op.startswith(_GATEWAY_OPS):
                raise Trouble(DOWN, "the gateway is not running: start it with `zegel serve`")
            try:
                with as_folder_owner(self._data):
                    return self._here(op, dict(args))
            except Exception as error:
                if getattr(error, "code", "") != "owner.busy" or time.monotonic() > deadline:
                    raise
            # Another command has the lock, or a gateway that has not opened its socket yet: both are soon done.
            time.sleep(BUSY_STEP_SECONDS)

    def _here(self, op: str, args: dict[str, Any]) -> Any:
        from relay.owner import READ_ONLY, OwnerError
        from relay.owner.holds import DECISIONS, record_of
        from relay.store import StoreUnavailable

        if op.startswith(_QUEUE_OPS):
            answer = asyncio.run(queue_op(self._settings, op, args))
            if answer is not None and op in DECISIONS:
                # It is done and in the delivery log; without a database to be had only this record is missing.
                incident = answer.pop("incident", None)
                with contextlib.suppress(OwnerError, StoreUnavailable):
                    self._here("hold.decided", record_of(op, args))
                    if incident is not None:
                        from relay.serve.incidents import clocks

                        self._here("incident.seen", {"rows": [incident], **clocks(self._settings.incidents)})
            return answer
        if op in READ_ONLY and self._owner is None:
            with contextlib.closing(self._reader()) as reader:
                return reader.call(op, args)
        if self._owner is None:
            self._owner = self._open_owner()
        names = self._owner.questions(op, args)
        if names:
            args = asyncio.run(_seen(names, op, args))
        return self._owner.call(op, args, actor=actor.get())

    def _reader(self) -> Reader:
        from relay.keyring import Keyring
        from relay.owner import Reader

        return Reader.open(places(self._settings), Keyring.open(self._settings.server.keys_dir, create=False))

    def _open_owner(self) -> Owner:
        from relay.owner import Owner

        return Owner.open(places(self._settings), keyring_for(self._settings), policies=self._settings.policies)


def places(settings: Settings) -> Settings:
    """The settings with the database's path made whole, as the owner wants them."""
    whole = settings.storage.model_copy(update={"database": f"sqlite:///{settings.database_path}"})
    return settings.model_copy(update={"storage": whole})


def keyring_for(settings: Settings) -> Keyring:
    """The keyring; a new one only where there is no database that an older one could belong to."""
    from relay.keyring import Keyring

    return Keyring.open(settings.server.keys_dir, create=not settings.database_path.exists())


def is_running(settings: Settings) -> bool:
    """Whether a gateway answers on the control socket of this data folder."""
    import socket

    path = control_path(settings)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except TimeoutError:
            raise Trouble(DOWN, f"the gateway at {path} does not answer: look at its log, or start it again") from None
    return True


async def _ask(path: Path, op: str, args: dict[str, Any]) -> Any:
    channel = await connect(str(path), _answer_nothing)
    reading = asyncio.get_running_loop().create_task(channel.run())
    try:
        return await channel.call(op, args, timeout=ANSWER_SECONDS)
    finally:
        channel.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _answer_nothing(channel: Channel, op: str, args: dict[str, Any]) -> Any:
    raise OpRefused("unknown", f"{op} is no command of the command line")


async def _seen(names: list[str], op: str, args: dict[str, Any]) -> dict[str, Any]:
    from relay.dns import Resolver
    from relay.owner.evidence import gather_evidence

    return {**args, **await gather_evidence(Resolver(), names)}


async def queue_op(settings: Settings, op: str, args: dict[str, Any]) -> Any:
    """One command on the queue files while no gateway runs."""
    from relay.delivery.report import Reporter
    from relay.serve.held_ops import HeldOps, hold_seconds

    async with opened_queue(settings) as (queue, trace):
        host, url = settings.server.hostname, settings.web.public_url
        reporter = Reporter(host, queue.next_id, queue.clock, public_url=url, made=trace.made)
        seconds = partial(hold_seconds, settings.limits)
        ops = HeldOps(queue, wake=_nothing, reporter=reporter, say=trace.say, hold_seconds=seconds)
        return await ops.run(op, args)


@contextlib.asynccontextmanager
async def opened_queue(settings: Settings) -> AsyncIterator[tuple[QueueFiles, Trace]]:
    """The queue while no gateway runs: every file that has no owner is ours until it is done."""
    from relay.clock import SystemClock
    from relay.keyring import Keyring
    from relay.spool.cipher import Cipher
    from relay.spool.files import QueueFiles
    from relay.store.history import History
    from relay.trace import Trace

    keyring = Keyring.open(settings.server.keys_dir, create=False)
    clock = SystemClock()
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    queue = QueueFiles(settings.server.data_dir / QUEUE, cipher, clock, on_work=_nothing)
    history = History(settings.server.data_dir / HISTORY, "cli", cipher.seal)
    await queue.start()
    history.start()
    try:
        await _at_rest(queue)
        yield queue, Trace(history, keyring)
    finally:
        await queue.stop()
        await history.stop()


async def _at_rest(queue: QueueFiles) -> None:
    """Until every message stands somewhere: those that are being loaded when the files are opened are in no line yet."""
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline:
        standing = queue.hot.size + queue.backlog.ready + queue.backlog.later + len(queue.held) + queue.corrupt
        if standing >= sum(segment.live for segment in queue.shelf.segments.values()):
            return
        await asyncio.sleep(LOAD_STEP_SECONDS)


def _nothing() -> None:
    """Nobody is waiting for work here."""


def require_folder(data: Path, *, broken_off: bool = False) -> None:
    """Raises Trouble where the data folder belongs to somebody else and we are not the superuser.

    So it does where a restore into it was `broken_off`, unless that is to be finished now.
    """
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        return
    if os.geteuid() not in (0, owner):
        name = name_of(owner)
        raise Trouble(DOWN, f"{data} belongs to {name}: run this as that user, for instance `sudo -u {name} zegel ...`")
    if not broken_off and is_broken_off(data):
        raise Trouble(DOWN, f"a restore into {data} was broken off: run `zegel restore` with its backup again")


def whoever() -> str:
    """The person at the keyboard, for the audit: who became the superuser keeps his name."""
    return os.environ.get("SUDO_USER") or name_of(os.getuid())


def name_of(uid: int) -> str:
    """The user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


@contextlib.contextmanager
def as_folder_owner(data: Path) -> Iterator[None]:
    """As the superuser: work as the owner of the folder meanwhile, so that no file in it comes to belong to root."""
    try:
        status = data.stat()
    except FileNotFoundError:
        yield
        return
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    _load_what_comes_late()
    restore: Callable[[], None] = _take_identity(status.st_uid, status.st_gid)
    try:
        yield
    finally:
        restore()


def _load_what_comes_late() -> None:
    """Modules that libraries import in the middle of their work: the folder's owner may not be able to read the program."""
    import concurrent.futures.thread

    from relay import owner
    from relay.mail.address import org_domain
    from relay.serve import departures, held_ops, striking
    from relay.spool import files
    from relay.store import migrate

    assert all((concurrent.futures.thread, owner, departures, held_ops, striking, files))
    migrate.load()
    org_domain("example.org")  # reads the list of public suffixes


def _take_identity(uid: int, gid: int) -> Callable[[], None]:
    groups, old_gid = os.getgroups(), os.getegid()
    os.setgroups([gid])
    os.setegid(gid)
    os.seteuid(uid)

    def restore() -> None:
        os.seteuid(0)
        os.setegid(old_gid)
        os.setgroups(groups)

    return restore
