"""Gets the peers' software from Debian and npm without disturbing what the machine already runs.

Nothing is ever removed: an installation that would remove a package is refused, and its name goes into the report. A
daemon that comes with a package is kept from starting itself by a policy-rc.d that stands there for that moment only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.build import BENCH, OUT

GUARD = Path("/usr/sbin/policy-rc.d")
GUARD_TEXT = (
    "#!/bin/sh\n# Here only while Zegel's benchmark installs a package: daemons do not start themselves.\nexit 101\n"
)
FORBIDDEN = 101  # policy-rc.d: the action is not allowed


class Unavailable(Exception):
    """The software cannot be had here; the text says why and what would help."""


def require_debian(*names: str) -> None:
    """Install the packages unless they are there. Raises Unavailable."""
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{', '.join(missing)} not installed, and this is no Debian system")
    if os.geteuid() != 0:
        raise Unavailable(f"not installed; as root: apt-get install --no-install-recommends {' '.join(missing)}")
    lost = _would_remove(missing)
    if lost:
        raise Unavailable(f"installing {', '.join(missing)} would remove {', '.join(lost)}, which was here before")
    with _no_daemon_starts():
        if _apt("install", missing).returncode and (
            _apt("update", ()).returncode or _apt("install", missing).returncode
        ):
            raise Unavailable(f"apt-get cannot install {', '.join(missing)}; see {OUT / 'apt.log'}")


def debian_version(name: str) -> str:
    """Installed version of a package, or ""."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def require_haraka() -> Path:
    """The folder whose node_modules holds Haraka, installed from npm on first use. Raises Unavailable."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        require_debian("nodejs", "npm")
    wanted, folder = BENCH / "haraka" / "package.json", OUT / "haraka"
    installed = folder / "package.json"
    if (
        (folder / "node_modules" / "haraka").is_dir()
        and installed.exists()
        and installed.read_bytes() == wanted.read_bytes()
    ):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    # No install scripts: Haraka's native extras are optional, and nothing unseen should run here.
    command = ["npm", "install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
    shutil.copy(wanted, installed)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        installed.unlink()
        raise Unavailable(f"npm cannot install Haraka: {done.stderr[-300:]}")
    return folder


def _is_installed(name: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", name], capture_output=True, text=True, check=False
    )
    return done.stdout == "installed"


def _apt(action: str, names: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """One apt-get run, never removing anything, its output in bench/out/apt.log."""
    OUT.mkdir(parents=True, exist_ok=True)
    options = ["-y", "-q", "--no-install-recommends", "--no-remove"] if action == "install" else ["-q"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with (OUT / "apt.log").open("ab") as log:
        return subprocess.run(
            ["apt-get", action, *options, *names], stdout=log, stderr=log, env=environment, check=False
        )


def _would_remove(names: Sequence[str]) -> list[str]:
    command = ["apt-get", "install", "-s", "--no-install-recommends", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Remv ")]


@contextlib.contextmanager
def _no_daemon_starts() -> Iterator[None]:
    """Let maintainer scripts start nothing; puts back what was there."""
    probe = [str(GUARD), "postfix", "start"]
    if GUARD.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == FORBIDDEN:
        yield
        return
    aside = GUARD.with_name("policy-rc.d.zegel-bench")
    if GUARD.exists():
        GUARD.rename(aside)
    GUARD.write_text(GUARD_TEXT)
    GUARD.chmod(0o755)
    try:
        yield
    finally:
        GUARD.unlink()
        if aside.exists():
            aside.rename(GUARD)
