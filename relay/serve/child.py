"""The entry of every child process, which the zygote has forked."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import sys
from collections.abc import Callable

from relay.keyring import Keyring
from relay.observe import events
from relay.observe.log import configure, log
from relay.observe.scarcity import scarcity
from relay.serve.boot import Boot


def main(boot: Boot) -> None:
    """Run as what the supervisor says. Exit code 0 after a drain, 1 when it could not start."""
    os.umask(0o077)  # whatever is made here is for its owner only
    keyring = Keyring.open(boot.settings.server.keys_dir, create=False)
    configure(boot.settings, hash_address=lambda address: keyring.subject_hash("log\0" + address.lower()).hex()[:12])
    gc.set_threshold(50_000, 20, 50)  # a message makes hundreds of objects and no cycles
    sys.setswitchinterval(0.0005)  # the writer's thread must not wait 5 ms for the loop between two statements
    runner = asyncio.Runner(loop_factory=_loop_factory())
    with runner:
        runner.run(_serve(boot))


async def _serve(boot: Boot) -> None:
    asyncio.get_running_loop().set_exception_handler(scarcity.heard)
    try:
        if boot.place < 0:
            from relay.serve import web

            await web.main(boot)
        else:
            from relay.serve import worker

            await worker.main(boot)
    except (OSError, sqlite3.Error) as error:  # no bug of ours, so no traceback
        log.error(events.CHILD_FAILED, place=boot.place, why=f"{type(error).__name__}: {error}"[:200])
        raise SystemExit(1) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # stated as optional: the standard loop does the same, slower
        return None
    return uvloop.new_event_loop
