"""New settings and certificates for a gateway that goes on (SIGHUP).

Theory of operation. The config is read and checked as for a start; with a mistake in it nothing changes. What only a start can
take in keeps its old value and is named until then. If anything else has changed, one child after another drains and is started
again with what is new, while the others serve. A worker ends its deliveries first and its sessions then, since who connects to
its sockets after that waits for its successor. Where the first does not come up with the new settings, the old ones are put
back. If nothing has changed, the workers read their certificates again, and no session ends. A file that processes read when
they begin counts as changed when its content is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from relay.observe import events, metrics
from relay.observe.log import log
from relay.serve import notify
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.children import WEB, Child, reload_certificates
from relay.settings.model import Settings

START_SECONDS = 30.0
COMMIT_SECONDS = 10.0
AT_THE_START = ("data_dir", "keys_dir", "workers")
"""Of [server]; with them the addresses that are listened on, and [storage]."""


class SettingsRefused(Exception):
    """The config has mistakes; `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.problems = problems


class Gateway(Protocol):
    """What a renewal does its work on: relay.serve.supervisor.Supervisor."""

    settings: Settings
    children: dict[int, Child]
    stopping: asyncio.Event

    def take_in(self, settings: Settings) -> None:
        """They are in force for the supervisor, and for every child that begins from now on."""


class Renewal:
    """Carries out one SIGHUP after the other. `read` gives the settings as they are on disk now, or raises SettingsRefused; None:
    they never change.
    """

    def __init__(self, gateway: Gateway, read: Callable[[], Settings] | None) -> None:
        self._gateway = gateway
        self._read = read
        self._one_at_a_time = asyncio.Lock()
        self._contents = contents(gateway.settings)
        self.waiting: Sequence[str] = ()
        """Settings that hold from the next start."""
        self._patience = COMMIT_SECONDS

    async def run(self) -> None:
        """Carry out one; what is refused is said, and leaves in force what was."""
        async with self._one_at_a_time:
            notify.reloading()
            problems: Sequence[str] = ("a defect",)
            try:
                problems = await self._renew()
            finally:  # or systemd would take it for reloading for ever
                workers = len(self._gateway.children) - 1
                notify.ready("A reload was refused, see the log" if problems else f"{workers} workers serve")
            for problem in problems:
                log.error(events.RELOAD_REFUSED, problem=problem)
            metrics.RELOAD_REFUSED.set(float(bool(problems)))

    async def replace(self) -> None:
        """Another process for each, with the settings that are in force."""
        async with self._one_at_a_time:
            await self._roll(self._gateway.settings, self._gateway.settings)

    async def _renew(self) -> Sequence[str]:
        """What was refused."""
        problems: Sequence[str] = ()
        old = new = self._gateway.settings
        if self._read is not None:
            try:
                new, self.waiting = taken(old, await asyncio.to_thread(self._read))
            except SettingsRefused as error:
                problems = error.problems
        files = self._contents if problems else await asyncio.to_thread(contents, new)
        rewritten = {name for name in files if files[name] != self._contents.get(name)}
        later = {name for name in rewritten if name.startswith("storage.")}
        changed = sorted({*differences(old, new), *(rewritten - later)})
        self.waiting = sorted({*self.waiting, *later})
        if self.waiting:
            log.warning(events.SETTINGS_POSTPONED, keys=self.waiting)
        if changed:
            problems = await self._roll(old, new)
            if not problems:
                self._contents = {**files, **{name: self._contents[name] for name in later}}
        else:
            workers = [child for place, child in self._gateway.children.items() if place != WEB]
            problems = [*problems, *await reload_certificates(workers)]
        log.info(events.RELOADED, changed=[] if problems else changed)
        return problems

    async def _roll(self, old: Settings, new: Settings) -> Sequence[str]:
        """One child after the other; what was refused."""
        gateway = self._gateway
        gateway.take_in(new)
        self._patience = 2 * max(each.server.drain_timeout_seconds for each in (old, new)) + COMMIT_SECONDS
        done: list[Child] = []
        for child in gateway.children.values():
            if await self._renewed(child) or gateway.stopping.is_set():
                done.append(child)
                continue
            gateway.take_in(old)
            for other in (child, *done):
                await self._renewed(other)
            return [
                f"{child.name} did not start with the new settings, so the old ones are in force: see the log above"
            ]
        return ()

    async def _renewed(self, child: Child) -> bool:
        child.is_renewed = True
        try:
            return await self._replaced(child)
        finally:
            child.is_renewed = False

    async def _replaced(self, child: Child) -> bool:
        """Drain it and wait for its successor; whether that came up."""
        process = child.process
        child.ended_early.clear()
        await self._at_rest(child)
        if process is not None and process is child.process and process.returncode is None:
            child.here.clear()
            child.is_leaving = True
            process.terminate()
            try:
                async with asyncio.timeout(self._patience):
                    await process.wait()
            except TimeoutError:
                process.kill()
        waits = [
            asyncio.ensure_future(event.wait()) for event in (child.here, child.ended_early, self._gateway.stopping)
        ]
        await asyncio.wait(waits, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return child.here.is_set()

    async def _at_rest(self, child: Child) -> None:
        """A worker with nothing on its way any more. One that does not answer leaves without."""
        if child.place == WEB or child.channel is None:
            return
        resting = asyncio.ensure_future(child.channel.call("worker.rest", timeout=self._patience))
        stopping = asyncio.ensure_future(self._gateway.stopping.wait())
        await asyncio.wait((resting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        resting.cancel()
        with contextlib.suppress(OpUnavailable, OpRefused, asyncio.CancelledError):
            await resting


def taken(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The new settings as far as a running gateway can take them in, and the names of what waits for a start."""
    server = new.server.model_copy(update={name: getattr(old.server, name) for name in AT_THE_START})
    kept: dict[str, Any] = {"server": server, "storage": old.storage}
    if [each.endpoint for each in new.listener] != [each.endpoint for each in old.listener]:
        kept["listener"] = old.listener
    if new.web.endpoint != old.web.endpoint:
        kept["web"] = new.web.model_copy(update={"address": old.web.address})
    mixed = new.model_copy(update=kept)
    return mixed, differences(mixed, new)


def contents(settings: Settings) -> dict[str, bytes]:
    """What the files hold that the settings name and processes read when they begin, by the setting, as digests."""
    delivery, storage = settings.delivery, settings.storage
    named = {
        "delivery.ca_file": delivery.ca_file,
        "delivery.password_file": delivery.password_file,
        "storage.counters_ca_file": storage.counters_ca_file,
        "storage.counters_password_file": storage.counters_password_file,
    }
    return {name: _digest(path) for name, path in named.items() if path is not None}


def _digest(path: Path) -> bytes:
    """Empty for a file that cannot be read."""
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return b""


def differences(one: Settings, other: Settings) -> list[str]:
    """Dotted names of the settings whose values differ."""
    ours, theirs = (_flat(each.model_dump(mode="json")) for each in (one, other))
    return sorted(name for name in {**ours, **theirs} if ours.get(name, ...) != theirs.get(name, ...))


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found
