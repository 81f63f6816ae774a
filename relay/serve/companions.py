"""What goes on in the supervisor beside its children: measuring, alarms, digests, webhooks, incidents, requests, the database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from relay.counters.many_nodes import wire_of
from relay.counters.suspensions import SharedSuspensions
from relay.observe.metrics import Snapshot
from relay.serve.bell import Bell
from relay.serve.departures import Departures
from relay.serve.digest import Call, Digests
from relay.serve.erasures import Erasures
from relay.serve.hooks import Hooks
from relay.serve.incidents import Incidents
from relay.serve.ownership import Ownership
from relay.serve.requests import Requests
from relay.serve.suspensions import Suspensions
from relay.serve.vitals import Vitals
from relay.settings.model import Settings
from relay.store.generation import DIRECTORY, Generation

Submit = Callable[[dict[str, Any]], Awaitable[Any]]


class Companions:
    """Call `start` once. `workers` asks them all, `submit` queues our own mail, `numbers` are those of the whole gateway."""

    def __init__(
        self, settings: Settings, ownership: Ownership, workers: Call, submit: Submit, numbers: Callable[[], Snapshot]
    ) -> None:
        self._settings = settings
        self._ownership = ownership
        self._vitals = Vitals(settings, ownership)
        self._digests = Digests(settings, ownership.call, workers, submit)
        self._hooks = Hooks(settings, ownership.call, lambda: ownership.keyring)
        self._incidents = Incidents(settings, ownership.call, submit)
        count = settings.server.workers or os.cpu_count() or 1
        self._erasures = Erasures(settings, ownership.call, workers, lambda: ownership.keyring, workers=count)
        self._departures = Departures(
            settings, ownership.call, workers, lambda: (ownership.keyring, ownership.counters), workers=count
        )
        self._requests = Requests(ownership.call)
        self._bell: Callable[[Settings], Bell] = partial(Bell, numbers=numbers, submit=submit)
        storage, generation = settings.storage, Generation.open(settings.server.data_dir)
        shared = SharedSuspensions(wire_of(storage)) if storage.redis is not None else None
        changes = partial(generation.read, DIRECTORY)
        self._suspensions = Suspensions(settings, ownership.call, submit, changes, shared=shared)

    def start(self, later: Callable[[Any], asyncio.Task[Any]], stopping: asyncio.Event) -> None:
        """`later` makes a task that is looked after."""
        for each in (*self._followers(), self._ownership):
            later(each.watch(stopping))
        later(self._requests.watch(stopping))
        later(self._ownership.upkeep(stopping))
        self._later, self._stopping = later, stopping
        self._ringing = self._ring()

    def _followers(self) -> tuple[Vitals | Digests | Suspensions | Hooks | Incidents | Erasures | Departures, ...]:
        """Those that read the settings anew at each look."""
        return (
            self._vitals,
            self._digests,
            self._suspensions,
            self._hooks,
            self._incidents,
            self._erasures,
            self._departures,
        )

    def take_in(self, settings: Settings) -> None:
        """These hold from now on."""
        was, self._settings = self._settings, settings
        for each in self._followers():
            each.settings = settings
        self._ownership.take_in(settings)
        if (was.alarms, was.server.hostname) != (settings.alarms, settings.server.hostname):
            self._ringing.cancel()
            self._ringing = self._ring()

    def _ring(self) -> asyncio.Task[Any]:
        return self._later(self._bell(self._settings).watch(self._stopping))
