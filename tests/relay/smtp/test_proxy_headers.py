"""PROXY headers as balancers and strangers send them: right ones count, all others cost the connection, and nothing else."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.settings.model import Settings
from relay.smtp.front import Limits
from tests.relay.smtp.doors import Doors, Permissive

TABLE = tomllib.loads(Path(__file__).with_name("proxy.toml").read_text())
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
SECONDS = 10.0
CASES = [pytest.param(case, id=f"{kind} {case['why']}") for kind, cases in TABLE.items() for case in cases]


@pytest.fixture(params=[pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop")])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": request.param})


def octets(case: dict[str, Any]) -> bytes:
    """What a row of the table sends."""
    if "header" in case:
        return str(case["header"]).encode("latin-1")
    if "raw" in case:
        return bytes.fromhex(case["raw"])
    body = bytes.fromhex(case["body"]) + bytes(case.get("zeros", 0))
    length = int(case.get("length", len(body)))
    return SIGNATURE + bytes.fromhex(case["command"] + case["family"]) + length.to_bytes(2, "big") + body


def settings(**more: object) -> Settings:
    listener = {"address": "127.0.0.1:20000", "tls": "off", "proxy_protocol": True, **more}
    table = {"server": {"data_dir": "data", "keys_dir": "keys"}, "listener": [listener]}
    return Settings.model_validate_json(json.dumps(table))


async def outcome(doors: Doors, sent: list[bytes], *, closes: bool) -> str:
    """own, dropped, or the address that the session counts."""
    doors.presence.counts.clear()
    reader, writer = await doors.connect()
    for part in sent:
        writer.write(part)
        await writer.drain()
    if closes:
        writer.write_eof()
    async with asyncio.timeout(SECONDS):
        said = await reader.readline()
        counted = [name.removeprefix("client:") for name, count in doors.presence.counts.items() if count]
        if said.startswith(b"220"):
            writer.write(b"QUIT\r\n")
            assert (await reader.readline()).startswith(b"221"), "the header was not taken off whole"
        await reader.read()
        writer.close()
    assert said == b"" or said.startswith(b"220"), said
    return (counted or ["own"])[0] if said else "dropped"


@pytest.mark.parametrize("case", CASES)
async def test_a_header(case: dict[str, Any]) -> None:
    front = Permissive()
    header, closes, expect = octets(case), bool(case.get("closes")), case["expect"]
    async with Doors(settings(), front) as doors:
        assert await outcome(doors, [header], closes=closes) == expect
        assert front.events.count("bad_proxy_header") == (expect == "dropped")
        assert await outcome(doors, [header[:1], header[1:13], header[13:]], closes=closes) == expect, "in three parts"
        assert not doors.gate.sessions or expect != "dropped"
        good = [b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n"]
        assert await outcome(doors, good, closes=False) == "192.0.2.8", "the next one is served"
    assert not front.crashes


@pytest.mark.parametrize("start", [b"PROXY TCP4 192.0.2.7", SIGNATURE + b"\x21\x11\x00\x0c", SIGNATURE[:5]])
async def test_a_header_that_does_not_end_has_as_long_as_a_command(start: bytes) -> None:
    front = Permissive(Limits(command_timeout_seconds=0.1))
    async with Doors(settings(), front) as doors:
        reader, writer = await doors.connect()
        writer.write(start)
        async with asyncio.timeout(SECONDS):
            assert (await reader.read()).startswith(b"421 4.4.2")
        writer.close()
    assert front.events == ["bad_proxy_header"] and not front.crashes


async def test_who_only_looks_whether_somebody_listens_is_no_bad_header() -> None:
    front = Permissive()
    async with Doors(settings(), front) as doors:
        assert await outcome(doors, [], closes=True) == "dropped"
    assert front.events == [] and not front.crashes


FAR = b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\r\n"
OF_V2 = SIGNATURE + b"\x21\x11" + b"%b" + bytes([203, 0, 113, 9, 192, 0, 2, 1, 1, 2, 3, 4]) + b"%b"


def version_2(fields: bytes) -> bytes:
    return OF_V2 % ((12 + len(fields)).to_bytes(2, "big"), fields)


@pytest.mark.parametrize(
    ("header", "more", "offers"),
    [
        (FAR, {}, False),
        (FAR, {"proxy_tls": True}, True),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 25\r\n", {}, True),
        (b"PROXY UNKNOWN\r\n", {}, False),
        (SIGNATURE + b"\x20\x00\x00\x00", {}, True),
        (SIGNATURE + b"\x21\x00\x00\x00", {}, False),
        (version_2(b""), {}, False),
        (version_2(b"\x20\x00\x05\x01\x00\x00\x00\x00"), {}, True),
        (version_2(b"\x20\x00\x05\x00\x00\x00\x00\x00"), {}, False),
        (version_2(b"\x04\x00\x01x" + b"\x20\x00\x0d\x07\x00\x00\x00\x00\x21\x00\x05TLSv1"), {}, True),
        (version_2(b"\x20\x00\xff\x01\x00\x00\x00\x00"), {}, False),
        (version_2(b"\x20\x00\x01\x01"), {}, False),
    ],
    ids=[
        "v1 from elsewhere", "v1, TLS ends at the balancer", "v1 from this machine", "v1 from nowhere", "the balancer itself",
        "v2 from nowhere", "v2 without fields",
        "v2 by TLS", "v2 in clear", "v2 by TLS behind another field", "a field that is longer than the header",
        "a field too short",
    ],
)  # fmt: skip
async def test_passwords_in_clear_are_not_taken_from_elsewhere(
    header: bytes, more: dict[str, Any], offers: bool
) -> None:
    """SMTP-2: that we listen on loopback says nothing of the way from the client to the balancer."""
    async with Doors(settings(**more), Permissive()) as doors:
        reader, writer = await doors.connect()
        writer.write(header + b"EHLO client.test\r\n")
        async with asyncio.timeout(SECONDS):
            assert (await reader.readline()).startswith(b"220")
            said = [await reader.readline()]
            while said[-1][3:4] == b"-":
                said.append(await reader.readline())
            assert any(b"AUTH" in line for line in said) == offers
            writer.write(b"AUTH PLAIN AHNob3AAY29ycmVjdCBob3JzZQ==\r\n")
            assert (await reader.readline()).startswith(b"235" if offers else b"538")
        writer.close()
