"""Workers and the supervisor load what they need: each of them starts again and again, and there are many."""

from __future__ import annotations

import subprocess
import sys

import pytest

ONLY_IN_THE_WEB_PROCESS = {"fastapi", "starlette", "uvicorn", "jinja2"}
ONLY_WHERE_SETTINGS_ASK = {"redis", "psycopg", "asyncpg"}
ONLY_AT_THE_COMMAND_LINE = {"typer", "textual"}


@pytest.mark.parametrize("module", ["relay.serve.worker", "relay.serve.supervisor"])
def test_a_process_loads_nothing_of_another(module: str) -> None:
    """A web framework costs a fifth of a worker's start, and 9 MB in each."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*{{one.partition('.')[0] for one in sys.modules}})"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.split()
    assert module.partition(".")[0] in loaded
    assert not (ONLY_IN_THE_WEB_PROCESS | ONLY_WHERE_SETTINGS_ASK | ONLY_AT_THE_COMMAND_LINE).intersection(loaded)
