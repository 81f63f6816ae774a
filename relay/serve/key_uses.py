"""When keys of the API were last used, by day: told to the owner once a day for each key, beside the request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from relay.mail.apikey import ApiKey
from relay.serve.channel import OpRefused, OpUnavailable

DAY_SECONDS = 86_400

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class KeyUses:
    """Of one web process. Bounded by the keys there are."""

    def __init__(self, call: Call, *, now: Callable[[], float] = time.time) -> None:
        self._call = call
        self._now = now
        self._day = 0
        self._told: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, key: ApiKey) -> None:
        """Returns at once. What could not be told is told with the next use."""
        day = int(self._now() // DAY_SECONDS)
        if day != self._day:
            self._day = day
            self._told.clear()
        name = (key.tenant.name, key.name)
        if name in self._told:
            return
        self._told.add(name)
        task = asyncio.get_running_loop().create_task(self._tell(name))
        self._tasks.add(task)  # the loop itself keeps none alive
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, name: tuple[str, str]) -> None:
        try:
            await self._call("apikey.used", {"tenant": name[0], "name": name[1]})
        except (OpRefused, OpUnavailable):
            self._told.discard(name)
