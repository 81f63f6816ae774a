"""`python -m tests.harness.serve settings.json`: a supervisor with settings from a file, until SIGTERM.

Says `ready` when it serves.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from relay.serve.supervisor import Supervisor
from relay.serve.zygote import Zygote
from relay.settings.model import Settings


def run(settings: Settings) -> None:
    """As `zegel serve` does."""
    zygote = Zygote()
    zygote.fork()
    asyncio.run(serve(settings, zygote))


async def serve(settings: Settings, zygote: Zygote) -> None:
    supervisor = Supervisor(settings, zygote)
    await supervisor.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await supervisor.run()


if __name__ == "__main__":
    run(Settings.model_validate_json(Path(sys.argv[1]).read_bytes()))
