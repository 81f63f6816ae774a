"""Children are forked from a zygote; they and the gateway live on when it dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway import MESSAGE, SENDER, Gateway
from tests.harness.processes import children, every_child, zygotes


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


def runs(pid: int) -> bool:
    """A process that has ended but was not waited for does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def log(gateway: Gateway) -> str:
    return (gateway.folder / "gateway.log").read_text()
