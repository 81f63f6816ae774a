"""How a child process of the supervisor starts: what it is told, and its folders."""

from __future__ import annotations

import os
from functools import lru_cache
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
    """What the supervisor tells a child: settings and place as JSON, its sockets as descriptors beside it."""

    settings: Settings
    place: int  # number of the worker's place, 0 up; the web process has none
    sockets: list[tuple[int, int]]  # (index of the listener in settings, descriptor)

    def dump(self) -> bytes:
        listeners = [index for index, _ in self.sockets]
        data = {"settings": self.settings.model_dump(mode="json"), "place": self.place, "listeners": listeners}
        return orjson.dumps(data)


def read_boot(told: int, sockets: list[int]) -> Boot:
    """What `Boot.dump` wrote into the file `told`, which is closed; `sockets` are this process's descriptors of the same."""
    with open(told, "rb") as file:
        data: dict[str, Any] = orjson.loads(file.read())
    settings = Settings.model_validate_json(orjson.dumps(data["settings"]))
    return Boot(settings, data["place"], list(zip(data["listeners"], sockets, strict=True)))


def control_path(settings: Settings) -> Path:
    """The control socket in the data folder, by a way to it that fits into a socket's address however deep the folder lies."""
    path = settings.server.data_dir / CONTROL
    return path if len(str(path)) <= MAX_SOCKET_PATH else _short(path.parent) / CONTROL


@lru_cache(maxsize=8)
def _short(folder: Path) -> Path:
    """The folder through a descriptor of this process; no other place, so nobody else can put a socket there first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}")
