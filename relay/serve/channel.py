"""One JSON object a line, both ways, over the control socket: requests with a number, answers with the same number.

    {"id": 7, "op": "tenant.add", "args": {...}, "actor": "operator:ann"}
    {"id": 7, "result": {...}}   or   {"id": 7, "code": "...", "error": "..."}

Either side may ask. The socket lies in the data folder (0700); who may open the folder may command the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from relay.observe.actor import GATEWAY, MOST_CHARS, actor

LEAVE_SECONDS = 2.0
MAX_LINE = 64 * 1024 * 1024
DOWN_CODES = frozenset(("unavailable", "internal", "storage", "owner.busy"))  # nobody said no: it could not be done now
Handle = Callable[["Channel", str, dict[str, Any]], Awaitable[Any]]


class OpRefused(Exception):
    """The other side said no: `code` for programs, `text` with the remedy for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class OpUnavailable(Exception):
    """The other side is gone, does not answer in time, or cannot do it now: then `text` says what to do."""

    def __init__(self, what: str, text: str = "") -> None:
        super().__init__(what)
        self.text = text


class Channel:
    """One connection of the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handle) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._next = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.name = ""

    async def call(self, op: str, args: dict[str, Any] | None = None, *, timeout: float = 30.0) -> Any:
        """Ask. Raises OpRefused, or OpUnavailable when no answer comes."""
        self._next += 1
        number = self._next
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[number] = future
        try:
            self._send({"id": number, "op": op, "args": args or {}, "actor": actor.get()})
            async with asyncio.timeout(timeout):  # wait_for of Python 3.11 swallows a Ctrl-C that comes with the answer
                return await future
        except (TimeoutError, ConnectionError) as error:
            raise OpUnavailable(op) from error
        finally:
            self._open.pop(number, None)

    def tell(self, op: str, args: dict[str, Any]) -> None:
        """Ask without waiting for an answer."""
        if not self._writer.is_closing():
            self._send({"id": 0, "op": op, "args": args, "actor": actor.get()})

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS) + b"\n")

    async def run(self) -> None:
        """Serve until the other side leaves."""
        try:
            while line := await self._reader.readline():
                self._take(line)
        except (ConnectionError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            for future in self._open.values():
                if not future.done():
                    future.set_exception(ConnectionResetError())
            for task in self._tasks:
                task.cancel()
            self._writer.close()

    def _take(self, line: bytes) -> None:
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._writer.close()
            return
        if not isinstance(message, dict) or not isinstance(message.get("id", 0), int):
            self._writer.close()  # not of our protocol: nothing behind it can be trusted to be
            return
        if "op" in message:
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        future = self._open.get(message.get("id", 0))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(OpRefused(message.get("code", "refused"), message["error"]))
        else:
            future.set_result(message.get("result"))

    async def _answer(self, message: dict[str, Any]) -> None:
        number = message.get("id", 0)
        op, args, who = message["op"], message.get("args") or {}, message.get("actor", GATEWAY)
        try:
            if not isinstance(op, str) or not isinstance(args, dict) or not isinstance(who, str):
                raise OpRefused("op.malformed", "op and actor must be text and args a table")
            actor.set(who[:MOST_CHARS])  # of this task: whoever it asks on hears the same
            answer: dict[str, Any] = {"result": await self._handle(self, op, args)}
        except OpRefused as error:
            answer = {"code": error.code, "error": error.text}
        except OpUnavailable as error:
            text = error.text or "a part of the gateway does not answer; try again"
            answer = {"code": "unavailable", "error": text}
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a bug in one operation must not end the channel; its text stays in the log
            self.crashed(op, error)
            answer = {"code": "internal", "error": "internal error; see the log of the gateway"}
        if number and not self._writer.is_closing():
            self._send({"id": number, **answer})
            await self._writer.drain()

    crashed: Callable[[str, BaseException], None] = staticmethod(lambda op, error: None)

    def close(self) -> None:
        self._writer.close()


async def connect(path: str, handle: Handle) -> Channel:
    """A channel to the supervisor. Raises OSError when nobody listens; `run` must be started by the caller."""
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    return Channel(reader, writer, handle)


async def take_leave(channel: Channel, place: int, numbers: Any) -> None:
    """Of a process's supervisor: what it counted since it was last asked (`numbers`) is not lost."""
    try:
        await channel.call("worker.leaves", {"place": place, "numbers": numbers}, timeout=LEAVE_SECONDS)
    except (OpUnavailable, OpRefused):
        pass  # it is gone itself
    channel.close()
