"""The control socket: what is no message of ours ends that connection and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay.serve.channel import Channel, OpRefused, connect


class Door:
    """A listening socket whose operation `double` doubles `n`; whatever its tasks raised is kept."""

    def __init__(self) -> None:
        self.raised: list[BaseException] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, path: str) -> asyncio.Server:
        return await asyncio.start_unix_server(self._connected, path, limit=1 << 20)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, self._handle)
        channel.crashed = lambda op, error: self.raised.append(error)
        try:
            await channel.run()
        except Exception as error:
            self.raised.append(error)

    async def _handle(self, channel: Channel, op: str, args: dict[str, Any]) -> Any:
        if op.startswith("double"):
            return args["n"] * 2
        raise OpRefused("unknown", f"{op} is unknown")


@pytest.mark.parametrize(
    "line", [b"[]", b"1", b'"op"', b"null", b"{", b"\xff", b'{"id":[],"result":1}', b'{"id":"x","op":"a"}']
)
async def test_what_is_no_message_closes_its_connection_only(tmp_path: Path, line: bytes) -> None:
    door = Door()
    path = str(tmp_path / "s")
    async with await door.open(path):
        good = await connect(path, door._handle)
        reading = asyncio.create_task(good.run())
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line + b"\n")
        assert await asyncio.wait_for(reader.read(), 5.0) == b""
        writer.close()
        assert await good.call("double", {"n": 21}) == 42
        good.close()
        await reading
    assert door.raised == []


@pytest.mark.parametrize("line", [b'{"id":1,"op":[]}', b'{"id":1,"op":{}}', b'{"id":1,"op":"double","args":[1]}'])
async def test_an_operation_of_the_wrong_shape_is_refused(tmp_path: Path, line: bytes) -> None:
    door = Door()
    path = str(tmp_path / "s")
    async with await door.open(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line + b"\n")
        assert b"op.malformed" in await asyncio.wait_for(reader.readline(), 5.0)
        writer.close()
    assert door.raised == []
