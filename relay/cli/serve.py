"""`zegel serve`: the gateway itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import say

if TYPE_CHECKING:
    from relay.serve.supervisor import Supervisor
    from relay.settings.model import Settings

ANYWHERE = ("0.0.0.0", "::")


def add_to(app: typer.Typer) -> None:
    command(app, "serve", example="zegel serve -c /etc/zegel/zegel.toml", prints=False)(serve)


def serve(frame: Frame) -> None:
    """Run the gateway. SIGTERM drains and ends it, SIGHUP takes in new certificates."""
    settings = frame.settings()
    check(settings)
    run(settings, greet=_greet)


def check(settings: Settings) -> None:
    """What would only fail in a child process. Raises CatalogueError, PeerError, KeyringError, Trouble, each with a remedy."""
    from relay.cli.client import keyring_for, require_folder
    from relay.delivery import route
    from relay.policy.catalogue import Catalogue

    require_folder(settings.server.data_dir)
    Catalogue.load(settings.policies)
    if settings.delivery.mode == "smarthost":
        route.peers(settings.delivery)
    keyring_for(settings)


def run(
    settings: Settings, *, greet: Callable[[Settings], None], meanwhile: Callable[[], object] | None = None
) -> None:
    """Run one gateway until it is told to stop. `greet` is called when it is ready, then `meanwhile` in a thread;
    when that one returns something, the gateway stops.
    """
    from relay.observe.log import configure
    from relay.serve.supervisor import Supervisor

    configure(settings)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(Supervisor(settings), greet, meanwhile))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it installs; None is the standard loop, which does the same, slower."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return]  # uvloop is not typed


async def _run(
    supervisor: Supervisor, greet: Callable[[Settings], None], meanwhile: Callable[[], object] | None
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stopping.set)
    starting = loop.create_task(supervisor.start())
    stopping = loop.create_task(supervisor.stopping.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await supervisor.stop()
        return
    starting.result()  # what went wrong, if anything did
    greet(supervisor.settings)
    work = None if meanwhile is None else loop.create_task(_work(supervisor, meanwhile))
    await supervisor.run()
    if work is not None:
        await work


async def _work(supervisor: Supervisor, meanwhile: Callable[[], object]) -> None:
    try:
        if await asyncio.to_thread(meanwhile):
            supervisor.stopping.set()
    except BaseException:
        supervisor.stopping.set()
        raise


def _greet(settings: Settings) -> None:
    for line in places(settings):
        say(line)
    if settings.delivery.mode == "capture":
        say(f"Nothing leaves this machine (delivery.mode = capture): see {settings.web.public_url}/outbox")
    say(f"Ready, process {os.getpid()}. Stop it with Ctrl-C or SIGTERM.")


def places(settings: Settings) -> list[str]:
    """Where it listens, one line each."""
    words = {"required": "STARTTLS", "opportunistic": "STARTTLS if the client wants", "off": "no TLS"}
    lines = []
    for listener in settings.listener:
        tls = "TLS from the first byte" if listener.kind == "submissions" else words[listener.tls]
        lines.append(f"SMTP {listener.kind:<11} {listener.endpoint} ({tls})")
    return [*lines, f"Web              {settings.web.endpoint}, for people {settings.web.public_url}"]
