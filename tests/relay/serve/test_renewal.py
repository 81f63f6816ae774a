"""How long a child that leaves for its successor may take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from relay.serve import renewal
from relay.serve.children import Child
from relay.serve.renewal import Renewal
from relay.settings.model import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Leaving:
    """A process that takes `seconds` to end once it is asked to."""

    returncode: int | None = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.was_killed = False
        self._over = asyncio.Event()

    def terminate(self) -> None:
        asyncio.get_running_loop().call_later(self.seconds, self._over.set)

    def kill(self) -> None:
        self.was_killed = True
        self._over.set()

    async def wait(self) -> int:
        await self._over.wait()
        return 0


class Gateway:
    """With one worker, whose successor is there as soon as it has ended."""

    def __init__(self, settings: Settings, process: Leaving) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self.child = Child(0, [])
        self.child.process = cast(Any, process)
        self.children = {0: self.child}

    def take_in(self, settings: Settings) -> None:
        self.settings = settings

    async def follow(self) -> None:
        assert self.child.process is not None
        await self.child.process.wait()
        self.child.here.set()


def _settings(folder: Path, drain: float) -> Settings:
    places = {"data_dir": str(folder / "data"), "keys_dir": str(folder / "keys")}
    return Settings.model_validate({"server": {**places, "drain_timeout_seconds": drain}})


async def test_who_drains_by_the_old_time_is_not_killed_by_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lower drain_timeout_seconds the old worker was cut off, and what it had on its way was sent twice."""
    monkeypatch.setattr(renewal, "COMMIT_SECONDS", 0.0)
    process = Leaving(0.5)
    gateway = Gateway(_settings(tmp_path, 30.0), process)
    following = asyncio.ensure_future(gateway.follow())
    await Renewal(gateway, lambda: _settings(tmp_path, 0.01)).run()
    await following
    assert gateway.settings.server.drain_timeout_seconds == 0.01
    assert not process.was_killed
