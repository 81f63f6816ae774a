"""Telling systemd how we are (sd_notify protocol); does nothing where nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket


def _send(text: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(text.encode())


def ready() -> None:
    _send("READY=1")


def stopping() -> None:
    _send("STOPPING=1")
