"""Programs that Debian or npm must bring: where they are, or a skip that says how to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def need(program: str, package: str) -> str:
    """Path of `program`, or the test is skipped by name."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed; apt-get install {package}")
    return found


def need_file(path: str, package: str) -> str:
    """`path` itself, or the test is skipped by name."""
    if not Path(path).exists():
        pytest.skip(f"{path} is not there; apt-get install {package}")
    return path


def need_perl(module: str, package: str) -> str:
    """Path of perl with `module`, or the test is skipped by name."""
    perl = need("perl", "perl")
    if subprocess.run([perl, f"-M{module}", "-e1"], capture_output=True, check=False).returncode:
        pytest.skip(f"Perl has no {module}; apt-get install {package}")
    return perl


def npm_modules(folder: Path, source: Path = HERE) -> Path:
    """`node_modules` of the lock file in `source`, installed in `folder` unless it is there; a skip where npm cannot."""
    npm = need("npm", "npm")
    modules = folder / "node_modules"
    if not (folder / "complete").exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            pytest.skip(f"npm ci of {source.name} does not work here: {done.stderr[-300:]}")
        (folder / "complete").touch()
    return modules


def run(command: list[str], *, text: bytes = b"", folder: Path, more: Mapping[str, str] | None = None) -> bytes:
    """Standard output of a client that must succeed; its HOME is `folder`, so that no one's settings play a part."""
    environment = {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        **(more or {}),
    }
    done = subprocess.run(
        command, input=text, cwd=folder, env=environment, capture_output=True, check=False, timeout=60
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {said[-2000:]}"
    return done.stdout
