"""The web port against those who connect and keep silent: real sockets on loopback, so that uvicorn itself is asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import uvicorn

from relay.portal.app import create_app
from relay.portal.door import Bounds, PortalProtocol
from relay.portal.server import server_config
from relay.settings.endpoint import Networks
from tests.fakes.gateway import MemoryGateway, portal_settings

LOOPBACK = ("127.0.0.0/8",)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_OUT = (
    b"POST /u/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 26\r\n\r\n"
)
LONG_ANSWER = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-a: "
HALF_A_BODY = ASK_OUT + b"List-Unsub"
LONG = Bounds(head_seconds=600, body_seconds=600, answer_seconds=600)
WITHIN_SECONDS = 20.0  # for what must happen by itself; a healthy run needs a hundredth

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[..., Awaitable[Pair]]


@contextlib.asynccontextmanager
async def running(gateway: MemoryGateway, bounds: Bounds, exempt: Sequence[str] = LOOPBACK) -> AsyncIterator[Dial]:
    """What connects to a portal at a free port of loopback."""
    async with opened(gateway, bounds, exempt) as (dial, _):
        yield dial


@contextlib.asynccontextmanager
async def opened(
    gateway: MemoryGateway, bounds: Bounds, exempt: Sequence[str] = LOOPBACK
) -> AsyncIterator[tuple[Dial, uvicorn.Server]]:
    """The portal at a free port of loopback, and what connects to it; all connections end with it.

    The kernel takes little of an answer, so that who does not read is met soon; `deaf`: the client does not read at all.
    """
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    config = server_config(create_app(gateway, portal_settings()), Networks(exempt), bounds)
    server = uvicorn.Server(config)
    serving = asyncio.get_running_loop().create_task(server._serve(sockets=[sock]))
    pairs: list[Pair] = []

    async def dial(sent: bytes = b"", *, deaf: bool = False) -> Pair:
        client = socket.socket()
        if deaf:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(sock.getsockname())
        pair = await asyncio.open_connection(sock=client)
        if deaf:
            pair[1].transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        pairs.append(pair)
        pair[1].write(sent)
        return pair

    try:
        yield dial, server
    finally:
        await hang_up(pairs)
        server.should_exit = server.force_exit = True
        await serving


async def status(pair: Pair, sent: bytes = b"") -> int:
    """The status of the next answer; 0 where the connection was closed instead."""
    reader, writer = pair
    try:
        writer.write(sent)
        line = await asyncio.wait_for(reader.readline(), WITHIN_SECONDS)
    except ConnectionError:
        return 0
    return int(line.split()[1]) if line else 0


async def is_closed(pair: Pair) -> bool:
    try:
        await asyncio.wait_for(pair[0].read(), WITHIN_SECONDS)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


async def hang_up(pairs: Sequence[Pair]) -> None:
    for _, writer in pairs:
        writer.close()
    for _, writer in pairs:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["silent", "half a head", "half a body"])
async def test_opt_out_answers_beside_more_waiting_connections_than_fit(gateway: MemoryGateway, sent: bytes) -> None:
    async with running(gateway, LONG._replace(connections=40)) as dial:
        waiting = [await dial(sent) for _ in range(60)]
        assert await is_closed(waiting[0])
        asking = [await dial() for _ in range(2)]
        request = ASK_OUT.replace(b"/u/x", b"/u/" + gateway.token(address="ann@example.net").encode())
        assert await status(asking[0], request + b"List-Unsubscribe=One-Click") == 200
        assert await status(asking[1], HEALTH) == 200


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["silent", "half a head", "half a body"])
async def test_whoever_lets_wait_too_long_is_closed(gateway: MemoryGateway, sent: bytes) -> None:
    bounds = LONG._replace(head_seconds=0.2, body_seconds=0.2)
    async with running(gateway, bounds) as dial:
        pair = await dial(sent)
        assert await is_closed(pair)


@pytest.mark.parametrize("head", [HALF_A_HEAD, ASK_OUT, HEALTH + HALF_A_HEAD], ids=["head", "body", "second head"])
async def test_an_octet_now_and_then_buys_no_time(gateway: MemoryGateway, head: bytes) -> None:
    bounds = LONG._replace(head_seconds=0.4, body_seconds=0.4)
    async with running(gateway, bounds) as dial:
        reader, writer = await dial(head)
        closed = asyncio.get_running_loop().create_task(reader.read())
        async with asyncio.timeout(WITHIN_SECONDS):
            while not closed.done():  # one octet each 20 ms: never silent for as long as the bound
                writer.write(b"a")
                await asyncio.wait((closed,), timeout=0.02)
        with contextlib.suppress(ConnectionError):
            closed.result()


async def test_a_client_has_its_share_and_makes_room_among_its_own(gateway: MemoryGateway) -> None:
    async with running(gateway, LONG._replace(per_address=5), exempt=()) as dial:
        waiting = [await dial() for _ in range(6)]
        assert await is_closed(waiting[0])
        assert await status(waiting[1], HEALTH) == 200


async def test_who_does_not_read_holds_no_door(gateway: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clients ask and ask and read nothing: it is their turn, so the next client comes in."""
    stuck: set[PortalProtocol] = set()
    all_stuck = asyncio.Event()
    real = PortalProtocol.pause_writing

    def pause_writing(connection: PortalProtocol) -> None:
        real(connection)
        stuck.add(connection)
        if len(stuck) == 4:
            all_stuck.set()

    monkeypatch.setattr(PortalProtocol, "pause_writing", pause_writing)
    request = ASK_OUT.replace(b"/u/x", b"/u/" + gateway.token(address="ann@example.net").encode())
    async with running(gateway, LONG._replace(per_address=4), exempt=()) as dial:
        for _ in range(4):
            await dial(LONG_ANSWER * 100, deaf=True)
        async with asyncio.timeout(WITHIN_SECONDS):
            await all_stuck.wait()
        assert await status(await dial(), request + b"List-Unsubscribe=One-Click") == 200


async def test_proxies_have_no_share(gateway: MemoryGateway) -> None:
    async with running(gateway, LONG._replace(per_address=5)) as dial:
        waiting = [await dial() for _ in range(20)]
        assert [await status(pair, HEALTH) for pair in waiting] == [200] * 20


async def test_requests_at_work_are_bounded_and_health_is_asked_all_the_same(
    gateway: MemoryGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.portal.guard.MAX_AT_WORK", 0)
    async with running(gateway, LONG) as dial:
        pairs = [await dial() for _ in range(3)]
        assert await status(pairs[0], ASK_OUT + b"List-Unsubscribe=One-Click") == 503
        assert await status(pairs[1], HEALTH) == 200
        assert await status(pairs[2], HEALTH.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")) == 503


@pytest.mark.parametrize("before", [b"", ASK_OUT[:30]], ids=["silent", "half a head"])
async def test_who_came_in_before_a_stop_is_still_answered(gateway: MemoryGateway, before: bytes) -> None:
    """A worker is replaced while mail providers press the unsubscribe button for people: their request is on its way."""
    asked = ASK_OUT.replace(b"/u/x", b"/u/" + gateway.token(address="ann@example.net").encode())
    asked += b"List-Unsubscribe=One-Click"
    async with opened(gateway, LONG._replace(last_seconds=600)) as (dial, server):
        late, other = await dial(asked[: len(before)]), await dial()
        assert await status(other, HEALTH) == 200  # so that the portal has both
        server.should_exit = True
        assert await is_closed(other), "it was asked and answered"
        assert await status(late, asked[len(before) :]) == 200
        assert await is_closed(late), "one answer, and no more"


async def test_a_stop_waits_no_longer_than_that_for_who_stays_silent(gateway: MemoryGateway) -> None:
    async with opened(gateway, LONG._replace(last_seconds=0.2)) as (dial, server):
        silent = await dial()
        other = await dial()
        assert await status(other, HEALTH) == 200
        server.should_exit = True
        assert await is_closed(silent)
