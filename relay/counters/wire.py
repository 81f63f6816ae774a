"""Commands to Redis, of many callers in one round trip.

Theory of operation. Whoever asks while nothing is under way makes a batch with all who ask in the same turn of the loop; whoever
asks while a batch is under way goes with the next one, as the sessions of one commit do. So a worker has one connection (in
a cluster one to each node), one batch on it at a time, and no answer can be taken for another's.

A connection that was lost is made again once, at once, and the batch repeated: whoever restarts a balancer need not notice.
What is charged in it names its id, so it is charged once. Everything else (no answer in time, an answer that says no) fails the
batch and drops the connection, with whatever may still come over it. A batch without an answer also fails what waits behind it,
which would wait as long again for nothing. A key that holds what is not ours fails who asked for it, and nobody else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from relay.counters.bounded import bound
from relay.counters.contract import DAMAGED_KEY, CountersUnavailable
from relay.settings.redis_url import RedisUrl

bound()
MAX_TOGETHER = 128
_DAMAGED = re.compile("WRONGTYPE|attempt to |bad argument|not an integer")
"""What Redis and Lua say of a key of another type, and of one with another content than ours."""
Client = Any  # Redis or RedisCluster: both make pipelines
Connect = Callable[[], Awaitable[Client]]


class Script:
    """A Lua script beside this file, run by the digest of its text; the server is given the text when it asks."""

    def __init__(self, name: str) -> None:
        self.text = Path(__file__).with_name(name).read_text("ascii")
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class _Asked(NamedTuple):
    command: tuple[Any, ...]
    script: Script | None
    answer: asyncio.Future[Any]


class Wire:
    """Asks over the connection that `connect` makes. `seconds`: how long an answer may take, connecting included."""

    def __init__(self, connect: Connect, seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        self._client: Client | None = None
        self._waiting: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None
        self.round_trips = 0

    def run(self, script: Script, keys: Sequence[str | bytes], *arguments: object) -> asyncio.Future[Any]:
        """The answer of `script`. Raises CountersUnavailable."""
        return self._ask(_Asked(("EVALSHA", script.digest, len(keys), *keys, *arguments), script, _future()))

    def ask(self, *command: object) -> asyncio.Future[Any]:
        """The answer to one command. Raises CountersUnavailable."""
        return self._ask(_Asked(command, None, _future()))

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        for asked in self._waiting:
            _fail(asked, "Closed")
        self._waiting.clear()
        await self._drop()

    def _ask(self, asked: _Asked) -> asyncio.Future[Any]:
        self._waiting.append(asked)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())
        return asked.answer

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
            try:
                async with asyncio.timeout(self._seconds):
                    answers = await self._exchange(batch)
            except asyncio.CancelledError:
                await self._give_up(batch, "Closed")
                raise
            except (NoAnswer, TimeoutError) as error:
                behind, self._waiting = self._waiting, []
                await self._give_up([*batch, *behind], type(error).__name__)
            except (RedisError, RedisClusterException, OSError) as error:
                await self._give_up(batch, type(error).__name__)
            except Exception as error:  # a library that stumbles over a wrong answer: as good as none
                await self._give_up(batch, f"Unexpected {type(error).__name__}")
            else:
                await self._settle(batch, answers)

    async def _exchange(self, batch: Sequence[_Asked]) -> list[Any]:
        """Answers in the order of `batch`; what the server refused is an exception in its place."""
        commands = [asked.command for asked in batch]
        is_kept = self._client is not None
        try:
            answers = await self._round_trip(commands)
        except (ConnectionLost, OSError) as error:
            if not is_kept or isinstance(error, NoAnswer | TimeoutError):
                raise
            await self._drop()
            answers = await self._round_trip(commands)
        again = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        for place, answer in zip(again, await self._teach([batch[place] for place in again]), strict=True):
            answers[place] = answer
        return answers

    async def _teach(self, batch: Sequence[_Asked]) -> list[Any]:
        """The answers of scripts that a server did not know: it has begun anew, or taken over from another."""
        commands = [("EVAL", asked.script.text, *asked.command[2:]) for asked in batch if asked.script is not None]
        return await self._round_trip(commands) if commands else []

    async def _round_trip(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._client is None:
            self._client = await self._connect()
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        self.round_trips += 1
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _settle(self, batch: Sequence[_Asked], answers: Sequence[Any]) -> None:
        wrong = False
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ResponseError) and _DAMAGED.search(str(answer)):
                _fail(asked, DAMAGED_KEY)
            elif isinstance(answer, Exception):
                wrong = True
                _fail(asked, type(answer).__name__)
            elif not asked.answer.done():
                asked.answer.set_result(answer)
        if wrong:  # a replica, a server that loads or has lost its peers: look for a better one next time
            await self._drop()

    async def _give_up(self, batch: Sequence[_Asked], kind: str) -> None:
        for asked in batch:
            _fail(asked, kind)
        await self._drop()

    async def _drop(self) -> None:
        if self._client is None:
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._client.aclose()
        except (RedisError, OSError, TimeoutError):
            pass  # it was lost anyway
        self._client = None  # only now: who is stopped in between closes it again


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _fail(asked: _Asked, kind: str) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(CountersUnavailable(kind))


class Login(NamedTuple):
    """What a connection needs beyond the address. `password` is the one of a file, "": the address may hold one."""

    seconds: float
    password: str = ""
    ca_file: Path | None = None


def connector(url: RedisUrl, login: Login) -> Connect:
    """How to come to the Redis that takes writes at `url` now: of Sentinels, the one that they name."""
    options: dict[str, Any] = {
        "username": url.username or None,
        "password": login.password or url.password or None,
        "socket_timeout": login.seconds,
        "socket_connect_timeout": login.seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    if url.tls:
        options |= {"ssl": True, "ssl_ca_certs": str(login.ca_file) if login.ca_file else None}
    if url.kind == "cluster":
        return lambda: _cluster(url, options)
    if url.kind == "sentinel":
        return lambda: _by_sentinel(url, options)
    return lambda: _single(url, options)


async def _single(url: RedisUrl, options: dict[str, Any]) -> Client:
    host, port = url.hosts[0]
    return Redis(host=host, port=port, db=url.database, **options)


async def _by_sentinel(url: RedisUrl, options: dict[str, Any]) -> Client:
    """Asks the Sentinels each time: after a failure there may be another primary. All at once, and the first who names one is
    believed, so that a Sentinel which is silent costs nothing.
    """
    asking = {name: value for name, value in options.items() if name not in ("username", "password")}
    asked = [asyncio.ensure_future(_primary(sentinel, url.service, asking)) for sentinel in url.hosts]
    try:
        for answer in asyncio.as_completed(asked):
            try:
                host, port = await answer
            except (RedisError, OSError):
                continue
            return Redis(host=host, port=port, db=url.database, **options)
        raise MasterNotFoundError(url.service)
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _primary(sentinel: tuple[str, int], service: str, options: dict[str, Any]) -> tuple[str, int]:
    """Where one Sentinel sees the primary."""
    one = Sentinel([sentinel], sentinel_kwargs=options)  # type: ignore[no-untyped-call]  # redis-py
    try:
        host, port = await one.discover_master(service)
    finally:
        await one.sentinels[0].aclose()
    return host, port


async def _cluster(url: RedisUrl, options: dict[str, Any]) -> Client:
    nodes = [ClusterNode(host, port) for host, port in url.hosts]
    return await RedisCluster(startup_nodes=nodes, **options).initialize()
