"""One gateway in the foreground: started, told of, and ended by a signal or by its work."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from relay.observe.log import configure
from relay.serve.supervisor import Supervisor
from relay.serve.zygote import Zygote
from relay.settings.model import Settings


def run(
    settings: Settings,
    *,
    greet: Callable[[Settings], None],
    meanwhile: Callable[[], object] | None = None,
    read: Callable[[], Settings] | None = None,
) -> None:
    """Run one gateway until it is told to stop. `greet` is called when it is ready, then `meanwhile` in a thread;
    when that one returns something, the gateway stops. `read`: as the Supervisor's.
    """
    configure(settings)
    os.umask(0o077)  # whatever is made here is for its owner only
    zygote = Zygote()
    zygote.fork()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serving(Supervisor(settings, zygote, read), greet, meanwhile))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it installs; None is the standard loop, which does the same, slower."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def serving(
    supervisor: Supervisor, greet: Callable[[Settings], None], meanwhile: Callable[[], object] | None = None
) -> None:
    """From the start to the end; signals are heard all the while."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
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
