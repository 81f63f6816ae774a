"""Redis servers on loopback, as an operator would run them: one alone, a primary with a replica and Sentinels, a cluster."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.harness.ports import free_ports

READY_SECONDS = 20.0
READY = ("Ready to accept connections", "Sentinel ID is")


def need_redis() -> str:
    """Path of redis-server, or the test is skipped by name."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not installed; apt-get install redis-server")
    return found


# What it has answered is with the kernel then, and survives its own end; by default it may hold writes back for two seconds
# while the disk syncs ("everysec").
LASTING = ("--appendonly", "yes", "--appendfsync", "no")


class RedisServer:
    """One redis-server process. What it holds survives `kill` and `start`, as far as its own files go."""

    def __init__(self, folder: Path, port: int, *options: str, sentinel: bool = False) -> None:
        self.folder, self.port = folder, port
        self._options = [str(option) for option in options]
        self._sentinel = sentinel
        self._process: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "redis.conf").touch()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        command = [need_redis(), str(self.folder / "redis.conf"), *(["--sentinel"] if self._sentinel else [])]
        command += ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready), daemon=True)
        self._reader.start()
        if not ready.wait(READY_SECONDS) or self._process.poll() is not None:
            raise RuntimeError(f"redis-server on {self.port} did not start: {' | '.join(self.said[-5:])}")
        return self

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        self.said: list[str] = []
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.said.append(line.strip())
                if any(word in line for word in READY):
                    ready.set()
        ready.set()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It keeps its connections and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait()
            self._reader.join()
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def ask(self, *command: str) -> Any:
        with self.client() as client:
            return client.execute_command(*command)


def until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for `condition`, asked again and again."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(otherwise)


def watched_pair(folder: Path, service: str) -> tuple[list[RedisServer], list[RedisServer]]:
    """A primary with a replica, and three Sentinels that watch them: (servers, sentinels). They start here."""
    primary, replica, *watching = free_ports(5)
    first = RedisServer(folder / "first", primary, "--repl-diskless-sync-delay", "0").start()
    second = RedisServer(folder / "second", replica, "--replicaof", f"127.0.0.1 {primary}").start()
    until(lambda: second.ask("INFO", "replication")["master_link_status"] == "up", 20.0, "no replica")
    sentinels = []
    for number, port in enumerate(watching):
        place = folder / f"sentinel-{number}"
        place.mkdir()
        lines = [f"sentinel monitor {service} 127.0.0.1 {primary} 2"]
        lines += [f"sentinel down-after-milliseconds {service} 500", f"sentinel failover-timeout {service} 3000"]
        (place / "redis.conf").write_text("\n".join(lines) + "\n")
        sentinels.append(RedisServer(place, port, sentinel=True).start())
    for sentinel in sentinels:
        until(lambda s=sentinel: _knows(s, service), 20.0, "the Sentinels have not met")  # type: ignore[misc]
    return [first, second], sentinels


def _knows(sentinel: RedisServer, service: str) -> bool:
    return (
        len(sentinel.ask("SENTINEL", "REPLICAS", service)) == 1
        and len(sentinel.ask("SENTINEL", "SENTINELS", service)) == 2
    )


def cluster(folder: Path) -> list[RedisServer]:
    """Three primaries, each with a replica, in one cluster: primaries first."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0")
    options += ("--repl-diskless-sync-delay", "0")
    nodes = [RedisServer(folder / str(port), port, *options).start() for port in free_ports(6)]
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for node in nodes:
        until(lambda n=node: _is_whole(n), 30.0, "the cluster does not come up")  # type: ignore[misc]
    return nodes


def _is_whole(node: RedisServer) -> bool:
    state = node.ask("CLUSTER", "INFO").decode().split("\r\n")
    role = node.ask("INFO", "replication")
    linked = role["role"] == "master" or role["master_link_status"] == "up"
    return "cluster_state:ok" in state and "cluster_slots_ok:16384" in state and linked


def stop_all(servers: Sequence[RedisServer]) -> None:
    for server in servers:
        server.kill()
