"""Where workers and the web process come from: a process with everything loaded that forks them on request.

Theory of operation. Loading the program takes a second of processor time; a fork takes milliseconds, and what was
loaded is in memory once. The supervisor has threads and a loop, and must not fork itself: so before it has either it
forks the zygote, which has neither and never will. On request (one datagram with the descriptors that the child needs)
the zygote forks twice and the one in between ends, so that the child belongs to the supervisor, the nearest "subreaper":
it lives on when the zygote dies, and its end is known to the supervisor, by its pidfd. A child begins when the supervisor has it
in hand and says so through a pipe of its own; where that pipe is closed unused, because nobody waits any more, it ends. A
zygote that has died or hangs is replaced by a new program, `python -m relay.serve.zygote`.
It ends with the supervisor, by the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from relay.observe import events
from relay.observe.log import log
from relay.serve.boot import Boot, read_boot
from relay.serve.descriptors import raise_limit

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36  # linux/prctl.h
NAME = "zegel-zygote"
ANSWER_SECONDS = 30.0
STOP_SECONDS = 5.0
MOST_DESCRIPTORS = 253  # SCM_MAX_FD of Linux, of any one message
BEGIN = b"\n"
OF_ALL = (signal.SIGTERM, signal.SIGINT)  # a terminal and systemd send these to every process
UNKNOWN = 255  # the exit code of a process whose end somebody else has taken


class Process:
    """A child: like `asyncio.subprocess.Process`, without pipes. Make it in a running loop, of a process that is no other's."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._descriptor, self._collect)

    def _collect(self) -> None:
        """It has ended: take its exit code, below 0 where a signal ended it."""
        self._loop.remove_reader(self._descriptor)
        self.returncode = UNKNOWN
        with contextlib.suppress(ChildProcessError):
            found = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED)
            if found is not None:
                self.returncode = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        os.close(self._descriptor)
        if not self._ended.done():
            self._ended.set_result(self.returncode)

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to drain. Raises ProcessLookupError where it has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it. Raises ProcessLookupError where it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        signal.pidfd_send_signal(self._descriptor, number)


class Zygote:
    """The supervisor's end. `fork` it before there are threads and a loop; without that the first `spawn` starts a program."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._handle = -1  # its pidfd: by then its number may be another process's
        self._one_at_a_time = asyncio.Lock()
        self._ours: dict[int, Process] = {}
        self._is_over = False

    def fork(self) -> None:
        """Raises OSError. Returns in the supervisor only."""
        # Who started us may ignore it: then no end of a process can be waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed for us
            stream.flush()  # or what is in them would be said by every child again
        pid = os.fork()
        if pid == 0:
            ours.close()
            end(partial(_serve, theirs))
        theirs.close()
        self._handle = os.pidfd_open(pid)
        self._socket = ours

    def _start(self) -> socket.socket:
        """As a program of its own. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.set_inheritable(True)
            command = [sys.executable, "-m", "relay.serve.zygote", str(theirs.fileno())]
            self._handle = os.pidfd_open(os.posix_spawn(sys.executable, command, os.environ))
        log.info(events.ZYGOTE_STARTED)
        return ours

    async def spawn(self, boot: Boot) -> Process:
        """A new child with the sockets of `boot`. Raises OSError where no process can be had."""
        become_subreaper()
        async with self._one_at_a_time:
            try:
                process = await self._child(boot)
            except OSError:
                if self._socket is not None:  # the zygote is well: there is no process, or no descriptor, to be had
                    raise
                process = await self._child(boot)
        self._ours = {one.pid: one for one in (*self._ours.values(), process) if one.returncode is None}
        return process

    async def _child(self, boot: Boot) -> Process:
        """One try. A zygote that fails is given up, or its late answer would be taken for the next request's."""
        waits, begin = os.pipe()
        try:
            try:
                pid = await self._ask(boot, waits)
            except OSError:  # it has ended, or hangs
                self._give_up()
                raise
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            process = Process(pid)
            os.write(begin, BEGIN)
        finally:  # who was forked and is in nobody's hand ends by this
            os.close(waits)
            os.close(begin)
        return process

    async def stop(self) -> None:
        """No child comes after this; who was on the way is there."""
        self._is_over = True
        try:
            async with asyncio.timeout(STOP_SECONDS), self._one_at_a_time:
                pass
        except TimeoutError:
            self._end()

    async def _ask(self, boot: Boot, waits: int) -> int:
        if self._is_over:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        if self._socket is None:
            self._socket = self._start()
        self._socket.setblocking(False)
        _ask(self._socket, boot, waits)
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await asyncio.get_running_loop().sock_recv(self._socket, 16)
        if not answer:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return int(answer)

    def reap_orphans(self) -> None:
        """What dead children leave behind comes to the supervisor and would stay in the process table for ever."""
        if self._one_at_a_time.locked():
            return  # a child may have come, and ended, that is not known yet
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                known = self._ours.get(found.si_pid)
                if known is not None and known.returncode is None:
                    return  # its pidfd tells of it in a moment
                os.waitpid(found.si_pid, 0)

    def _give_up(self) -> None:
        """One that hangs must not fork late, when another has."""
        self._end()
        self.close()

    def _end(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """The zygote ends; its children do not."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            os.close(self._handle)


def become_subreaper() -> None:
    """Children whose parent ends become this process's own (prctl(2)); else they go to process 1, which waits for them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _call_it(name: str) -> None:
    """What `ps -o comm`, `top` and `pgrep` call this process: 15 octets at most."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def _ask(zygote: socket.socket, boot: Boot, waits: int) -> None:
    """Send the request. What the child is told goes as a file of any size that is on no disk."""
    told = os.memfd_create("zegel-boot", os.MFD_CLOEXEC)
    try:
        with open(told, "wb", closefd=False) as file:
            file.write(boot.dump())
        os.lseek(told, 0, os.SEEK_SET)
        socket.send_fds(zygote, [b"child"], [told, waits, *(fd for _, fd in boot.sockets)])
    finally:
        os.close(told)


def _serve(asked: socket.socket) -> None:
    """The zygote's whole life."""
    _call_it(NAME)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # also where it is stopped, with requests unread
    for number in (*OF_ALL, signal.SIGHUP):  # this one ends with the supervisor
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    raise_limit()
    load()
    gc.collect()
    gc.freeze()  # what is loaded stays where it is, in pages that all share
    with contextlib.suppress(ConnectionError):  # the supervisor was killed while it waited for an answer
        while True:
            data, descriptors, _, _ = socket.recv_fds(asked, 16, MOST_DESCRIPTORS)
            if not data:
                return
            asked.send(str(_number_of_new(asked, descriptors)).encode())
            for descriptor in descriptors:
                os.close(descriptor)


def load() -> None:
    """All that a child needs, web framework and policies included, and what is read once: the list of suffixes, the rules."""
    from relay.mail.domain import org_domain
    from relay.policy.catalogue import Catalogue
    from relay.portal.explained import rules
    from relay.serve import child, web, worker

    assert child and web and worker
    with contextlib.suppress(Exception):  # of a policy that may not even be in use; whoever uses it tells
        Catalogue.load({})
    org_domain("example.org")
    rules()


def _number_of_new(asked: socket.socket, descriptors: list[int]) -> int:
    """Fork a child that is the supervisor's; below 0 it is what the system says against it (errno)."""
    known, tell = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            os.close(known)
            _between(asked, descriptors, tell)
        os.waitpid(between, 0)  # from here on the child is the supervisor's
        return int(os.read(known, 16) or -errno.EAGAIN)
    except OSError as error:
        return -(error.errno or errno.EAGAIN)
    finally:
        os.close(known)
        os.close(tell)


def _between(asked: socket.socket, descriptors: list[int], tell: int) -> NoReturn:
    """In the first fork: fork the child, tell its number, end."""
    try:
        child = os.fork()
    except OSError as error:
        child = -(error.errno or errno.EAGAIN)
    if child == 0:
        os.close(tell)
        asked.close()
        end(partial(_live, descriptors))
    os.write(tell, str(child).encode())
    os._exit(0)


def _live(descriptors: list[int]) -> None:
    """The child's whole life, as `relay.serve.child` says."""
    from relay.serve import child

    for number in OF_ALL:  # SIGHUP stays ignored: the supervisor says what is to be read again
        signal.signal(number, signal.SIG_DFL)
    told, waits, *sockets = descriptors
    if os.read(waits, 1) != BEGIN:
        return
    os.close(waits)
    boot = read_boot(told, sockets)
    _call_it("zegel-web" if boot.place < 0 else f"zegel-worker-{boot.place}")
    child.main(boot)


def end(life: Callable[[], None]) -> NoReturn:
    """Live it and leave without a way back into the program that forked: no handler, no `finally` of its runs twice."""
    code = 1
    try:
        life()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    end(partial(_serve, socket.socket(fileno=int(sys.argv[1]))))
