"""`make bench-scale`: whether a message costs the same when there is much of everything else.

Each function below measures one promise of the design (section 4, "Growth") on a gateway of its own, and gives a figure
with its bound. Run them all, or name some: python -m bench.scale idle-plain fairness
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import account, build, load, machine, waiting
from bench.gateway import Gateway, gateway
from bench.load import Cell, Sink, Target
from bench.packages import Unavailable
from bench.peers import Site, make_site
from bench.run import scratch_folder

FLAT = 1.10  # a cost may be this many times that of the small case
ROUNDS = 3
PAIRS = 9  # of a ratio: single rounds differ by a fifth on a shared machine, and the promise is a tenth
LOAD_SECONDS = 8.0
SMALL_CONSENTS, LARGE_CONSENTS, LARGE_TENANTS, BUSY_TENANTS = 10_000, 10_000_000, 1_000, 10
QUEUED = 1_000_000
IDLE_SESSIONS = 5_000
IDLE_BOUND_KB = {"off": 30.0, "starttls": 64.0}
LATER_SECONDS = 86_400.0
SETTLE_SECONDS = 3.0
BIG_BYTES, BIG_MESSAGES, BIG_SESSIONS, BIG_RATE = 50_000_000, 24, 2, 0.2
COPIES_AT_A_TIME = 2.25  # two, and the eighth by which a growing buffer is ahead of its octets
CAMPAIGN, CAMPAIGN_RATE, SMARTHOST_RATE = 100_000, 20.0, 100.0
NOTICE_RATE, NOTICE_SECONDS, NOTICE_BOUND_SECONDS = 2.0, 60.0, 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure with its bound; `kept` says whether it is within. `detail` is what it was made of."""

    name: str
    figure: float
    bound: float
    unit: str
    detail: dict[str, Any]

    @property
    def kept(self) -> bool:
        """The bound is an upper one, itself included."""
        return self.figure <= self.bound


@dataclass(frozen=True, slots=True)
class Bench:
    """What every function here works with."""

    folder: Path
    console: Console
    share: float = 1.0  # of every number: a rehearsal, whose findings prove nothing
    patience: float = 20.0  # most seconds to wait for a quiet machine

    def scaled(self, count: int) -> int:
        """`count`, or less in a rehearsal; never fewer than the tenants that send."""
        return max(BUSY_TENANTS, round(count * self.share))

    def seconds(self, full: float) -> float:
        """A length of time, or less in a rehearsal."""
        return full if self.share >= 1 else max(8.0, full * self.share)

    def wait_until_quiet(self) -> None:
        """Other programs make a figure worse; give them time to end."""
        account.wait_until_quiet(self.patience)

    def say(self, text: str) -> None:
        """Progress, for a person who waits."""
        self.console.print(f"[dim]{text}[/]", highlight=False)


@contextmanager
def running(relay: Gateway, site: Site) -> Iterator[Gateway]:
    """The gateway between start and stop."""
    try:
        relay.install()
        relay.start(site)
        yield relay
    finally:
        relay.stop()


@contextmanager
def site_with_sink(bench: Bench, name: str, **options: float) -> Iterator[tuple[Site, Sink]]:
    """A folder and a sink for one function; the folder is removed, since some of them are large."""
    sink = Sink(**options)
    site = make_site(bench.folder / name, sink.port)
    try:
        yield site, sink
    finally:
        sink.close()
        shutil.rmtree(site.folder, ignore_errors=True)


def warm_up(relay: Gateway, sink: Sink, target: Target, *, tls: str = "off") -> None:
    """A little work, so that what every process loads on first use is not counted."""
    cost_ms(relay, sink, [target], seconds=2.0, tls=tls)


def cost_ms(
    relay: Gateway, sink: Sink, targets: Sequence[Target], *, seconds: float = LOAD_SECONDS, tls: str = "off"
) -> float:
    """CPU milliseconds per message at 20 sessions and 10 KB, the sessions shared out over the targets.

    Raises Unavailable when a message was refused or lost: a cost without the work is none.
    """
    assert relay.group is not None
    cell = Cell(sessions=max(1, 20 // len(targets)), tls=tls)
    sink.ask("reset")
    before = relay.group.cpu_seconds()
    started = []
    for target in targets:
        run = load.next_run()
        started.append((run, load.start_source(target, cell, run=run, seconds=seconds)))
    arrived = 0
    for run, process in started:
        sent = load.source_result(process)
        got = sink.wait_for(run, sent["accepted"])
        arrived += got
        if sent["failed"] or got < sent["accepted"] or not got:
            raise Unavailable(f"{sent['failed']} refused, {sent['accepted'] - got} lost: {sent['first_error']}")
    return (relay.group.cpu_seconds() - before) * 1000 / arrived


def consents(bench: Bench) -> Finding:
    """Cost per message with 10 million consents of 1,000 tenants against 10 thousand of one."""
    large_tenants, busy = bench.scaled(LARGE_TENANTS), BUSY_TENANTS
    with site_with_sink(bench, "consents") as (site, sink):
        small = gateway(name="small", consents=SMALL_CONSENTS)
        large = gateway(name="large", consents=bench.scaled(LARGE_CONSENTS), count=large_tenants)
        bench.say(f"filling {large.consents:,} consents of {large.count:,} tenants")
        small.prepare(site)
        large.prepare(site)
        costs: dict[str, list[float]] = {"small": [], "large": []}
        for _ in range(PAIRS):
            for relay, tenants in ((small, 1), (large, busy)):
                with running(relay, site):
                    # As many programs send in both cases: ten of them cost the caches something, whoever's mail it is.
                    targets = [relay.target(tenant=number % tenants) for number in range(busy)]
                    warm_up(relay, sink, targets[0])
                    bench.wait_until_quiet()
                    costs[relay.name].append(cost_ms(relay, sink, targets))
        return ratio_finding("consents-10m", costs)


def ratio_finding(name: str, costs: dict[str, list[float]]) -> Finding:
    """Median cost of the large case over that of the small one."""
    ratio = statistics.median(costs["large"]) / statistics.median(costs["small"])
    return Finding(name, ratio, FLAT, "times the CPU per message of the small case", {"cpu_ms": costs})


def queue(bench: Bench) -> Finding:
    """Cost per message with 1 million messages waiting in the queue, against an empty one.

    They wait as a tenant's mail over its pace does (THROTTLE-1): accepted, parked, due later.
    """
    count = bench.scaled(QUEUED)
    with site_with_sink(bench, "queue") as (site, sink):
        relays = {name: gateway(name=name, consents=SMALL_CONSENTS) for name in ("small", "large")}
        for relay in relays.values():
            relay.prepare(site)
        bench.say(f"parking {count:,} messages")
        waiting.fill(relays["large"], count, due=time.time() + LATER_SECONDS)
        costs: dict[str, list[float]] = {"small": [], "large": []}
        memory: dict[str, float] = {}
        for _ in range(PAIRS):
            for name, relay in relays.items():
                with running(relay, site):
                    taking_up = waiting.wait_adopted(relay, count if name == "large" else 0)
                    warm_up(relay, sink, relay.target())
                    bench.wait_until_quiet()
                    costs[name].append(cost_ms(relay, sink, [relay.target()]))
                    assert relay.group is not None
                    memory[f"{name}_mb"] = relay.group.pss_bytes() / 1e6
                    memory[f"{name}_seconds_after_start"] = taking_up
        found = ratio_finding("queue-1m", costs)
        per_message = (memory["large_mb"] - memory["small_mb"]) * 1e6 / count
        found.detail.update(memory, octets_of_memory_a_message=per_message)
        return found


def idle_plain(bench: Bench) -> Finding:
    """Memory of one session that has logged in and is silent, 5,000 of them, without TLS."""
    return idle(bench, "idle-plain", "off")


def idle_tls(bench: Bench) -> Finding:
    """The same after STARTTLS."""
    return idle(bench, "idle-tls", "starttls")


def idle(bench: Bench, name: str, tls: str) -> Finding:
    """Growth of the gateway's proportional set size over opening the sessions, per session."""
    with site_with_sink(bench, name) as (site, sink), running(gateway(consents=1_000), site) as relay:
        assert relay.group is not None
        warm_up(relay, sink, relay.target(tls=tls), tls=tls)
        time.sleep(SETTLE_SECONDS)
        before = relay.group.pss_bytes()
        cell = Cell(sessions=bench.scaled(IDLE_SESSIONS), tls=tls)
        source = load.start_source(relay.target(tls=tls), cell, run=load.next_run(), seconds=0, extra=["--hold"])
        held = wait_ready(source)
        time.sleep(SETTLE_SECONDS)
        grown = relay.group.pss_bytes() - before
        ended = load.source_result(source)
        detail = {"sessions": held, "grown_mb": grown / 1e6, "still_open": ended["held"], "errors": ended["errors"]}
        if ended["held"] < cell.sessions:
            raise Unavailable(f"{ended['held']} of {cell.sessions} sessions stayed open: {ended['first_error']}")
        return Finding(name, grown / held / 1024, IDLE_BOUND_KB[tls], "KB a session", detail)


def wait_ready(source: subprocess.Popen[str]) -> int:
    """Wait for a source started with --hold; the number of sessions that stand."""
    assert source.stdout is not None
    line = source.stdout.readline()
    if not line.startswith("ready "):
        source.terminate()
        raise Unavailable(f"the sessions could not be opened: {line[:300]}")
    return int(line.split()[1])


def big(bench: Bench) -> Finding:
    """Copies of a 50 MB message in memory at a time, one message after the other; and the peaks when they come in a row."""
    limits = {"limits": f"max_message_bytes = {BIG_BYTES + 10_000_000}\n"}
    with (
        site_with_sink(bench, "big") as (site, sink),
        running(gateway(consents=1_000, more_config=limits), site) as relay,
    ):
        warm_up(relay, sink, relay.target())
        bench.wait_until_quiet()
        single = Cell(size_bytes=BIG_BYTES, sessions=1, rate=BIG_RATE)
        paced = [_peak_mb(relay, sink, single, 2) for _ in range(ROUNDS)]
        crowd = Cell(size_bytes=BIG_BYTES, sessions=BIG_SESSIONS)
        in_a_row = [_peak_mb(relay, sink, crowd, BIG_MESSAGES // ROUNDS) for _ in range(ROUNDS)]
        detail = {"one_by_one_mb": paced, "in_a_row_mb": in_a_row, "sessions_in_a_row": BIG_SESSIONS}
        copies = statistics.median(paced) * 1e6 / BIG_BYTES
        return Finding("big-50mb", copies, COPIES_AT_A_TIME, "copies of a message in memory at a time", detail)


def _peak_mb(relay: Gateway, sink: Sink, cell: Cell, count: int) -> float:
    """Highest memory of the gateway over that before, in MB, while `count` messages pass."""
    assert relay.group is not None
    before = relay.group.pss_bytes()
    memory = account.Watch(relay.group.pss_bytes, every_seconds=0.05)
    memory.start()
    run = load.next_run()
    source = load.start_source(relay.target(), cell, run=run, seconds=600, extra=["--count", str(count)])
    sent = load.source_result(source)
    arrived = sink.wait_for(run, sent["accepted"], stalled_seconds=60)
    peak = memory.finish() - before
    if sent["failed"] or arrived < sent["accepted"] or not arrived:
        raise Unavailable(f"{sent['failed']} refused, {sent['accepted'] - arrived} lost: {sent['first_error']}")
    time.sleep(SETTLE_SECONDS)
    return peak / 1e6


def fairness(bench: Bench) -> Finding:
    """Slowest transactional mail of one tenant while 100,000 of another's campaign wait for a smarthost of 100 msg/s.

    The campaign stands in the queue files when the gateway starts, and goes on coming in while the notices do.
    """
    count, seconds = bench.scaled(CAMPAIGN), bench.seconds(NOTICE_SECONDS)
    relay = gateway(consents=2 * SMALL_CONSENTS, count=2)
    with site_with_sink(bench, "fairness", rate=SMARTHOST_RATE) as (site, sink):
        relay.prepare(site)
        bench.say(f"queueing a campaign of {count:,}")
        waiting.fill(relay, count, due=time.time())
        with running(relay, site):
            taking_up = waiting.wait_adopted(relay, count * 9 // 10)
            more = load.start_source(
                relay.target(), Cell(size_bytes=2_048, rate=CAMPAIGN_RATE), run=load.next_run(), seconds=seconds
            )
            notices = _notices(relay, sink, seconds)
            load.source_result(more)
            left = waiting.waiting(relay)
        detail = {**notices, "campaign_still_waiting": left, "seconds_after_start": taking_up}
        if left <= count // 2:
            raise Unavailable(f"only {left:,} of the campaign still waited at the end: nothing was measured")
        slowest = notices["way_ms"]["max"] / 1000
        return Finding("fairness", slowest, NOTICE_BOUND_SECONDS, "s from sender to smarthost, slowest", detail)


def _notices(relay: Gateway, sink: Sink, seconds: float) -> dict[str, Any]:
    """Send transactional mail of the second tenant and wait for it at the sink. Raises Unavailable when some is missing."""
    run = load.next_run()
    cell = Cell(size_bytes=2_048, sessions=4, rate=NOTICE_RATE)
    target = relay.target(tenant=1, stream="transactional")
    sent = load.source_result(load.start_source(target, cell, run=run, seconds=seconds, extra=["--notice"]))
    arrived = sink.wait_for(run, sent["accepted"], stalled_seconds=30)
    got = sink.run_report(run)
    if sent["failed"] or arrived < sent["accepted"] or not sent["accepted"]:
        raise Unavailable(f"{arrived} of {sent['accepted']} notices arrived: {sent['first_error']}")
    return {"notices": arrived, "way_ms": got["way_ms"], "to_reply_ms": sent["end_of_data_ms"]}


FUNCTIONS: dict[str, Callable[[Bench], Finding]] = {
    "consents-10m": consents,
    "queue-1m": queue,
    "idle-plain": idle_plain,
    "idle-tls": idle_tls,
    "big-50mb": big,
    "fairness": fairness,
}


def line(finding: Finding) -> str:
    """A finding as one line."""
    verdict = "[green]kept[/]" if finding.kept else "[red]NOT kept[/]"
    return f"{finding.name}: [bold]{finding.figure:.2f}[/] {finding.unit}; bound {finding.bound:g} {verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was named, or all; 1 when a bound was not kept, 3 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(FUNCTIONS)}")
    parser.add_argument("--json", action="store_true", help="the findings as a JSON list on standard output")
    parser.add_argument("--scratch", default="/var/tmp", metavar="FOLDER", help="where queues live: a real disk")
    parser.add_argument("--patience", type=float, default=20.0, help="most seconds to wait for a quiet machine")
    parser.add_argument("--share", type=float, default=1.0, metavar="X", help="of every number, for a rehearsal")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    unknown = set(options.names) - set(FUNCTIONS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(FUNCTIONS)}")
    if machine.on_memory_disk(Path(options.scratch)):
        parser.error(
            f"{options.scratch} is in memory, where durability costs nothing; name a folder on a disk with --scratch"
        )
    console = Console(stderr=options.json)
    findings, failed = [], 0
    with scratch_folder(options.scratch) as folder:
        for name in options.names or FUNCTIONS:
            try:
                findings.append(FUNCTIONS[name](Bench(folder, console, options.share, options.patience)))
                console.print(line(findings[-1]), highlight=False)
                console.print(f"[dim]{json.dumps(findings[-1].detail)}[/]", highlight=False)
            except Unavailable as why:
                failed += 1
                console.print(f"{name}: [red]not measured[/]: {why}", highlight=False)
    stored = [{**asdict(finding), "kept": finding.kept} for finding in findings]
    build.OUT.mkdir(parents=True, exist_ok=True)
    (build.OUT / "scale.json").write_text(
        json.dumps({"machine": machine.describe(build.OUT), "findings": stored}, indent=1) + "\n"
    )
    if options.json:
        print(json.dumps(stored))
    return 3 if failed else int(not all(finding.kept for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
