"""Room for messages that are coming in: counted as octets come, shared between organisations, and not for ever."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from relay.settings.model import Settings
from relay.smtp.front import InFlight
from tests.harness.timing import rounds
from tests.relay.smtp.doors import Doors, Permissive

LOGIN = b"AUTH PLAIN AHNob3AAY29ycmVjdCBob3JzZQ==\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
MESSAGE = b"From: a@b.example\r\n\r\nhello\r\n"
MEGABYTE = 1 << 20


@pytest.fixture(params=[pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop")])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": request.param})


def _settings(**limits: Any) -> Settings:
    table = {
        "server": {"data_dir": "data", "keys_dir": "keys"},
        "limits": limits,
        "listener": [{"address": "127.0.0.1:20000", "tls": "off"}],
    }
    return Settings.model_validate_json(json.dumps(table))


async def _line(reader: asyncio.StreamReader, code: str) -> None:
    while True:
        line = await asyncio.wait_for(reader.readline(), 5.0)
        if line[3:4] != b"-":
            assert line.startswith(code.encode()), line
            return


async def _open(doors: Doors) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with a transaction open."""
    reader, writer = await doors.connect()
    await _line(reader, "220")
    for command, codes in ((b"EHLO x\r\n", "250"), (LOGIN, "235"), (ENVELOPE, "250 250")):
        writer.write(command)
        for code in codes.split():
            await _line(reader, code)
    return reader, writer


def test_nobody_gets_more_than_a_share_of_the_last_quarter() -> None:
    room = InFlight(100, share=10)
    assert room.take(75, "a") and not room.take(1, "a"), "three quarters may be one's own"
    assert room.take(10, "b") and not room.take(1, "b")
    assert room.take(10, "c") and room.take(5, "d") and not room.take(1, "e"), "the cap is the cap"
    room.give(75, "a")
    assert room.take(40, "b"), "there is room again"
    room.give(50, "b")
    room.give(10, "c")
    room.give(5, "d")
    assert room.used == 0 and room.take(25, "a")


@pytest.mark.anyio
async def test_octets_that_are_only_announced_take_no_room() -> None:
    """SMTP-12: 20 connections that say BDAT and no more shut nobody out."""
    async with Doors(_settings(connections_per_address=100), Permissive()) as doors:
        silent = [await _open(doors) for _ in range(20)]
        for _, writer in silent:
            writer.write(b"BDAT 26000000\r\nsome octets")
        reader, writer = await _open(doors)
        writer.write(b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE)
        await _line(reader, "250")
        assert doors.in_flight.used < 1000
        for _, one in [*silent, (reader, writer)]:
            one.close()


@pytest.mark.anyio
async def test_chunks_that_find_no_room_are_eaten_and_the_room_comes_back() -> None:
    async with Doors(_settings(max_in_flight_bytes=26_214_400), Permissive()) as doors:
        assert doors.in_flight.take(18 * MEGABYTE, "another")
        reader, writer = await _open(doors)
        writer.write(b"BDAT %d\r\n" % (8 * MEGABYTE) + bytes(8 * MEGABYTE))
        await _line(reader, "452")
        assert doors.in_flight.used == 18 * MEGABYTE
        writer.write(ENVELOPE + b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE)
        for code in ("250", "250", "250"):
            await _line(reader, code)
        assert doors.in_flight.used == 18 * MEGABYTE
        writer.close()


@pytest.mark.anyio
async def test_all_chunks_of_a_message_have_one_time() -> None:
    """SMTP-11: an octet now and then does not hold its room for ever."""
    front = Permissive(Permissive().limits._replace(command_timeout_seconds=0.3, data_timeout_seconds=1.0))
    async with Doors(_settings(), front) as doors:
        reader, writer = await _open(doors)
        started, told = time.monotonic(), b""
        while not told.startswith(b"421"):
            writer.write(b"BDAT 1\r\nx")
            told = await asyncio.wait_for(reader.readline(), 5.0)
            assert told[:3] in (b"250", b"421") and time.monotonic() - started < 10.0
            await asyncio.sleep(0.05)  # the pace of the client
        writer.close()


@pytest.mark.anyio
async def test_a_message_in_single_octets_costs_its_length() -> None:
    front, number = Permissive(), 20_000
    async with Doors(_settings(), front) as doors:
        for timed in rounds(5.0, time.process_time):
            front.taken.clear()
            reader, writer = await _open(doors)
            with timed:
                writer.write(b"BDAT 1\r\nx" * number + b"BDAT 0 LAST\r\n")
                for _ in range(number + 1):
                    await _line(reader, "250")
            assert [raw for _, raw in front.taken] == [b"x" * number]
            writer.close()
