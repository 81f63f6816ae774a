"""Children are forked from a zygote; they and the gateway live on when it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.serve.zygote import load
from tests.harness.gateway import MESSAGE, SENDER, Gateway
from tests.harness.processes import children, every_child, zygotes
from tests.harness.stable import ROOT


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def supervisor(gateway: Gateway) -> int:
    assert gateway.process is not None
    return gateway.process.pid


def end(gateway: Gateway, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    gateway.until(lambda: pid not in every_child(supervisor(gateway)), 10.0, "it stays in the process table")


def send(gateway: Gateway) -> str:
    with gateway.connect() as client:
        client.login(*gateway.logins["personal"])
        client.envelope(SENDER, "bob@dest.example")
        client.send(MESSAGE + b".\r\n")
        return client.reply()


def test_every_process_says_by_its_name_what_it_is(gateway: Gateway) -> None:
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in children(supervisor(gateway))}
    assert names == {"zegel-worker-0", "zegel-worker-1", "zegel-web"}
    assert len(zygotes(supervisor(gateway))) == 1


def test_without_the_zygote_all_goes_on_and_who_dies_comes_back(gateway: Gateway) -> None:
    before = set(children(supervisor(gateway)))
    (zygote,) = zygotes(supervisor(gateway))
    end(gateway, zygote)
    assert set(children(supervisor(gateway))) == before
    assert send(gateway).startswith("250")
    for dead in before:  # by a new zygote, which is a program of its own
        end(gateway, dead)
    gateway.until(lambda: len(children(supervisor(gateway))) == 3, 20.0, "not all came back")
    gateway.until(lambda: gateway.attempt("ready") == [], 20.0, "not ready")
    assert not before.intersection(children(supervisor(gateway)))
    assert zygotes(supervisor(gateway)) not in ([], [zygote])
    assert send(gateway).startswith("250")
    gateway.until(lambda: "zygote.started" in log(gateway), 5.0, "nothing says so")


def test_how_a_process_ended_is_told(gateway: Gateway) -> None:
    end(gateway, children(supervisor(gateway))[0])
    gateway.until(lambda: "child.ended" in log(gateway), 10.0, "no word of it")
    (told,) = [line for line in log(gateway).splitlines() if "child.ended" in line]
    assert json.loads(told)["code"] == -signal.SIGKILL


def test_nothing_is_left_when_the_supervisor_is_killed(gateway: Gateway) -> None:
    pid = supervisor(gateway)
    (zygote,) = zygotes(pid)
    family = [zygote, *children(pid)]
    os.kill(pid, signal.SIGKILL)
    gateway.wait()
    gateway.until(lambda: not any(map(runs, family)), 20.0, "processes are left")


def test_a_stopped_zygote_keeps_nothing_when_the_supervisor_is_killed(gateway: Gateway) -> None:
    """A request that it has not read would keep the ports of a gateway that is gone."""
    pid = supervisor(gateway)
    (zygote,) = zygotes(pid)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    gateway.wait()
    gateway.until(lambda: not runs(zygote), 10.0, "it is left")


def test_a_terminal_that_closes_ends_nobody(gateway: Gateway) -> None:
    before = children(supervisor(gateway))
    for pid in before:
        os.kill(pid, signal.SIGHUP)
    for _ in before:
        assert send(gateway).startswith("250")
    assert gateway.attempt("ready") == []
    assert children(supervisor(gateway)) == before
    assert "child.ended" not in log(gateway)


def test_a_number_that_was_the_zygotes_is_nobody_to_end(gateway: Gateway) -> None:
    (zygote,) = zygotes(supervisor(gateway))
    end(gateway, zygote)
    with process_numbered(zygote) as other:
        end(gateway, children(supervisor(gateway))[0])
        gateway.until(lambda: len(children(supervisor(gateway))) == 3, 20.0, "not all came back")
        assert other.poll() is None, "the process that had its number was ended"


@contextmanager
def process_numbered(number: int) -> Iterator[subprocess.Popen[bytes]]:
    """Another process with that number, where the kernel lets us choose it."""
    for _ in range(200):  # others start processes too
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
        except OSError:
            pytest.skip("who may not choose process numbers would have to start all of them")
        with subprocess.Popen(["sleep", "600"]) as made:
            try:
                if made.pid == number:
                    yield made
                    return
            finally:
                made.kill()
    pytest.skip("the number did not become free")


def program(gateway: Gateway, text: str) -> subprocess.Popen[str]:
    """A program that gets the gateway's settings on its standard input."""
    made = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert made.stdin is not None
    made.stdin.write(gateway.settings.model_dump_json() + "\n")
    made.stdin.flush()
    return made


UNHEARD = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from tests.harness.run import main
main()
"""


def test_who_started_us_may_ignore_how_his_children_end(tmp_path: Path) -> None:
    with program(Gateway(tmp_path), UNHEARD) as started:
        assert started.stdout is not None and started.stderr is not None
        try:
            assert started.stdout.readline() == "ready\n"
            assert len(children(started.pid)) == 3
        finally:
            started.terminate()
        assert "child.failed" not in started.stderr.read()


SPAWNING = """
import asyncio, contextlib, errno, os, sys
from relay.serve.boot import Boot
from relay.serve.zygote import Zygote
from relay.settings.model import Settings

boot = Boot(Settings.model_validate_json(sys.stdin.readline()), 0, [])
zygote = Zygote()
zygote.fork()
"""
UNHELD = f"""{SPAWNING}
asked = []

def refuse(pid):
    asked.append(pid)
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

async def main():
    os.pidfd_open = refuse
    with contextlib.suppress(OSError):
        await zygote.spawn(boot)

asyncio.run(main())
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in asked])
"""
STOPPED = f"""{SPAWNING}
from relay.serve import zygote as module

module.STOP_SECONDS = 50.0  # this is not about one that takes too long to begin

async def main():
    first, second = [asyncio.create_task(zygote.spawn(boot)) for _ in range(2)]
    await asyncio.sleep(0)
    await zygote.stop()
    await asyncio.wait((first, second))
    print(first.result().pid > 0, second.exception().errno == errno.ESHUTDOWN)
    first.result().kill()
    await first.result().wait()

asyncio.run(main())
"""

HUNG = f"""{SPAWNING}
import select, signal
from relay.serve import zygote as module

module.ANSWER_SECONDS = 0.5
begin = zygote._start
handles = []

def stopped():
    handles.append(os.dup(zygote._handle))
    signal.pidfd_send_signal(zygote._handle, signal.SIGSTOP)

def begin_and_stop():
    ours = begin()
    stopped()
    return ours

async def main():
    zygote._start = begin_and_stop
    stopped()
    try:
        await zygote.spawn(boot)
    except TimeoutError:
        print(zygote._socket is None, len(select.select(handles, [], [], 10)[0]) > 0, len(handles))
    zygote._start = begin
    module.ANSWER_SECONDS = 30.0
    child = await zygote.spawn(boot)
    print(os.path.exists(f"/proc/{{child.pid}}"))
    child.kill()
    await child.wait()

asyncio.run(main())
"""


LOST = f"""{SPAWNING}
asked = []
ask = zygote._ask

async def lose(boot, waits):
    asked.append(await ask(boot, waits))
    if len(asked) == 1:
        raise TimeoutError(errno.ETIMEDOUT, "as when this process stood still for longer than it waits")
    return asked[-1]

async def main():
    zygote._ask = lose
    child = await zygote.spawn(boot)
    print(os.waitstatus_to_exitcode(os.waitpid(asked[0], 0)[1]), child.pid == asked[1], child.returncode)
    child.kill()
    await child.wait()

asyncio.run(main())
"""


def test_a_child_whose_answer_is_lost_does_not_live_on_beside_the_next(tmp_path: Path) -> None:
    with program(Gateway(tmp_path), LOST) as started:
        said, why = started.communicate(timeout=60)
    assert said.splitlines()[-1] == "0 True None", why


def test_a_policy_that_cannot_be_loaded_stops_nobody_who_does_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(policies: object) -> None:
        raise SyntaxError("policies/mine.py")

    monkeypatch.setattr("relay.policy.catalogue.Catalogue.load", broken)
    load()


def test_a_child_that_cannot_be_held_does_not_live_on_beside_the_next(tmp_path: Path) -> None:
    with program(Gateway(tmp_path), UNHELD) as started:
        said, why = started.communicate(timeout=60)
    assert said == "[0]\n", why


def test_after_the_end_no_child_comes_and_who_was_on_the_way_is_known(tmp_path: Path) -> None:
    with program(Gateway(tmp_path), STOPPED) as started:
        said, why = started.communicate(timeout=60)
    assert said == "True True\n", why


def test_a_zygote_that_hangs_is_given_up_and_so_is_the_next(tmp_path: Path) -> None:
    """Or what it answers late would be taken for the answer to another request."""
    with program(Gateway(tmp_path), HUNG) as started:
        said, why = started.communicate(timeout=100)
    assert [line for line in said.splitlines() if not line.startswith("{")] == ["True True 2", "True"], why


def runs(pid: int) -> bool:
    """A process that has ended but was not waited for does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def log(gateway: Gateway) -> str:
    return (gateway.folder / "gateway.log").read_text()
