"""Where counters lie that several gateways share: one Redis, one watched by Sentinels, or a Redis Cluster. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

REDIS_PORT = 6379
SENTINEL_PORT = 26379
_SCHEME = re.compile(r"redis(?P<tls>s?)(?:\+(?P<kind>sentinel|cluster))?\Z")
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?\Z")
_SERVICE = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")

WRITE = (
    'Write "embedded", "redis://host:6379/0", "redis+sentinel://host1:26379,host2:26379/service" or '
    '"redis+cluster://host1:6379,host2:6379"; rediss for TLS'
)


class RedisUrl(NamedTuple):
    """A parsed `storage.counters`. The hosts are Sentinels where `kind` is "sentinel", and then `service` names the primary."""

    kind: str  # single | sentinel | cluster
    hosts: tuple[tuple[str, int], ...]
    tls: bool
    username: str
    password: str
    database: int
    service: str

    def __repr__(self) -> str:
        return f"RedisUrl({shown(self)})"


class NoRedisUrl(NamedTuple):
    """What is wrong with a text that should be one. Holds nothing of the text, which may hold a password."""

    wrong: str


def shown(url: RedisUrl) -> str:
    """The address for people and logs, without login."""
    scheme = ("rediss" if url.tls else "redis") + ("" if url.kind == "single" else f"+{url.kind}")
    hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in url.hosts)
    path = f"/{url.service}" if url.service else ""
    return f"{scheme}://{hosts}{path}" + (f"/{url.database}" if url.database else "")


def hidden(text: str) -> str:
    """`text` without what may be a login, however badly the rest is written."""
    before, at, after = text.rpartition("@")
    scheme, found, _ = before.partition("://")
    return after if not at else f"{scheme}://{after}" if found else f"...{after}"


def parse_redis_url(text: str) -> RedisUrl | NoRedisUrl:
    scheme, _, rest = text.partition("://")
    found = _SCHEME.match(scheme)
    if found is None or not rest:
        return NoRedisUrl("this is no place for counters")
    kind = found["kind"] or "single"
    place, _, path = rest.partition("/")
    login, at, addresses = place.rpartition("@")
    if "?" in rest or "#" in rest:
        return NoRedisUrl("an address of counters takes no ? and no #; in a password they are written %3F and %23")
    hosts = _hosts(addresses, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT)
    if hosts is None:
        return NoRedisUrl("a host or port cannot be read")
    if kind == "single" and len(hosts) > 1:
        return NoRedisUrl("several hosts are a cluster or Sentinels: redis+cluster:// or redis+sentinel://")
    tail = _path(kind, path)
    if isinstance(tail, NoRedisUrl):
        return tail
    username, colon, password = login.partition(":")
    if at and not colon:
        return NoRedisUrl('a login is written "user:password@" or ":password@"')
    return RedisUrl(kind, hosts, bool(found["tls"]), unquote(username), unquote(password), *tail)


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...] | None:
    hosts = []
    for part in text.split(","):
        found = _HOST.match(part)
        if found is None or not 0 < int(found["port"] or port) < 65536:
            return None
        hosts.append((found["v6"] or found["name"], int(found["port"] or port)))
    return tuple(hosts)


def _path(kind: str, path: str) -> tuple[int, str] | NoRedisUrl:
    """(database, service)."""
    parts = path.split("/") if path else []
    service = ""
    if kind == "sentinel":
        if not parts or not _SERVICE.match(parts[0]):
            return NoRedisUrl("the name under which the Sentinels know the primary is missing after the hosts")
        service = parts.pop(0)
    if kind == "cluster" and parts:
        return NoRedisUrl("a cluster has no numbered databases")
    if len(parts) > 1 or (parts and not re.fullmatch("[0-9]{1,4}", parts[0])):
        return NoRedisUrl("after the hosts comes the number of a database, and nothing else")
    return int(parts[0]) if parts else 0, service
