"""What holds for every test: no network but this machine's own, and an environment without the operator's settings."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings

from relay.observe.log import log
from tests.harness.many import examples
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer
from tests.harness.schema import made_once
from tests.harness.statements import compiled_once

settings.register_profile("zegel", max_examples=examples(100))
settings.load_profile("zegel")

LOCAL_NAMES = frozenset(("", "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"))


class NetworkForbidden(BaseException):
    """A test tried to leave this machine. Not an Exception, so that no retry in the code under test takes it for a failure."""


def is_local(host: object) -> bool:
    """Loopback by address or by a name that needs no look-up; None is what `getaddrinfo` takes for this machine."""
    if host is None:
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text in LOCAL_NAMES or text == socket.gethostname():  # smtplib asks who it is
        return True
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def guarded(real: Callable[..., Any], host_of: Callable[..., object]) -> Callable[..., Any]:
    """`real`, for this machine only; `host_of` takes the same arguments and tells the host."""

    def call(*arguments: Any, **options: Any) -> Any:
        host = host_of(*arguments, **options)
        if not is_local(host):
            raise NetworkForbidden(f"{host!r} is not this machine")
        return real(*arguments, **options)

    return call


def _peer(sock: socket.socket, address: Any, *_: Any) -> object:
    # Unix sockets have a path for an address, and stay on the machine.
    return address[0] if sock.family in (socket.AF_INET, socket.AF_INET6) else None


def _datagram(sock: socket.socket, _data: Any, *rest: Any) -> object:
    return _peer(sock, rest[-1])


@pytest.fixture(scope="session", autouse=True)
def no_network_but_loopback() -> Iterator[None]:
    """Every way out of a Python process is guarded: connecting, sending datagrams, looking up names."""
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded(socket.socket.connect, _peer))
    patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex, _peer))
    patch.setattr(socket.socket, "sendto", guarded(socket.socket.sendto, _datagram))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        patch.setattr(socket, name, guarded(getattr(socket, name), lambda host, *_, **__: host))
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def schema_made_once() -> Iterator[None]:
    with made_once(), compiled_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_operator() -> Iterator[None]:
    """Settings in the environment of the one who runs the tests would change what they test."""
    patch = pytest.MonkeyPatch()
    for name in tuple(os.environ):
        if name == "ZEGEL_CONFIG" or (name.startswith("ZEGEL_") and "__" in name):
            patch.delenv(name)
    yield
    patch.undo()


# They hold microseconds against a bound, so they come last: the others have nearly ended then.
MEASURING = ("tests/relay/test_limits.py", "tests/relay/test_bulk_in_disguise.py")
# Begun first where tests run in several processes, or the last of them would run alone: they start servers and wait for them.
LONG = (
    "tests/faults",
    "tests/corpus",
    "tests/clients",
    "tests/monitoring",
    "tests/scenarios",
    "tests/stories",
    "tests/relay/serve",
    "tests/relay/cli",
)
# Share one gateway and what crossed it, built programs, or the syntax trees of all sources.
AS_ONE = ("tests/corpus", "tests/clients", "tests/bench", "tests/house")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first, after all that shuffles, and those that measure last."""

    def place(item: pytest.Item) -> int:
        if item.nodeid.startswith(MEASURING):
            return len(LONG) + 1
        folders = (index for index, folder in enumerate(LONG) if item.nodeid.startswith(folder + "/"))
        return next(folders, len(LONG))

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Of several processes one runs all tests of a file, with what they share. (Marks for groups need what pytest 9 has not.)"""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in AS_ONE if file.startswith(folder + "/")), file)

    return ByFile(config, log)


@pytest.fixture(scope="session")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for every test of this process; who must find it empty takes `empty_redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_ports(1)[0], "--save", "").start()
    yield server
    server.stop()


@pytest.fixture
def empty_redis(running_redis: RedisServer) -> RedisServer:
    running_redis.ask("FLUSHALL")
    return running_redis


LOG = structlog.get_config()


@pytest.fixture(autouse=True)
def log_as_it_was() -> None:
    """What ran before may have configured the log of this process; every test finds it as the program leaves it."""
    structlog.configure(**LOG)
    vars(log).pop("bind", None)  # what the lazy logger keeps of the configuration it met first
