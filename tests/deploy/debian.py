"""A bare Debian in a folder, made from the package sources of this machine; or copied from ZEGEL_TEST_DEBIAN_ROOT."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = sysconfig.get_path("purelib")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def need(*programs: str) -> None:
    """Skip, with the names of what is missing; these tests change roots, so they want the superuser as well."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs root")


def make_root(folder: Path, *packages: str) -> Path:
    """A Debian with `packages` in `folder`."""
    given = os.environ.get("ZEGEL_TEST_DEBIAN_ROOT")
    if given:
        subprocess.run(["cp", "-a", "--reflink=auto", given, str(folder)], check=True)
        return folder
    need("mmdebstrap")
    include = [f"--include={','.join(packages)}"] if packages else []
    sources = [
        str(path) for path in map(Path, ("/etc/apt/sources.list",)) if path.exists() and path.read_text().strip()
    ]
    sources += [str(path) for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]
    line = ["mmdebstrap", "--variant=minbase", *include, "bookworm", str(folder), *sources]
    made = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    if made.returncode:
        pytest.skip(f"no Debian could be made here: {made.stderr[-300:]}")
    return folder


def need_same_python(root: Path) -> None:
    """The libraries of this test run are used in there, and some of them are compiled."""
    if not (root / "usr/bin" / PYTHON).exists():
        pytest.skip(f"the Debian in there has no {PYTHON}")
