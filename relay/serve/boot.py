"""How a child process of the supervisor starts: what it is told, and its folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from relay.settings.model import Settings

CONTROL = "control.sock"
OWNER_LOCK = "owner.lock"
QUEUE = "queue"
HISTORY = "history"
MAX_SOCKET_PATH = 100  # sun_path holds 108 octets


class Boot(NamedTuple):
    """What the supervisor writes to a child's standard input: one JSON line."""

    settings: Settings
    place: int  # number of the worker's place, 0 up; the web process has none
    sockets: list[tuple[int, int]]  # (index of the listener in settings, descriptor)

    def dump(self) -> bytes:
        data = {"settings": self.settings.model_dump(mode="json"), "place": self.place, "sockets": self.sockets}
        return orjson.dumps(data) + b"\n"


def read_boot() -> Boot:
    """What `Boot.dump` wrote, from standard input."""
    data: dict[str, Any] = orjson.loads(sys.stdin.buffer.readline())
    settings = Settings.model_validate_json(orjson.dumps(data["settings"]))
    return Boot(settings, data["place"], [(index, fd) for index, fd in data["sockets"]])


def control_path(settings: Settings) -> Path:
    """The control socket; in the runtime folder of the system where the data folder's path is too long for a socket."""
    path = settings.server.data_dir / CONTROL
    return path if len(str(path)) <= MAX_SOCKET_PATH else Path("/tmp") / f"zegel-{_short(path)}" / CONTROL


def _short(path: Path) -> str:
    import hashlib

    return hashlib.sha256(str(path).encode()).hexdigest()[:16]
