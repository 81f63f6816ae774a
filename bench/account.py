"""What a group of processes costs: CPU seconds and memory, and what the rest of the machine used meanwhile.

CPU comes from a cgroup v2 directory of our own where one can be made (children that have ended are then counted), else
from /proc: own time plus that of children already waited for, over the tree below the processes that were started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PSS_EVERY_SECONDS = 1.0


class Group:
    """Processes measured together. Start them with `start`; `stop` ends them, by id, and only them."""

    def __init__(self, name: str) -> None:
        self.cgroup = _make_cgroup(name)
        self.roots: list[subprocess.Popen[bytes]] = []
        self._adopted: list[int] = []
        self._highest = 0.0

    @property
    def method(self) -> str:
        """How CPU is measured, for the report."""
        return "cgroup v2" if self.cgroup else "/proc"

    def start(
        self,
        command: Sequence[str],
        *,
        log: IO[bytes],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one process inside the group; its output goes to `log`."""
        # The shell puts itself into the cgroup and then becomes the command: nothing of it runs outside.
        enter = (
            ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.cgroup / "cgroup.procs")] if self.cgroup else []
        )
        process = subprocess.Popen(
            [*enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=None if environment is None else {**os.environ, **environment},
            cwd=folder,
            process_group=0,
        )
        self.roots.append(process)
        return process

    def adopt(self, pid: int) -> None:
        """Count a daemon that left the process tree of what was started here. The cgroup has it anyway."""
        self._adopted.append(pid)

    def pids(self) -> list[int]:
        """Living processes of the group."""
        if self.cgroup:
            return [int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()]
        return list(_tree([*(root.pid for root in self.roots if root.poll() is None), *filter(_lives, self._adopted)]))

    def cpu_seconds(self) -> float:
        """CPU used since the group was made. Never falls."""
        if self.cgroup:
            fields = dict(line.split() for line in (self.cgroup / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        # A child that has ended is in its parent's waited-for time from then on, so the living ones hold everything.
        living = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, IndexError):
                living += sum(map(int, _stat(pid)[11:15]))
        self._highest = max(self._highest, living / TICKS_PER_SECOND)
        return self._highest

    def pss_bytes(self) -> int:
        """Memory now: proportional set size, so that pages shared by forked children count once."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
                        break
        return total

    def stop(self, *, patience_seconds: float = 20.0) -> None:
        """Ask every process started here to end, then insist; removes the cgroup."""
        # Taken down before anything ends: without a cgroup, a child whose parent has gone can no longer be found.
        members = {pid: _started(pid) for pid in self.pids()}
        for root in self.roots:
            if root.poll() is None:
                root.terminate()
        deadline = time.monotonic() + patience_seconds
        for root in self.roots:
            with contextlib.suppress(subprocess.TimeoutExpired):
                root.wait(max(0.1, deadline - time.monotonic()))
        self._end_rest(members)
        self.roots.clear()
        if self.cgroup:
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()

    def _end_rest(self, members: Mapping[int, str]) -> None:
        for attempt in range(50):
            rest = {*self.pids(), *(pid for pid, started in members.items() if started and _started(pid) == started)}
            if not rest:
                return
            for pid in rest:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if attempt < 20 else signal.SIGKILL)
            for root in self.roots:
                root.poll()
            time.sleep(0.1)


def _make_cgroup(name: str) -> Path | None:
    for base in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if not (base / "cgroup.procs").exists() or not (base / "cgroup.controllers").exists():
            continue
        path = base / f"zegel-bench-{os.getpid()}-{name}"
        try:
            path.mkdir(exist_ok=True)
            return path if "usage_usec" in (path / "cpu.stat").read_text() else None
        except OSError:
            continue
    return None


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the third on (proc(5)): [1] parent, [11:15] own and waited-for CPU ticks."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _started(pid: int) -> str:
    """When a living process started, in clock ticks; tells it from a later one with its number. "" when it has ended."""
    with contextlib.suppress(OSError, IndexError):
        fields = _stat(pid)
        return "" if fields[0] == "Z" else fields[19]
    return ""


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _tree(roots: Sequence[int]) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting.extend(children.get(pid, ()))


def machine_cpu_seconds() -> float:
    """CPU used by everything on this machine since it started (user, nice, system, irq, softirq)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(fields[i]) for i in (0, 1, 2, 5, 6)) / TICKS_PER_SECOND


def describe_method() -> str:
    """How a group's CPU is measured on this machine, for the report."""
    probe = Group("probe")
    method = f"user and system time of all the relay's processes, by {probe.method}"
    probe.stop()
    return method


def wait_until_quiet(limit_seconds: float, *, cores: float = 0.2) -> bool:
    """Wait until the machine uses less than `cores`, at most `limit_seconds`; false: it stayed busy."""
    deadline = time.monotonic() + limit_seconds
    while True:
        before, at = machine_cpu_seconds(), time.monotonic()
        time.sleep(0.5)
        if machine_cpu_seconds() - before < cores * (time.monotonic() - at):
            return True
        if time.monotonic() > deadline:
            return False


class Watch(threading.Thread):
    """Samples the memory of a group until `finish`; keeps the highest value."""

    def __init__(self, measure: Callable[[], int], *, every_seconds: float = PSS_EVERY_SECONDS) -> None:
        super().__init__(daemon=True)
        self._every = every_seconds
        self._measure = measure
        self._over = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._measure())
            if self._over.wait(self._every):
                return

    def finish(self) -> int:
        """Stop and return the peak in bytes."""
        self._over.set()
        self.join()
        return self.peak_bytes
