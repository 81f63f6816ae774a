"""Compiles the load source and the sink into bench/out/ when they are older than their C files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REPOSITORY = BENCH.parent
OUT = BENCH / "out"
SOURCES = BENCH / "src"


class BuildFailed(Exception):
    """The compiler or OpenSSL's headers are missing, or the compiler refused; the text says which and what to do."""


def programs() -> tuple[Path, Path]:
    """Paths of the source and sink programs, compiled now if needed."""
    OUT.mkdir(parents=True, exist_ok=True)
    return _compile("source"), _compile("sink")


def _compile(name: str) -> Path:
    inputs = [SOURCES / f"{name}.c", SOURCES / "wire.c"]
    newest = max(path.stat().st_mtime for path in [*inputs, SOURCES / "wire.h"])
    target = OUT / name
    if target.exists() and target.stat().st_mtime > newest:
        return target
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BuildFailed("no C compiler found; install gcc and libssl-dev (apt-get install gcc libc6-dev libssl-dev)")
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), *map(str, inputs), "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{name}.c does not compile (is libssl-dev installed?):\n{done.stderr[-2000:]}")
    return target
