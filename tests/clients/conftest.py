"""One gateway with a sink behind it for all client tests, and each program's mail sent once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import certificate
from tests.clients.certificate import Certificates
from tests.clients.gateway import DOMAIN, Gateway
from tests.clients.installed import HERE
from tests.clients.programs import SENDERS, Task
from tests.clients.sink import Received, Sink


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    with Sink() as made:
        yield made


@pytest.fixture(scope="session")
def gateway(certificates: Certificates, sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with Gateway(folder, certificates, sink.port, workers=2) as made:
        yield made


class Crossings:
    """Each program's mail, sent when it is first asked for."""

    def __init__(self, gateway: Gateway, sink: Sink, folder: Path, cache: Path) -> None:
        self.gateway = gateway
        self._sink = sink
        self._folder = folder
        self._cache = cache
        self._received: dict[tuple[str, bool], Received] = {}

    def get(self, program: str, *, implicit: bool) -> Received:
        """What the sink got of the mail that `program` sent."""
        key = (program, implicit)
        if key not in self._received:
            name = f"{program}-{'implicit' if implicit else 'starttls'}"
            folder = self._folder / name
            folder.mkdir(exist_ok=True)
            recipient = f"{name}@receiver.example"
            login = self.gateway.logins["personal"]
            SENDERS[program](Task(self.gateway, login, implicit, f"jan@{DOMAIN}", recipient, folder, self._cache))
            self._received[key] = self._sink.for_recipient(recipient)
        return self._received[key]


@pytest.fixture(scope="session")
def crossings(
    gateway: Gateway, sink: Sink, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Crossings:
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    assert request.config.cache is not None
    cache = request.config.cache.mkdir(f"npm-{lock}")
    return Crossings(gateway, sink, tmp_path_factory.mktemp("clients"), cache)
