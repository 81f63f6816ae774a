"""Drives the C programs: one sink that stays up, sources that come and go, and what one measurement found."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import build, verify
from bench.account import Group, Watch, machine_cpu_seconds

RECIPIENT_PATTERN = "rcpt%d@dest%d.example"
RECIPIENT_DOMAINS = 10
RECIPIENTS = 1_000_000
SENDER = "news@sender.example"
SENDER_DOMAIN = "sender.example"
SAMPLE_SIZE = 24
STALLED_SECONDS = 15.0

_run_numbers = itertools.count(1)


def recipient(number: int) -> str:
    """The address that the source uses for its message `number`; the same rule as recipient_of() in source.c."""
    return f"rcpt{number % RECIPIENTS}@dest{number % RECIPIENTS % RECIPIENT_DOMAINS}.example"


@dataclass(frozen=True, slots=True)
class Cell:
    """One shape of load. `per_connection` 0: a session never leaves. `rate` 0: as fast as the server lets it, in messages/s."""

    size_bytes: int = 10_240
    sessions: int = 20
    per_connection: int = 0
    tls: str = "off"  # off | starttls | implicit
    rate: float = 0.0

    @property
    def label(self) -> str:
        """For instance "10 KB, many a connection, TLS"."""
        size = f"{self.size_bytes // 1024} KB"
        many = "one a connection" if self.per_connection == 1 else "many a connection"
        pace = f", {self.rate:.0f} msg/s offered" if self.rate else ""
        return f"{size}, {many}, {'plain' if self.tls == 'off' else 'TLS'}{pace}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: port, login (empty: none), sender, and the DKIM key that its mail must verify with (empty: unsigned)."""

    port: int
    username: str = ""
    password: str = ""
    sender: str = SENDER
    public_key: str = ""  # base64 of the SubjectPublicKeyInfo, the p= of a DKIM record
    recipients: int = RECIPIENTS  # different ones; each has a consent


@dataclass(slots=True)
class Measurement:
    """One run. Times in milliseconds, `cpu_ms` per message that reached the sink. `faults` empty: the run counts."""

    cell: Cell
    accepted: int = 0
    arrived: int = 0
    seconds: float = 0.0
    rate: float = 0.0  # unique messages at the sink per second, from the first connect to the last arrival
    cpu_ms: float = 0.0
    cores: float = 0.0
    other_cores: float = 0.0  # used by processes that are neither the relay nor the load
    peak_pss_mb: float = 0.0
    end_of_data_ms: dict[str, float] = field(default_factory=dict)
    way_ms: dict[str, float] = field(default_factory=dict)
    late_ms: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    first_error: str = ""
    duplicates: int = 0
    verified: str = ""  # for instance "24/24"
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All fields, for the stored result."""
        return asdict(self)


class Sink:
    """The running sink program. Commands are those on top of sink.c."""

    def __init__(self, *, delay_ms: float = 0.0, rate: float = 0.0) -> None:
        _, program = build.programs()
        self._process = subprocess.Popen(
            [str(program), "--delay-ms", str(delay_ms), "--rate", str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line().split()[1])

    def ask(self, command: str) -> str:
        """Send one command; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sink ended; its standard error says why")
        return line.rstrip("\n")

    def count(self, run: int) -> int:
        """Unique messages of that run so far."""
        return int(self.ask(f"count {run}"))

    def report(self) -> dict[str, Any]:
        """Counts and percentiles of every run since the last reset."""
        result: dict[str, Any] = json.loads(self.ask("report"))
        return result

    def run_report(self, run: int) -> dict[str, Any]:
        """The part of `report` about one run; zeros when nothing of it arrived."""
        nothing = dict.fromkeys(("unique", "duplicates", "signed", "unsigned", "mangled", "first_ns", "last_ns"), 0)
        result: dict[str, Any] = self.report()["runs"].get(str(run), {**nothing, "way_ms": {}})
        return result

    def wait_for(self, run: int, count: int, *, stalled_seconds: float = STALLED_SECONDS) -> int:
        """Wait until `count` messages of the run are here, or none came for a while; returns how many are."""
        seen, last = -1, time.monotonic()
        while True:
            now = self.count(run)
            if now >= count:
                return now
            if now != seen:
                seen, last = now, time.monotonic()
            elif time.monotonic() - last > stalled_seconds:
                return now
            time.sleep(0.05)

    def cpu_seconds(self) -> float:
        """CPU used by the sink so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End of input ends the program."""
        self._process.communicate(timeout=10)


def next_run() -> int:
    """A run number that this process has not used; the sink knows up to 256 between two resets."""
    return next(_run_numbers) % 256


def source_command(target: Target, cell: Cell, *, run: int, seconds: float, extra: Sequence[str] = ()) -> list[str]:
    """The command line of a source for this cell. Each run begins at another recipient."""
    program, _ = build.programs()
    options = {
        "port": target.port,
        "run": run,
        "seconds": seconds,
        "size": cell.size_bytes,
        "sessions": cell.sessions,
        "per-connection": cell.per_connection,
        "tls": cell.tls,
        "rate": cell.rate,
        "from": target.sender,
        "recipient": RECIPIENT_PATTERN,
        "domains": RECIPIENT_DOMAINS,
        "recipients": target.recipients,
        "first-recipient": run * 48_271 % target.recipients,
    }
    return [
        str(program),
        *itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in options.items()),
        *extra,
    ]


def start_source(
    target: Target, cell: Cell, *, run: int, seconds: float, extra: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start a source; read its result with `source_result`."""
    login = {"SOURCE_USER": target.username, "SOURCE_PASSWORD": target.password}
    command = source_command(target, cell, run=run, seconds=seconds, extra=extra)
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **login}
    )


def source_result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a source and parse what it printed last."""
    output, _ = process.communicate()
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


def measure(
    group: Group | None, target: Target, sink: Sink, cell: Cell, *, seconds: float, samples: Path
) -> Measurement:
    """One run of `cell` against a running relay. `group` None: the source talks to the sink itself (limit of the method)."""
    run = next_run()
    samples.mkdir(parents=True, exist_ok=True)
    for old in samples.glob("*.eml"):
        old.unlink()
    sink.ask("reset")
    sink.ask(f"dump {samples} 53 {SAMPLE_SIZE}")
    memory = Watch(group.pss_bytes if group else lambda: 0)
    memory.start()
    began, machine, used = time.monotonic(), machine_cpu_seconds(), group.cpu_seconds() if group else 0.0
    loading = sum(os.times()[:4]) + sink.cpu_seconds()
    sent = source_result(start_source(target, cell, run=run, seconds=seconds))
    sink.wait_for(run, sent["accepted"])
    wall = time.monotonic() - began
    used = (group.cpu_seconds() if group else 0.0) - used
    ours = sum(os.times()[:4]) + sink.cpu_seconds() - loading + used
    got = sink.run_report(run)
    result = Measurement(cell, accepted=sent["accepted"], arrived=got["unique"])
    result.peak_pss_mb = memory.finish() / 1e6
    result.other_cores = max(0.0, machine_cpu_seconds() - machine - ours) / wall
    result.cores = used / wall
    result.cpu_ms = used * 1000 / max(1, got["unique"])
    result.seconds = max(0.0, (got["last_ns"] - sent["started_ns"]) / 1e9)
    result.rate = got["unique"] / result.seconds if result.seconds else 0.0
    result.end_of_data_ms, result.way_ms, result.late_ms = sent["end_of_data_ms"], got["way_ms"], sent["late_ms"]
    result.errors, result.first_error, result.duplicates = sent["errors"], sent["first_error"], got["duplicates"]
    _judge(result, sent, got, target, samples)
    return result


def _judge(result: Measurement, sent: dict[str, Any], got: dict[str, Any], target: Target, samples: Path) -> None:
    """Why the run does not count, if it does not: lost, refused, damaged, unsigned or badly signed mail."""
    if not result.accepted:
        result.faults.append(f"nothing accepted: {result.first_error}")
        return
    if got["unique"] < sent["accepted"]:
        result.faults.append(f"{sent['accepted'] - got['unique']} accepted messages did not arrive")
    if sent["failed"] or sent["in_doubt"]:
        result.faults.append(f"{sent['failed'] + sent['in_doubt']} messages not accepted: {result.first_error}")
    if got["mangled"]:
        result.faults.append(f"{got['mangled']} messages arrived with another length")
    if target.public_key:
        if got["unsigned"]:
            result.faults.append(f"{got['unsigned']} messages arrived unsigned")
        good, of, why = verify.verify_folder(samples, SENDER_DOMAIN, target.public_key)
        result.verified = f"{good}/{of}"
        if good < of or not of:
            result.faults.append(f"{good} of {of} sampled signatures verify {why}")
