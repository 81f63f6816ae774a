"""Ports on loopback for servers that tests start.

They lie below the range from which outgoing connections take theirs, and every process that runs tests takes them from a block of
its own for as long as it lives: two runs on one machine, or two processes of one run, never give the same port.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

FIRST, END, BLOCK = 11_000, 22_000, 250
BUS = 10_000  # a cluster node of Redis also listens on the port this far above its own


def _block() -> int:
    """The first port of a block that no other living process holds."""
    for first in range(FIRST, END, BLOCK):
        path = Path(tempfile.gettempdir(), f"zegel-test-ports-{os.getuid()}-{first}")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            return first  # the descriptor stays open, and with it the lock, until this process ends
    raise RuntimeError("no free block of ports: more runs of the tests at once than blocks")


def _in_turn() -> Iterator[int]:
    first = _block()
    yield from itertools.cycle(range(first, first + BLOCK))


_PORTS = _in_turn()


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def _first(count: int, free: Callable[[int], bool]) -> list[int]:
    found = list(itertools.islice(filter(free, itertools.islice(_PORTS, BLOCK)), count))
    if len(found) < count:
        raise RuntimeError("no free ports in this block")
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that comes back only after all others of the block."""
    return _first(1, lambda port: _free(host, port))[0]


def free_ports(count: int) -> list[int]:
    """`count` ports for Redis: the one above each for the bus is free too."""
    return _first(count, lambda port: _free("127.0.0.1", port) and _free("127.0.0.1", port + BUS))
