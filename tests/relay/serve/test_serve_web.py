"""The web process beside its pages: it follows the directory whatever happens to it."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from relay.directory import Directory
from relay.serve import web


async def test_who_follows_the_directory_goes_on_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor was left for the counters once: from then on no revoked API key was heard of any more."""
    monkeypatch.setattr(web, "RELOAD_SECONDS", 0.0)
    monkeypatch.setattr(web, "MEASURE_SECONDS", 0.0)
    looks = 0
    done = asyncio.Event()

    class Standings:
        async def measure(self, *_: Any) -> None:
            raise OSError(errno.EIO, "the counters cannot be mapped")

    class Gateway(web.Gateway):
        def __init__(self) -> None:
            self._directory: Any = Directory
            self._standings: Any = Standings()

        async def look(self) -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                done.set()

    follow = asyncio.create_task(Gateway().follow())
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait((follow, waiting), timeout=20.0, return_when=asyncio.FIRST_COMPLETED)
    assert looks >= 3 and not follow.done(), "it ended"
    follow.cancel()
    waiting.cancel()
