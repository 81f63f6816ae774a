"""The supervisor: opens sockets, owns the shared database, keeps workers and the web process alive, merges metrics.

Theory of operation. `run` binds every port, takes the owner's lock, opens the control socket, then starts children. A
child that dies is started again in its place, with the same sockets; its last metrics stay as a base so that merged
counters never fall. SIGTERM drains: children finish what they have begun, then all leave. SIGHUP takes in new settings and
certificates (relay.serve.renewal).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from relay.observe import events, metrics
from relay.observe.log import configure, log
from relay.observe.scarcity import scarcity
from relay.owner.holds import DECISIONS
from relay.serve import descriptors, notify
from relay.serve.boot import Boot, control_path
from relay.serve.channel import MAX_LINE, Channel, OpRefused, OpUnavailable
from relay.serve.children import WEB, Child
from relay.serve.companions import Companions
from relay.serve.ownership import Ownership
from relay.serve.renewal import Renewal
from relay.serve.sockets import PortTaken, open_sockets
from relay.serve.vitals import measure_processes
from relay.serve.zygote import UNKNOWN, Zygote
from relay.settings.endpoint import Endpoint
from relay.settings.model import Settings
from relay.smtp.desk import place_of

RESTART_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0)
STEADY_SECONDS = 30.0
BIND_AGAIN_SECONDS = 0.2
START_TRIES = 3
SNAPSHOT_SECONDS = 1.0
ANSWER_SECONDS = 5.0
SUMS = frozenset(("queue.forget", "queue.stats", "queue.retry_many", "held.paused"))
OF_ALL = frozenset((*SUMS, "queue.list", "held.list"))


class StartFailed(Exception):
    """A process of the gateway cannot start; the text says which, the log says why."""


class Supervisor:
    """One gateway. Call `start`, then `run`."""

    def __init__(
        self, settings: Settings, zygote: Zygote | None = None, read: Callable[[], Settings] | None = None
    ) -> None:
        """`zygote` as it was forked before there was a loop; without one a program is started for it. `read` gives the settings
        as they are on disk now, or raises relay.serve.renewal.SettingsRefused; without it they never change.
        """
        self.settings = settings
        self._zygote = zygote or Zygote()
        self.workers = settings.server.workers or os.cpu_count() or 1
        self.children: dict[int, Child] = {}
        self.stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._base = metrics.Base()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ownership = Ownership(settings, on_new_log=lambda: self._later(self._replace_children()))
        self._renewal = Renewal(self, read)
        self._turn = 0

    # -- build ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything up and ready. Raises PortTaken, OwnerError, KeyringError, StartFailed, each with what to do."""
        settings = self.settings
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._make_room()
        self._ownership.take()
        if settings.storage.redis is not None and settings.storage.database.startswith("sqlite"):
            log.warning(events.LIMITS_CONFINED)
        places: dict[int, list[tuple[int, int]]] = {place: [] for place in range(self.workers)}
        self._sockets = []
        for index, listener in enumerate(settings.listener):
            opened = await self._bind(listener.endpoint, self.workers)
            self._sockets += opened
            for place, sock in enumerate(opened):
                places[place].append((index, sock.fileno()))
        web = await self._bind(settings.web.endpoint, 1)
        self._sockets += web
        path = control_path(settings)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, str(path), limit=MAX_LINE)
        path.chmod(0o600)
        for place, sockets in places.items():
            self.children[place] = Child(place, sockets)
        self.children[WEB] = Child(WEB, [(0, web[0].fileno())])
        for child in self.children.values():
            self._later(self._keep(child))
        self._later(self._collect())
        self._companions = Companions(settings, self._ownership, self._ask_workers, self._submit, self._together)
        self._companions.start(self._later, self.stopping)
        ready = asyncio.get_running_loop().create_task(self._all_ready())
        try:
            await asyncio.wait((ready, self._failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._failed.done():
            await self.stop()
            raise StartFailed(self._failed.result())
        self._ready.set()
        self._later(notify.watch())
        notify.ready(f"{self.workers} workers serve")

    async def _all_ready(self) -> None:
        for child in self.children.values():
            await child.ready.wait()

    def _make_room(self) -> None:
        """Descriptors for the connections that the config allows; the children inherit the limit."""
        room = descriptors.room(self.settings, descriptors.raise_limit(), self.workers)
        if room.possible < room.wanted:
            log.warning(events.CONNECTIONS_LIMITED, **room._asdict())

    async def _bind(self, endpoint: Endpoint, places: int) -> list[socket.socket]:
        """As `open_sockets`; waits for the children of a supervisor that was killed, which drain and then leave the port."""
        loop = asyncio.get_running_loop()
        was_killed = control_path(self.settings).exists()
        end = loop.time() + (self.settings.server.drain_timeout_seconds + 5.0 if was_killed else 0.0)
        while True:
            try:
                return open_sockets(endpoint.host, endpoint.port, places)
            except PortTaken:
                if loop.time() >= end:
                    raise
            await asyncio.sleep(BIND_AGAIN_SECONDS)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        await self.stopping.wait()
        await self.stop()

    async def stop(self) -> None:
        """Ask every child to drain, wait, then leave."""
        notify.stopping()
        self.stopping.set()
        for sock in self._sockets:
            sock.close()  # the workers close theirs: who comes now is refused, and does not wait for nobody
        await self._zygote.stop()
        running = [child.process for child in self.children.values() if child.process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        patience = 2 * self.settings.server.drain_timeout_seconds + 10.0
        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        for task in list(self._tasks):
            task.cancel()
        self._zygote.close()
        self._server.close()
        control_path(self.settings).unlink(missing_ok=True)
        self._ownership.release()

    # -- children -----------------------------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        """Start the child, and start it again whenever it ends."""
        failures = 0
        loop = asyncio.get_running_loop()
        while not self.stopping.is_set():
            began = loop.time()
            code = await self._run(child)
            child.channel = None
            if child.snapshot is not None:
                self._base.add(child.snapshot)
                child.snapshot = None
            self._ownership.vacate(child.place)
            if self.stopping.is_set():
                return
            if child.is_leaving:  # asked to, for its successor
                child.is_leaving, failures = False, 0
                continue
            if not child.here.is_set():
                child.ended_early.set()
            child.here.clear()
            failures = 0 if loop.time() - began > STEADY_SECONDS else failures + 1
            metrics.CHILD_RESTARTS.inc(("web" if child.place == WEB else "worker",))
            log.error(events.CHILD_ENDED, place=child.place, code=code)
            if not child.ready.is_set() and failures >= START_TRIES and not self._failed.done():
                self._failed.set_result(
                    f"{child.name} ended {failures} times before it was ready (exit {code}): see the log above"
                )
                return
            await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])

    async def _run(self, child: Child) -> int:
        """One life of it; its exit code."""
        try:
            child.process = await self._zygote.spawn(Boot(self.settings, child.place, child.sockets))
        except OSError as error:  # no process or no memory to be had: tried again like one that ended
            if not self.stopping.is_set():
                log.error(events.CHILD_FAILED, place=child.place, why=f"{type(error).__name__}: {error}"[:200])
            return UNKNOWN
        return await child.process.wait()

    async def _collect(self) -> None:
        """Keep every worker's last metrics, for the scrape and for the day it dies."""
        while True:
            await asyncio.sleep(SNAPSHOT_SECONDS)
            self._zygote.reap_orphans()
            for child in self.children.values():
                child.state = await self._snapshot(child)
            workers = [child.state for child in self.children.values() if child.place != WEB]
            measure_processes(self.children[WEB].state, workers)

    async def _snapshot(self, child: Child) -> str:
        """Take its numbers; whether it is running, silent or missing."""
        if child.channel is None:
            return "missing"
        try:
            child.snapshot = await child.channel.call("metrics.snapshot", timeout=2.0)
        except (OpUnavailable, OpRefused):
            return "silent" if child.channel is not None else "missing"
        return "running"

    def reload(self) -> None:
        """SIGHUP, which may come before the start is over: then it waits for the end of that."""
        self._later(self._reload_when_ready())

    async def _reload_when_ready(self) -> None:
        await self._ready.wait()
        await self._reload()

    async def _reload(self) -> None:
        await self._renewal.run()

    async def _replace_children(self) -> None:
        await self._ready.wait()
        await self._renewal.replace()

    def take_in(self, settings: Settings) -> None:
        """They are in force for this process, and for every child that begins from now on."""
        self.settings = settings
        configure(settings)
        self._make_room()
        self._companions.take_in(settings)

    # -- control socket -----------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, self._handle)
        channel.crashed = lambda op, error: log.error(
            events.OP_CRASHED, op=op, kind=type(error).__name__, place=place_of(error)
        )
        self._later(channel.run())

    async def _handle(self, channel: Channel, op: str, args: dict[str, Any]) -> Any:
        if op == "worker.hello":
            child = self.children[int(args["place"])]
            child.channel = channel
            child.ready.set()
            child.here.set()
            if child.must_reload:
                child.must_reload = False
                self._later(self._reload())
            return {}
        if op == "worker.leaves":
            self.children[int(args["place"])].snapshot = args["numbers"]
            return {}
        if op == "metrics.text":
            return metrics.merge(self._snapshots(), self._base)
        if op == "metrics.live":
            return self._live()
        if op == "ready":
            return await self._not_ready()
        if op == "ready.notes":
            return await self._notes()
        if op == "worker.submit":
            return await self._submit(args)
        if op.startswith(("queue.", "held.")):
            answer = await self._ask_workers(op, args)
            if answer is not None and op in DECISIONS:
                await self._ownership.audit_decision(op, args, answer.pop("incident", None))
            return answer
        return await self._ownership.call(op, args)

    def _snapshots(self) -> list[metrics.Snapshot]:
        return [c.snapshot for c in self.children.values() if c.snapshot] + [metrics.snapshot()]

    def _live(self) -> dict[str, Any]:
        """What `zegel top` shows: all numbers together, and those of each process."""
        processes = [
            {
                "place": child.place,
                "kind": "web" if child.place == WEB else "worker",
                "pid": child.process.pid if child.process is not None else 0,
                "state": child.state,
                "numbers": child.snapshot or {},
            }
            for child in self.children.values()
        ]
        return {"numbers": self._together(), "processes": processes}

    def _together(self) -> metrics.Snapshot:
        return metrics.together(self._snapshots(), self._base)

    async def _submit(self, args: dict[str, Any]) -> Any:
        """A mail of our own."""
        return await self._any_worker().call("worker.submit", args)

    async def _not_ready(self) -> list[str]:
        reasons = await self._ownership.problems()
        for child in self.children.values():
            if child.place == WEB or (child.is_renewed and self.workers > 1):  # the others serve meanwhile
                continue
            if child.channel is None:
                reasons.append(f"worker {child.place} is not running")
                continue
            try:
                reasons += await child.channel.call("worker.ready", timeout=2.0)
            except (OpUnavailable, OpRefused):
                reasons.append(f"worker {child.place} does not answer")
        return list(dict.fromkeys(reasons))  # what stops one worker often stops all of them

    async def _notes(self) -> list[str]:
        """What the workers say besides, each thing once."""
        channels = [c.channel for c in self.children.values() if c.channel is not None and c.place != WEB]
        asked = (channel.call("worker.notes", timeout=2.0) for channel in channels)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        waiting = [f"settings: {', '.join(self._renewal.waiting)} hold from the next start"] * bool(
            self._renewal.waiting
        )
        return sorted({*waiting, *(note for answer in answers if isinstance(answer, list) for note in answer)})

    def _any_worker(self) -> Channel:
        """The workers in turn."""
        for _ in range(self.workers):
            self._turn += 1
            channel = self.children[self._turn % self.workers].channel
            if channel is not None:
                return channel
        raise OpUnavailable("worker")

    async def _ask_workers(self, op: str, args: dict[str, Any]) -> Any:
        """Ask every worker and join the answers: sums for counts, one list for lists, else the one that has it."""
        answers = await self._answers(op, args)
        if op in SUMS:
            return {key: sum(answer[key] for answer in answers) for key in (answers[0] if answers else {})}
        if op in ("queue.list", "held.list", "held.page"):
            joined = sorted((row for answer in answers for row in answer), key=lambda row: str(row["id"]))
            return joined[: int(args.get("limit", 100))]
        return next((answer for answer in answers if answer is not None), None)

    async def _answers(self, op: str, args: dict[str, Any]) -> list[Any]:
        """Of all workers. One that hangs stops a command for one message only where no other has that message."""
        workers = [child for child in self.children.values() if child.channel is not None and child.place != WEB]
        asked = (child.channel.call(op, args, timeout=ANSWER_SECONDS) for child in workers if child.channel is not None)
        told = await asyncio.gather(*asked, return_exceptions=True)
        silent: list[Child] = []
        for child, answer in zip(workers, told, strict=True):
            if isinstance(answer, OpUnavailable):
                silent.append(child)
            elif isinstance(answer, BaseException):
                raise answer
        answers = [answer for answer in told if not isinstance(answer, OpUnavailable)]
        is_found = op not in OF_ALL and any(answer is not None for answer in answers)
        if silent and not is_found:
            which = ", ".join(f"{child.place} (process {child.process.pid})" for child in silent if child.process)
            text = f"worker {which} does not answer, and its mail cannot be seen; try again, or end that process"
            raise OpUnavailable(op, f"{text}: another takes its place")
        return answers

    def _later(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if not scarcity.met(error):
                log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
            if not self._failed.done():  # read by `start` only: what ends later does not end the gateway
                name, where = type(error).__name__, place_of(error)
                self._failed.set_result(
                    f"a defect in zegel itself ({name} at {where}); please report it with the log above"
                )
