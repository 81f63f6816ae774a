"""`zegel serve` as an operator starts it: a process with a config file."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Served:
    """`zegel serve` as a process."""

    def __init__(self, config: Path, *, log: Path | None = None) -> None:
        """`log`: a file for its standard error, which is kept for `end` otherwise."""
        command = [sys.executable, "-m", "relay", "serve", "-c", str(config)]
        with contextlib.nullcontext(subprocess.PIPE) if log is None else log.open("w") as error:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=error, text=True)

    def ready(self) -> str:
        """What it prints until it is ready; "" when it ends before that."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        said = ""
        for line in self.process.stdout:
            said += line
            if line.startswith("Ready"):
                break
        watchdog.cancel()
        return said

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, error = self.process.communicate(timeout=60)
        return self.process.returncode, error
