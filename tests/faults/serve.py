"""`python -m tests.faults.serve settings.json`: a supervisor with settings from a file, until SIGTERM."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from relay.serve.supervisor import Supervisor
from relay.settings.model import Settings


async def _main(path: Path) -> None:
    supervisor = Supervisor(Settings.model_validate_json(path.read_bytes()))
    await supervisor.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await supervisor.run()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
