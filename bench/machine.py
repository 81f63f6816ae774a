"""What the figures were measured on: hardware, versions, and what the disk and one core can do by themselves."""

from __future__ import annotations

import contextlib
import os
import platform
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PROBE_SECONDS = 0.7


def describe(scratch: Path) -> dict[str, str]:
    """Name -> value, in the order to print. Takes about two seconds, for the two limits it measures."""
    return {
        "processor": f"{os.cpu_count()} x {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{_os_name()}, Linux {platform.release()}",
        "file system": _file_system(scratch),
        "fsync of an appended 10 KB": f"{_per_second(_append(scratch)):,.0f} a second",
        "RSA-2048 signatures, one core": f"{_per_second(_signer()):,.0f} a second",
        "Python": platform.python_version(),
        "OpenSSL": ssl.OPENSSL_VERSION,
    }


def on_memory_disk(folder: Path) -> bool:
    """True when syncing to this folder costs nothing, so that durability would look free."""
    return _file_system(folder).split()[0] in {"tmpfs", "ramfs"}


def run_text(*command: str) -> str:
    """Standard output and error of a short command, stripped; "" when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _os_name() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.system()


def _file_system(folder: Path) -> str:
    best = ("?", "", "?")
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best[1]):
            best = (kind, mount, device)
    return f"{best[0]} on {best[2]}"


def _append(folder: Path) -> Callable[[], None]:
    path = folder / "fsync-probe"
    block = b"x" * 10_240
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    path.unlink()

    def step() -> None:
        os.write(file, block)
        os.fdatasync(file)

    return step


def _signer() -> Callable[[], None]:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)

    def step() -> None:
        key.sign(b"x" * 400, padding.PKCS1v15(), hashes.SHA256())

    return step


def _per_second(step: Callable[[], None]) -> float:
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < PROBE_SECONDS:
        step()
        count += 1
    return count / (time.perf_counter() - started)
