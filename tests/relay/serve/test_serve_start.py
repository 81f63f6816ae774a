"""A gateway that cannot start says so and ends; it does not stay up and serve nobody."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from relay.cli import running
from relay.cli.trouble import DOWN, trouble_of
from relay.keyring import Keyring
from relay.serve.supervisor import StartFailed, Supervisor
from relay.settings.model import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_crash_before_ready_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    """The settings could not be told to the workers (TypeError), and the process stayed up with open ports."""
    settings = Settings.model_validate(
        {
            "server": {"data_dir": str(tmp_path / "data"), "keys_dir": str(tmp_path / "keys"), "workers": 1},
            "listener": [{"address": "127.0.0.1:0", "tls": "off"}],
            "web": {"address": "127.0.0.1:0"},
        }
    )
    limits = settings.limits.model_copy(update={"max_errors": 10**26})  # past the check of the settings
    Keyring.open(settings.server.keys_dir, create=True)
    async with asyncio.timeout(30):
        with pytest.raises(StartFailed, match="a defect in zegel itself") as caught:
            await Supervisor(settings.model_copy(update={"limits": limits})).start()
    assert trouble_of(caught.value).code == DOWN


async def test_a_worker_without_a_folder_to_work_in_ends_with_one_event(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk that fails at the start printed a traceback of ours for each try."""
    settings = Settings.model_validate(
        {
            "server": {"data_dir": str(tmp_path / "data"), "keys_dir": str(tmp_path / "keys"), "workers": 1},
            "listener": [{"address": "127.0.0.1:0", "tls": "off"}],
            "web": {"address": "127.0.0.1:0"},
        }
    )
    Keyring.open(settings.server.keys_dir, create=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "queue").touch()
    async with asyncio.timeout(60):
        with pytest.raises(StartFailed, match="worker 0 ended"):
            await Supervisor(settings).start()
    told = capfd.readouterr().err
    assert '"child.failed"' in told and "Traceback" not in told


class _Hung(Supervisor):
    """Told to reload while it starts; it stops when it has."""

    reloads = 0

    async def start(self) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await super().start()

    async def _reload(self) -> None:
        await super()._reload()
        self.reloads += 1
        self.stopping.set()


async def test_a_reload_that_comes_during_the_start_waits_for_its_end(tmp_path: Path) -> None:
    """An ACME hook that said SIGHUP too early ended the gateway."""
    settings = Settings.model_validate(
        {
            "server": {"data_dir": str(tmp_path / "data"), "keys_dir": str(tmp_path / "keys"), "workers": 1},
            "listener": [{"address": "127.0.0.1:0", "tls": "off"}],
            "web": {"address": "127.0.0.1:0"},
        }
    )
    Keyring.open(settings.server.keys_dir, create=True)
    supervisor = _Hung(settings)
    before = signal.signal(signal.SIGHUP, lambda number, frame: None)  # the default would end these tests
    try:
        async with asyncio.timeout(60):
            await running.serving(supervisor, lambda settings: None)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert supervisor.reloads == 1


class _Renewed(Supervisor):
    """Told to reload when it has started; it stops when it has."""

    async def start(self) -> None:
        await super().start()
        os.kill(os.getpid(), signal.SIGHUP)

    async def _reload(self) -> None:
        await super()._reload()
        channels = [child.channel for place, child in self.children.items() if place >= 0]
        self.served = [await channel.call("worker.ready") for channel in channels if channel is not None]
        self.stopping.set()


async def test_settings_with_which_no_worker_starts_are_put_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.model_validate(
        {
            "server": {"data_dir": str(tmp_path / "data"), "keys_dir": str(tmp_path / "keys"), "workers": 2},
            "listener": [{"address": "127.0.0.1:0", "tls": "off"}],
            "web": {"address": "127.0.0.1:0"},
        }
    )
    Keyring.open(settings.server.keys_dir, create=True)
    gone = {"tls": "required", "certificate": tmp_path / "deleted.pem", "key": tmp_path / "deleted.pem"}
    listener = settings.listener[0].model_copy(update=gone)
    supervisor = _Renewed(settings, read=lambda: settings.model_copy(update={"listener": (listener,)}))
    before = signal.signal(signal.SIGHUP, lambda number, frame: None)
    try:
        async with asyncio.timeout(120):
            await running.serving(supervisor, lambda settings: None)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert supervisor.settings == settings and supervisor.served == [[], []]
    assert "worker 0 did not start with the new settings" in capfd.readouterr().err
