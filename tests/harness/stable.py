"""Gateways of tests, forked from a process that has the program loaded: a new one costs a tenth of a second, and not a second.

`Stable.start` gives what `subprocess.Popen` gives. From there on the gateway is what it is anywhere: a supervisor with a
zygote, workers and a web process. That the commands start one by themselves is what tests of the command line show.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
SITE = ROOT / "tests" / "harness" / "site"
MOST = 1 << 20


class Forked:
    """A gateway's supervisor, a child of the stable's process; used as a `subprocess.Popen` is."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], ended: int) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            with selectors.DefaultSelector() as waiting:
                waiting.register(self._ended, selectors.EVENT_READ)
                if not waiting.select(timeout):
                    raise subprocess.TimeoutExpired("gateway", timeout or 0.0)
            self.returncode = int(os.read(self._ended, 16) or -signal.SIGKILL)
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Stable:
    """Made at the first `start`; ends with this process."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, stderr: int) -> Forked:
        """A gateway that waits on its standard input for its settings (a line of JSON) and says `ready` when it serves.

        It has the environment that this process has now.
        """
        if self._socket is None:
            self._socket = self._program()
        read, write, ended = os.pipe(), os.pipe(), os.pipe()
        socket.send_fds(self._socket, [json.dumps(dict(os.environ)).encode()], [read[0], write[1], stderr, ended[1]])
        for descriptor in (read[0], write[1], ended[1]):
            os.close(descriptor)
        pid = int(self._socket.recv(16))
        return Forked(pid, os.fdopen(read[1], "wb"), os.fdopen(write[0], "rb"), ended[0])

    def _program(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.harness.stable", str(number)],
                pass_fds=[number],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}:{SITE}"},
            )
        return ours


STABLE = Stable()


def _serve(asked: socket.socket) -> None:
    """Fork on request, tell how each ended."""
    running: dict[int, tuple[int, int]] = {}  # pidfd: (process, where its exit code goes)
    with selectors.DefaultSelector() as waiting:
        waiting.register(asked, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is asked:
                    data, descriptors, _, _ = socket.recv_fds(asked, MOST, 4)
                    if not data:
                        return
                    *standard, ended = descriptors
                    pid = os.fork()
                    if pid == 0:
                        _become(standard, json.loads(data))
                    for descriptor in standard:
                        os.close(descriptor)
                    handle = os.pidfd_open(pid)
                    running[handle] = (pid, ended)
                    waiting.register(handle, selectors.EVENT_READ)
                    asked.send(str(pid).encode())
                else:
                    waiting.unregister(key.fileobj)
                    _told(running.pop(key.fd), key.fd)


def _told(process: tuple[int, int], handle: int) -> None:
    pid, ended = process
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(ended, str(code).encode())
    os.close(ended)
    os.close(handle)


def _become(standard: list[int], environment: dict[str, str]) -> Any:
    """The gateway. Nothing else of this process is open in it."""
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    os.closerange(len(standard), MOST)
    os.environ.clear()
    os.environ.update(environment)
    from relay.serve.zygote import end
    from tests.harness.run import main

    end(main)


if __name__ == "__main__":
    from relay.portal.pages import _templates
    from relay.portal.templates import PROOF, REGISTER
    from relay.serve.zygote import load
    from relay.store import migrate
    from tests.harness import run

    assert run
    migrate.load()
    load()
    for name in {*_templates().list_templates()} - {
        PROOF,
        REGISTER,
    }:  # these two are documents with filters of their own
        _templates().get_template(name)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
