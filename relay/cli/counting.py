"""The counters as a command opens them: those of the running gateway, in its data folder or in Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from relay.cli.client import as_folder_owner, require_folder
from relay.counters.contract import CountersUnavailable
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import ManyNodes, open_shared
from relay.counters.one_node import OneNode
from relay.directory import Directory
from relay.keyring import Keyring
from relay.limitbook import LimitBook
from relay.observe.log import configure
from relay.policy.catalogue import Catalogue
from relay.reputation.book import Book
from relay.reputation.judge import Bounds
from relay.settings.model import Settings

T = TypeVar("T")


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[tuple[LimitBook, Directory, OneNode | ManyNodes]]:
    """The limits, who has them, and what counts them; a gateway may run beside it or not."""
    data = settings.server.data_dir
    require_folder(data)
    configure(settings, level="critical")  # what Redis does not answer is said in the answer
    with as_folder_owner(data):
        keyring = Keyring.open(settings.server.keys_dir, create=False)
        directory = Directory.load(settings.database_path, keyring)
        here = EmbeddedCounters(data)
        try:
            shared = open_shared(settings.storage, here)
            yield LimitBook(Catalogue.load(settings.policies), shared, book(settings, shared)), directory, shared
        finally:
            here.close()


def run(counters: OneNode | ManyNodes, work: Coroutine[Any, Any, T]) -> T:
    """What `work` over the counters answers."""
    return asyncio.run(_closing(counters, work))


async def _closing(counters: OneNode | ManyNodes, work: Coroutine[Any, Any, T]) -> T:
    """What `work` answers, with the standings of now; then the way to Redis is closed, in the loop that opened it."""
    try:
        with contextlib.suppress(CountersUnavailable):  # who needs them fails by itself
            await counters.windows.look()
        return await work
    finally:
        await counters.close()


def book(settings: Settings, counters: OneNode | ManyNodes) -> Book:
    """How senders stand."""
    return Book(counters.windows, Bounds(**settings.reputation.model_dump()))
