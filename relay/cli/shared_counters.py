"""What `zegel doctor` looks at where gateways share their counters: is Redis there, can it be charged, will it remember."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from relay.cli.findings import Finding, ok, warn, wrong

if TYPE_CHECKING:
    from relay.settings.model import Settings

_REMEDIES = {
    "AuthenticationError": "Write the password of Redis in the file of storage.counters_password_file",
    "NoPermissionError": "Let the login of Redis read and write zegel:* and run scripts",
    "ReadOnlyError": "It is a replica: write the address of the primary, or redis+sentinel:// with those of the Sentinels",
    "MasterNotFoundError": "The Sentinels know no primary of that name: look with `redis-cli -p 26379 sentinel masters`",
    "ClusterDownError": "A slot has no primary: look with `redis-cli cluster info`",
}


def counters(settings: Settings) -> list[Finding]:
    """Nothing where the counters are the node's own."""
    from relay.settings.redis_url import shown

    url = settings.storage.redis
    if url is None:
        return []
    return asyncio.run(_look(settings, shown(url)))


async def _look(settings: Settings, place: str) -> list[Finding]:
    from relay.counters.contract import CountersUnavailable
    from relay.counters.many_nodes import wire_of
    from relay.counters.remote import RedisCounters

    wire = wire_of(settings.storage)
    try:
        await RedisCounters(wire).probe("doctor")
        told = [ok("counters", f"{place} takes charges")]
        if (
            settings.storage.redis is not None and settings.storage.redis.kind != "cluster"
        ):  # there, each node has its own answer
            told += _memory(await wire.ask("INFO", "persistence"), await wire.ask("INFO", "memory"))
        return told
    except CountersUnavailable as error:
        remedy = _REMEDIES.get(error.kind, "See that it runs, and that this machine reaches it")
        return [wrong("counters", f"{place} does not take charges ({error.kind}); each node limits for itself", remedy)]
    finally:
        await wire.close()


def _memory(persistence: Any, memory: Any) -> list[Finding]:
    told = []
    if "aof_enabled:1" not in _lines(persistence):
        remedy = "Write `appendonly yes` in redis.conf"
        told.append(warn("counters", "Redis keeps no log of its writes: a restart forgets every limit", remedy))
    lines = _lines(memory)
    if "maxmemory:0" not in lines and "maxmemory_policy:noeviction" not in lines:
        remedy = "Write `maxmemory-policy noeviction` in redis.conf"
        told.append(warn("counters", "Redis forgets limits when its memory is full", remedy))
    return told


def _lines(answer: Any) -> list[str]:
    """INFO as it comes over the wire, or as redis-py reads it."""
    if isinstance(answer, dict):
        return [f"{name}:{value}" for name, value in answer.items()]
    return bytes(answer).decode("utf-8", "replace").split("\r\n")
