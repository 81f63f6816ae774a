"""The guard of conftest.py holds: a test that leaves this machine ends there and then."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.conftest import NetworkForbidden, is_local

ELSEWHERE = "192.0.2.1"  # RFC 5737: documentation only, routed nowhere


def test_connecting_elsewhere_ends_the_test() -> None:
    with socket.socket() as sock, pytest.raises(NetworkForbidden):
        sock.connect((ELSEWHERE, 25))
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(NetworkForbidden):
        sock.sendto(b"?", (ELSEWHERE, 53))


def test_looking_up_a_name_ends_the_test() -> None:
    with pytest.raises(NetworkForbidden):
        socket.getaddrinfo("example.org", 25)


def test_the_event_loop_is_guarded_too() -> None:
    async def reach_out() -> None:
        await asyncio.open_connection(ELSEWHERE, 25)

    with pytest.raises(NetworkForbidden):
        asyncio.run(reach_out())


def test_this_machine_may_be_talked_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
    assert all(map(is_local, ("localhost", "::1", "127.3.2.1", b"127.0.0.1", None)))
    assert not any(map(is_local, (ELSEWHERE, "localhost.example.org", "10.0.0.1", "::ffff:192.0.2.1")))
