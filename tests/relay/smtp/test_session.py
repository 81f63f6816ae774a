"""One session from the inside: clients that do not read, leave at odd moments, or lie about where they come from."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from relay.settings.model import Settings
from tests.harness.certificates import write_pair
from tests.relay.smtp.doors import Doors, Permissive

LOGIN = b"AUTH PLAIN AHNob3AAY29ycmVjdCBob3JzZQ==\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
MESSAGE = b"From: a@b.example\r\n\r\nhello\r\n"


@pytest.fixture(params=[pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop")])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": request.param})


def _settings(limits: dict[str, Any] | None = None, **listener: Any) -> Settings:
    table = {
        "server": {"data_dir": "data", "keys_dir": "keys"},
        "limits": limits or {},
        "listener": [{"address": "127.0.0.1:20000", "tls": "off", **listener}],
    }
    return Settings.model_validate_json(json.dumps(table))


async def _line(reader: asyncio.StreamReader, code: str) -> bytes:
    while True:
        line = await asyncio.wait_for(reader.readline(), 5.0)
        if line[3:4] != b"-":
            assert line.startswith(code.encode()), line
            return line


async def _into_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _line(reader, "220")
    for command, codes in ((b"EHLO x\r\n", "250"), (LOGIN, "235"), (ENVELOPE, "250 250 354")):
        writer.write(command)
        for code in codes.split():
            await _line(reader, code)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(5.0):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_client_that_does_not_read_is_not_read_either() -> None:
    """A flood of HELP (12 octets of answer for each that is sent) fills no memory, and is answered in full at last."""
    front = Permissive()
    count = 60_000
    async with Doors(_settings(), front) as doors:
        reader, writer = await doors.connect()
        await _line(reader, "220")
        writer.transport.pause_reading()
        writer.write(b"HELP\r\n" * count)
        session = await _only(doors)
        await _until(lambda: session._reading_paused or session.is_clogged)
        other, asks = await doors.connect()
        await _line(other, "220")
        for _ in range(20):  # turns of the loop, each with an answer, in which a careless server would read on
            asks.write(b"NOOP\r\n")
            await _line(other, "250")
        asks.close()
        assert len(session.buffer) < 2**20
        assert session.transport.get_write_buffer_size() < 2**18
        writer.transport.resume_reading()
        for _ in range(count):
            assert (await asyncio.wait_for(reader.readline(), 5.0)).startswith(b"214")
        writer.write(b"EHLO x\r\n")
        await _line(reader, "250")
        writer.close()
    assert not front.crashes


async def _only(doors: Doors) -> Any:
    await _until(lambda: len(doors.gate.sessions) == 1)
    return next(iter(doors.gate.sessions))


async def test_who_never_reads_is_cut_off_in_the_end() -> None:
    """Time limits hold for replies that nobody takes; the place comes back."""
    settings = _settings()
    front = Permissive(Permissive().limits._replace(command_timeout_seconds=0.3))
    async with Doors(settings, front) as doors:
        reader, writer = await doors.connect()
        await _line(reader, "220")
        writer.transport.pause_reading()
        writer.write(b"HELP\r\n" * 300_000)
        await _only(doors)
        await _until(lambda: not doors.gate.sessions)
        writer.transport.abort()
    assert not front.crashes


async def test_the_commit_ends_though_the_client_has_gone() -> None:
    front = Permissive()
    begun, finish, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(raw: bytes) -> str:
        begun.set()
        await finish.wait()
        ended.set()
        return "250 2.0.0 queued"

    front.on_message = slowly
    async with Doors(_settings(), front) as doors:
        reader, writer = await doors.connect()
        await _into_data(reader, writer)
        writer.write(MESSAGE + b".\r\n")
        await begun.wait()
        _reset(writer)
        await _until(lambda: not doors.gate.sessions)
        finish.set()
        await asyncio.wait_for(ended.wait(), 5.0)
        await _until(lambda: doors.in_flight.used == 0)
    assert not front.crashes


async def test_a_bug_behind_the_session_is_451_and_no_more() -> None:
    front = Permissive()

    async def broken(raw: bytes) -> str:
        raise ValueError("a secret")

    front.on_message = broken
    async with Doors(_settings(), front) as doors:
        reader, writer = await doors.connect()
        await _into_data(reader, writer)
        writer.write(MESSAGE + b".\r\n")
        assert b"secret" not in await _line(reader, "451 4.3.0")
        front.on_message = None
        writer.write(ENVELOPE)
        for code in ("250", "250", "354"):
            await _line(reader, code)
        writer.write(MESSAGE + b".\r\n")
        await _line(reader, "250")
        assert doors.in_flight.used == 0
        writer.close()
    assert len(front.crashes) == 1


async def test_a_proxy_header_of_a_stranger_is_not_believed() -> None:
    """Only loopback and private_networks may say where a client comes from."""
    front = Permissive()
    settings = _settings(proxy_protocol=True)
    async with Doors(settings, front) as doors:
        session_kind = doors.listeners._kind(settings.listener[0])
        assert session_kind.trusts("127.0.0.1")
        assert not session_kind.trusts("192.0.2.1")
        reader, writer = await doors.connect()
        writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
        await _line(reader, "220")
        assert doors.presence.counts == {"client:192.0.2.7": 1}
        writer.close()
        await _until(lambda: doors.presence.counts == {"client:192.0.2.7": 0})


@pytest.mark.parametrize(("starttls", "late"), [(b"STARTTLS\n", b""), (b"STARTTLS\r", b"\n"), (b"STARTTLS\r", b"")])
async def test_line_ends_are_mended_inside_tls_and_not_in_the_handshake(
    tmp_path: Path, starttls: bytes, late: bytes
) -> None:
    """SMTP-5, for a device that bare_line_end_networks names."""
    front = Permissive()
    write_pair(tmp_path / "crt", tmp_path / "key")
    settings = _settings(
        {"bare_line_end_networks": ["127.0.0.1/32"]},
        tls="opportunistic",
        certificate=str(tmp_path / "crt"),
        key=str(tmp_path / "key"),
    )
    trust = ssl.create_default_context(cafile=str(tmp_path / "crt"))
    async with Doors(settings, front) as doors:
        for _ in range(20):  # a handshake holds random octets, so once would prove little
            reader, writer = await doors.connect()
            await _line(reader, "220")
            writer.write(b"EHLO x\n")
            await _line(reader, "250")
            writer.write(starttls)
            await _line(reader, "220")
            writer.write(late)  # the other half of a CRLF, in a packet of its own
            await writer.start_tls(trust, server_hostname="gw.test")
            for command, codes in (
                (b"EHLO x\n", "250"),
                (LOGIN[:-1], "235"),
                (ENVELOPE.replace(b"\r", b""), "250 250 354"),
            ):
                writer.write(command)
                for code in codes.split():
                    await _line(reader, code)
            writer.write(MESSAGE.replace(b"\r", b"") + b".\n")
            await _line(reader, "250")
            writer.close()
    assert {raw for _, raw in front.taken} == {MESSAGE} and not front.crashes


@pytest.mark.parametrize("moment", [b"", b"PROXY TCP4 192.0.2.7", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"])
async def test_a_connection_that_resets_leaves_no_place_taken(moment: bytes) -> None:
    front = Permissive()
    async with Doors(_settings(proxy_protocol=True), front) as doors:
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", doors.ports[0]))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.send(moment)
            sock.close()
        reader, writer = await doors.connect()
        writer.write(b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n")
        await _line(reader, "220")
        await _until(lambda: len(doors.gate.sessions) == 1)
        await _until(lambda: not doors.presence.counts.get("client:192.0.2.7"))
        writer.close()
    assert not front.crashes


async def test_commands_in_single_octets() -> None:
    front = Permissive()
    async with Doors(_settings(), front) as doors:
        reader, writer = await doors.connect()
        await _line(reader, "220")
        for octet in b"EHLO x\r\n" + LOGIN:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        await _line(reader, "250")
        await _line(reader, "235")
        writer.write(ENVELOPE)
        for code in ("250", "250", "354"):
            await _line(reader, code)
        for octet in b"..\r\n.x\r\n.\r\n":
            writer.write(bytes((octet,)))
            await asyncio.sleep(0)
        await _line(reader, "250")
        writer.close()
    assert [raw for _, raw in front.taken] == [b".\r\nx\r\n"]


# -- doors: who has a place before it has said a word


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    write_pair(tmp_path / "crt", tmp_path / "key")
    return {"certificate": str(tmp_path / "crt"), "key": str(tmp_path / "key")}


TWO = {"connections_per_address": 2, "connections_exempt_networks": []}
HERE = "client:127.0.0.1"
HELLO = b"\x16\x03\x01\x02\x00\x01"  # how a handshake begins


async def _heard(reader: asyncio.StreamReader) -> bytes:
    """All that is said until the end; octets that the gateway did not read make the end a reset."""
    try:
        return await asyncio.wait_for(reader.read(), 5.0)
    except ConnectionResetError:
        return b""


async def _greeted(doors: Doors, pair: dict[str, str], first: bytes = b"") -> asyncio.StreamWriter:
    """A client of implicit TLS that has been let in."""
    trust = ssl.create_default_context(cafile=pair["certificate"])
    reader, writer = await doors.connect()
    writer.write(first)
    await writer.start_tls(trust, server_hostname="gw.test")
    await _line(reader, "220")
    for command, code in ((b"EHLO x\r\n", "250"), (LOGIN, "235")):
        writer.write(command)
        await _line(reader, code)
    return writer


async def test_who_is_silent_before_tls_is_counted_from_the_accept_on(pair: dict[str, str]) -> None:
    """SMTP-11: `submissions` heard of its clients after the handshake only, and thousands stood there uncounted."""
    front = Permissive()
    async with Doors(_settings(TWO, kind="submissions", tls="required", **pair), front) as doors:
        silent = [await doors.connect() for _ in range(2)]
        await _until(lambda: doors.presence.counts.get(HERE) == 2)
        for _ in range(3):
            reader, writer = await doors.connect()
            assert await _heard(reader) == b"", "no octet can be told from a handshake"
            writer.close()
        assert front.events == ["refused_connection"] * 3
        assert len(doors.gate.sessions) == 2
        silent.pop()[1].close()
        await _until(lambda: doors.presence.counts[HERE] == 1)
        writer = await _greeted(doors, pair)
        assert front.events[3:] == ["session"]
        writer.close()
        await _until(lambda: doors.presence.counts[HERE] == 1)
        silent.pop()[1].close()
        await _until(lambda: doors.presence.counts[HERE] == 0)
    assert not front.crashes


async def test_the_cap_on_all_connections_holds_before_tls_and_before_a_proxy_header(pair: dict[str, str]) -> None:
    """Over it who can read is told 421; nobody lingers, since that would take a descriptor too."""
    for listener, said in (
        ({"kind": "submissions", "tls": "required", **pair}, b""),
        ({"proxy_protocol": True}, b"421 4.7.0 Too many connections; try again later\r\n"),
    ):
        front = Permissive()
        async with Doors(_settings(**listener), front) as doors:
            doors.gate.total = 2
            silent = [await doors.connect() for _ in range(2)]
            await _until(lambda doors=doors: len(doors.gate.sessions) == 2)
            reader, writer = await doors.connect()
            assert await _heard(reader) == said
            assert front.events == ["refused_connection"] and doors.presence.counts == {}
            for _, held in (*silent, (reader, writer)):
                held.close()
            await _until(lambda doors=doors: not doors.gate.sessions)
        assert not front.crashes


@pytest.mark.parametrize("begun", [b"", HELLO])
@pytest.mark.parametrize("proxied", [False, True])
async def test_a_handshake_that_stalls_ends(
    pair: dict[str, str], begun: bytes, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.smtp.connection.HANDSHAKE_SECONDS", 0.2)
    front = Permissive()
    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n" if proxied else b""
    settings = _settings(TWO, kind="submissions", tls="required", proxy_protocol=proxied, **pair)
    async with Doors(settings, front) as doors:
        reader, writer = await doors.connect()
        writer.write(header + begun)
        assert await _heard(reader) == b""
        await _until(lambda: not doors.gate.sessions)
        assert set(doors.presence.counts.values()) == {0} and front.events == []
        writer.close()
    assert not front.crashes


async def test_a_proxy_header_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.smtp.connection.HANDSHAKE_SECONDS", 0.2)
    front = Permissive()
    async with Doors(_settings(proxy_protocol=True), front) as doors:
        reader, writer = await doors.connect()
        writer.write(b"PROXY TCP4 192.0.2.7")
        assert (await asyncio.wait_for(reader.read(), 5.0)).startswith(b"421 4.4.2")
        writer.close()
        await _until(lambda: not doors.gate.sessions)
        assert front.events == ["bad_proxy_header"]
        reader, writer = await doors.connect()  # and who has sent it gets the time of a client from then on
        writer.write(b"PROXY TCP4 192.0.2.7 ")
        await _only(doors)
        writer.write(b"192.0.2.1 1 2\r\n")
        await _line(reader, "220")
        await asyncio.sleep(0.3)  # longer than the header had
        writer.write(b"NOOP\r\n")
        await _line(reader, "250")
        writer.close()


@pytest.mark.parametrize("begun", [b"", HELLO])
@pytest.mark.parametrize("proxied", [False, True])
async def test_a_handshake_that_is_reset_leaves_no_place_taken(
    pair: dict[str, str], begun: bytes, proxied: bool
) -> None:
    front = Permissive()
    header = b"PROXY TCP4 127.0.0.1 192.0.2.1 1 2\r\n" if proxied else b""
    settings = _settings(TWO, kind="submissions", tls="required", proxy_protocol=proxied, **pair)
    async with Doors(settings, front) as doors:
        for is_reset in (True, False) * 4:
            _, writer = await doors.connect()
            writer.write(header + begun)
            await _until(lambda: doors.presence.counts.get(HERE) == 1)
            if is_reset:
                _reset(writer)
            else:
                writer.close()
            await _until(lambda: not doors.gate.sessions and doors.presence.counts[HERE] == 0)
        (await _greeted(doors, pair, header)).close()
        await _until(lambda: not doors.gate.sessions)
    assert not front.crashes


async def test_a_drain_ends_handshakes_without_a_word(pair: dict[str, str]) -> None:
    front = Permissive()
    async with Doors(_settings(kind="submissions", tls="required", **pair), front) as doors:
        reader, writer = await doors.connect()
        writer.write(HELLO)
        await _only(doors)
        async with asyncio.timeout(5.0):
            await doors.listeners.drain(60.0)
        assert await _heard(reader) == b""
        writer.close()
    assert not front.crashes and front.events == []
