"""What a service manager hears of a gateway: ready, reloading, alive, stopping (sd_notify)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway import Gateway


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(30.0)

    def hear(self, word: str) -> dict[str, str]:
        """The next message that says `word`; those before it are passed over."""
        while True:
            said = dict(line.partition("=")[::2] for line in self._socket.recv(4096).decode().splitlines())
            if word in said:
                return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    yield made
    made.close()


def test_the_manager_is_told_of_every_change(manager: Manager, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, workers=1)
    try:
        gateway.start()
        ready = manager.hear("READY")
        assert ready["READY"] == "1" and ready["STATUS"] == "1 workers serve"
        for _ in range(3):
            assert manager.hear("WATCHDOG")["WATCHDOG"] == "1"
        gateway.signal(signal.SIGHUP)
        reloading = manager.hear("RELOADING")
        assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
        assert manager.hear("READY")["READY"] == "1", "the reload is over"
        gateway.certificate.write_text("no certificate")
        gateway.signal(signal.SIGHUP)
        manager.hear("RELOADING")
        assert "refused" in manager.hear("READY")["STATUS"], "it goes on with the one before"
        gateway.signal(signal.SIGTERM)
        assert manager.hear("STOPPING")["STOPPING"] == "1"
    finally:
        gateway.stop()


def test_a_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from relay.serve.notify import watchdog_seconds

    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert watchdog_seconds() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() == 0.0
    monkeypatch.delenv("WATCHDOG_PID")
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert watchdog_seconds() == 0.0
