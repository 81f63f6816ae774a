"""`python -m tests.harness.run`: a supervisor with the settings that come as JSON on standard input.

Says `ready` when it serves.
"""

from __future__ import annotations

import asyncio
import sys

from relay.observe.log import configure
from relay.serve.supervisor import Supervisor
from relay.settings.model import Settings


async def _run(settings: Settings) -> None:
    supervisor = Supervisor(settings)
    await supervisor.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await supervisor.run()


if __name__ == "__main__":
    given = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure(given)
    asyncio.run(_run(given))
