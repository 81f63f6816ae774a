"""Listening sockets: opened once by the supervisor, one per listener and worker, and handed down by number.

A socket belongs to a place, not to a process: when a worker dies, its socket stays open here, connections wait in its
backlog and the next worker in that place takes them.
"""

from __future__ import annotations

import socket

BACKLOG = 1024


class PortTaken(Exception):
    """The address cannot be listened on; the text says which and what to do."""


def open_sockets(host: str, port: int, places: int) -> list[socket.socket]:
    """`places` listening sockets on one address (SO_REUSEPORT). Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened: list[socket.socket] = []
    try:
        for _ in range(places):
            sock = socket.socket(family, socket.SOCK_STREAM)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if places > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            if port == 0:
                port = sock.getsockname()[1]
            sock.listen(BACKLOG)
            sock.set_inheritable(True)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise PortTaken(
            f"cannot listen on {host} port {port}: {error.strerror}; "
            "stop the other program, or choose another address in the config"
        ) from error
    return opened
