"""`python -m tests.harness.serve settings.json`: a supervisor with settings from a file, until SIGTERM.

Says `ready` when it serves.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from relay.serve.supervisor import Supervisor
from relay.settings.model import Settings


async def serve(settings: Settings) -> None:
    supervisor = Supervisor(settings)
    await supervisor.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await supervisor.run()


if __name__ == "__main__":
    asyncio.run(serve(Settings.model_validate_json(Path(sys.argv[1]).read_bytes())))
