"""The control socket lies in the data folder, however long its path is."""

from __future__ import annotations

import socket
from pathlib import Path

from relay.serve.boot import MAX_SOCKET_PATH, control_path
from relay.settings.model import Server, Settings


def test_a_deep_data_folder_still_holds_its_own_socket(tmp_path: Path) -> None:
    data = tmp_path / ("deep" * 12) / ("deeper" * 12)
    path = control_path(Settings(server=Server(data_dir=data, keys_dir=tmp_path / "keys")))
    assert len(str(path)) <= MAX_SOCKET_PATH < len(str(data))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    assert (data / path.name).is_socket()
