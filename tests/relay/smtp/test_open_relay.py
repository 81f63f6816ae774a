"""No configuration that starts is an open relay (issue text, design section 5).

Configurations are made at random; those that the gateway would start with are opened, in front of a gateway that would
let everything through, and attacked without a valid login by conversations made at random too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.policy.catalogue import ORDER, Catalogue, CatalogueError
from relay.settings.checks import clashes
from relay.settings.model import Settings
from tests.harness.certificates import write_pair
from tests.harness.client import insecure_context
from tests.relay.smtp.doors import Doors, Permissive

MESSAGE = b"From: a@b.example\r\nTo: c@d.example\r\n\r\nspam\r\n"
LINES = (
    b"EHLO x",
    b"HELO x",
    b"STARTTLS",
    b"MAIL FROM:<a@b.example>",
    b"MAIL FROM:<>",
    b"MAIL FROM:<a@b.example> AUTH=<a@b.example>",
    b"RCPT TO:<c@d.example>",
    b"DATA",
    MESSAGE + b".",
    b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE[:-2],
    b"AUTH PLAIN AHNob3AAd3Jvbmc=",
    b"AUTH PLAIN =",
    b"AUTH LOGIN",
    b"c2hvcA==",
    b"*",
    b"RSET",
    b"NOOP",
    b"XCLIENT ADDR=127.0.0.1 LOGIN=shop",
    b"QUIT",
)
WHOLE = (0, 3, 6, 7, 8)
CHUNKED = (0, 3, 6, 9)
INSIDE = (0, 2, 0, 10, 3, 6, 7, 8)
PROXIES = (
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 10.1.1.1 10.1.1.1 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
)

attacks = st.one_of(
    st.sampled_from([WHOLE, CHUNKED, INSIDE]),
    st.lists(st.integers(0, len(LINES) - 1), min_size=3, max_size=14).map(tuple),
)
listeners = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["submission", "submissions", "feedback"]),
        "address": st.sampled_from(["127.0.0.1:{}", "0.0.0.0:{}", "10.1.2.3:{}", "192.0.2.1:{}", "[::1]:{}"]),
        "tls": st.sampled_from(["required", "opportunistic", "off"]),
        "proxy_protocol": st.booleans(),
        "certified": st.booleans(),
    }
)
policy_tables = st.dictionaries(
    st.sampled_from(ORDER),
    st.fixed_dictionaries({"mode": st.sampled_from(["off", "observe", "enforce"])}),
    max_size=len(ORDER),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder / "tls.crt", folder / "tls.key")
    return folder / "tls.crt", folder / "tls.key"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    opened=st.lists(listeners, min_size=1, max_size=3),
    private=st.sampled_from([[], ["10.0.0.0/8"], ["0.0.0.0/1", "128.0.0.0/1"]]),
    policies=policy_tables,
    attack=attacks,
    proxy=st.sampled_from(PROXIES),
)
def test_nothing_is_relayed_without_a_login(
    pair: tuple[Path, Path],
    opened: list[dict[str, Any]],
    private: list[str],
    policies: dict[str, Any],
    attack: tuple[int, ...],
    proxy: bytes,
) -> None:
    config = _settings(pair, opened, private, policies)
    if config is None:
        return
    front = Permissive()
    asyncio.run(_attack_all(config, front, attack, proxy))
    assert front.taken == []
    assert front.crashes == []


@pytest.mark.parametrize("attack", [WHOLE, CHUNKED])
def test_the_same_conversation_with_a_login_is_relayed(pair: tuple[Path, Path], attack: tuple[int, ...]) -> None:
    """The attack is a good conversation but for the login: with one, the message is taken."""
    listener = {"kind": "submission", "address": "127.0.0.1:{}", "tls": "off"}
    config = _settings(pair, [listener | {"proxy_protocol": False, "certified": False}], [], {})
    assert config is not None
    front = Permissive()
    asyncio.run(_attack_all(config, front, attack, b"", login=True))
    assert [raw for _, raw in front.taken] == [MESSAGE]


def _settings(
    pair: tuple[Path, Path], opened: list[dict[str, Any]], private: list[str], policies: dict[str, Any]
) -> Settings | None:
    """The settings, or None where the gateway would not start with them."""
    table: dict[str, Any] = {
        "server": {
            "hostname": "gw.test.example",
            "private_networks": private,
            "data_dir": "data",
            "keys_dir": "keys",
        },
        "listener": [
            {key: value for key, value in listener.items() if key != "certified"}
            | {"address": listener["address"].format(20_000 + place)}
            | ({"certificate": str(pair[0]), "key": str(pair[1])} if listener["certified"] else {})
            for place, listener in enumerate(opened)
        ],
        "policies": policies,
    }
    made = Settings.model_validate_json(json.dumps(table))
    with contextlib.suppress(CatalogueError):
        Catalogue.load(made.policies)
        return None if clashes(made) else made
    return None


async def _attack_all(
    config: Settings, front: Permissive, attack: tuple[int, ...], proxy: bytes, *, login: bool = False
) -> None:
    async with Doors(config, front) as doors:
        for index, listener in enumerate(config.listener):
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(5.0 if login else 1.0):
                    await _attack(doors, index, attack, proxy if listener.proxy_protocol else b"", login=login)


async def _attack(doors: Doors, index: int, attack: tuple[int, ...], proxy: bytes, *, login: bool) -> None:
    reader, writer = await doors.connect(index)
    try:
        writer.write(proxy)
        await writer.drain()
        if doors.settings.listener[index].kind == "submissions":
            await writer.start_tls(insecure_context())
        await _reply(reader)
        if login:
            attack = (attack[0], -1, *attack[1:])
        for number in attack:
            line = b"AUTH PLAIN AHNob3AAY29ycmVjdCBob3JzZQ==" if number < 0 else LINES[number]
            writer.write(line + b"\r\n")
            reply = await _reply(reader)
            if line == b"STARTTLS" and reply.startswith(b"220"):
                await writer.start_tls(insecure_context())
    finally:
        writer.transport.abort()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await reader.readuntil(b"\n")
        if line[3:4] != b"-":
            return line
