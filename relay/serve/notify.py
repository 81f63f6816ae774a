"""Telling systemd how we are (sd_notify protocol); does nothing where nobody listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time


def _send(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)  # a full socket of a slow systemd must not hold up mail
        sock.connect(address)
        sock.sendall("\n".join(lines).encode())


def ready(status: str = "") -> None:
    """It serves, for the first time or again after a reload."""
    _send("READY=1", *([f"STATUS={status}"] if status else []))


def reloading() -> None:
    """SIGHUP is being carried out; `ready` follows. The time tells systemd which of its signals that was."""
    _send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """It drains: what has begun is finished, nobody new comes in."""
    _send("STOPPING=1", "STATUS=Draining")


def watchdog_seconds() -> float:
    """How often `alive` is to be said: half of what systemd waits for; 0.0 where it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    except ValueError:
        return 0.0


async def watch() -> None:
    """Say that we are alive for as long as this loop turns, also while it drains; returns where nobody watches."""
    seconds = watchdog_seconds()
    while seconds:
        _send("WATCHDOG=1")
        await asyncio.sleep(seconds)
