"""`make bench`: the gateway and its peers, on this machine, in one run, as a table.

The rounds are interleaved (every relay once, then every relay again), so that a machine that slows down or speeds up
does so for all. Only messages that reached the sink count, and a run counts only when everything accepted arrived whole,
signed where the relay signs, and the sampled signatures verify with dkimpy.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bench import account, build, machine
from bench.gateway import Gateway, gateway
from bench.load import Cell, Measurement, Sink, Target, measure
from bench.packages import Unavailable
from bench.peers import REFERENCE, Relay, Site, all_peers, make_site
from bench.report import Result, Subject, print_result

SIZES = (10_240, 2_048, 76_800)
OWN = "zegel"
DIRECT = "direct"
WARM_UP_SECONDS = 1.5
QUIET_SECONDS = 20.0
SHARE_OF_PEAK = 0.8
REPLY_BOUND_MS = 50.0
IMPORTED = 20_000
WANTED = {REFERENCE: 4.0, "haraka": 2.5, "postfix": 1.5}  # times as many messages a second, 10 KB on lasting sessions


def plan(*, quick: bool, tls: bool) -> list[Cell]:
    """The shapes of load to run, most important first. With `tls`, those of the gateway."""
    sizes = SIZES[:1] if quick else SIZES
    modes = ("off", "starttls") if tls else ("off",)
    return [Cell(size, per_connection=per, tls=mode) for mode in modes for size in sizes for per in (0, 1)]


@contextmanager
def scratch_folder(parent: str) -> Iterator[Path]:
    """A new folder that other system users can enter, removed afterwards. SIGTERM ends in order too, relays first."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="zegel-bench-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def aimed(relay: Relay, target: Target, cell: Cell) -> Target:
    """The target for this cell: the gateway has a port of its own for each kind of TLS."""
    return relay.target(tls=cell.tls) if isinstance(relay, Gateway) else target


def one_round(
    relay: Relay, subject: Subject, site: Site, sink: Sink, cells: Sequence[Cell], options: argparse.Namespace
) -> None:
    """Start the relay, run every cell once, stop it. A relay that does not start is left out by name."""
    console: Console = options.console
    try:
        target = relay.start(site)
        subject.versions = subject.versions or relay.versions()
        measure(relay.group, target, sink, Cell(), seconds=WARM_UP_SECONDS, samples=site.folder / "samples")
        for cell in cells:
            account.wait_until_quiet(options.patience)
            found = measure(
                relay.group,
                aimed(relay, target, cell),
                sink,
                cell,
                seconds=options.seconds,
                samples=site.folder / "samples",
            )
            subject.runs.setdefault(cell.label, []).append(found)
            console.print(progress(subject, found), highlight=False)
    except Unavailable as why:
        subject.skipped = str(why)
    finally:
        relay.stop()


def progress(subject: Subject, found: Measurement) -> str:
    """One line about one measurement."""
    state = (
        f"{found.rate:,.0f} msg/s, {found.cpu_ms:.2f} ms CPU"
        if not found.faults
        else f"[red]{'; '.join(found.faults)}[/]"
    )
    return f"[dim]{subject.title}, {found.cell.label}:[/] {state}"


def direct_limit(site: Site, sink: Sink, seconds: float) -> Subject:
    """Source to sink with nothing between: what the method itself can do, and so must stay far above every relay."""
    subject = Subject(DIRECT, "source to sink, no relay", durability="none")
    target = Target(sink.port, recipients=site.consents)
    found = measure(None, target, sink, Cell(), seconds=min(seconds, 3.0), samples=site.folder / "samples")
    subject.runs[Cell().label] = [found]
    return subject


def run_all(folder: Path, options: argparse.Namespace) -> Result:
    """Every relay, every round."""
    sink = Sink()
    try:
        site = make_site(folder / "site", sink.port, consents=options.consents)
        result = Result(machine.describe(folder), method(options))
        result.subjects.append(direct_limit(site, sink, options.seconds))
        relays = chosen(options)
        subjects = {relay.name: Subject(relay.name, relay.title, durability=relay.durability) for relay in relays}
        result.subjects.extend(subjects.values())
        for relay in relays:
            try:
                relay.install()
            except Unavailable as why:
                subjects[relay.name].skipped = str(why)
        for _ in range(options.runs):
            for relay in relays:
                if not subjects[relay.name].skipped:
                    cells = plan(quick=options.quick, tls=isinstance(relay, Gateway))
                    one_round(relay, subjects[relay.name], site, sink, cells, options)
        for relay in relays:
            if isinstance(relay, Gateway) and not subjects[relay.name].skipped:
                near_peak(relay, subjects[relay.name], site, sink, result, options)
        return result
    finally:
        sink.close()


def near_peak(
    relay: Gateway, subject: Subject, site: Site, sink: Sink, result: Result, options: argparse.Namespace
) -> None:
    """The time from end of DATA to reply at four fifths of what the gateway can take, and where its CPU goes."""
    peak = subject.median(Cell(), lambda run: run.rate)
    if not peak:
        return
    cell = Cell(rate=peak * SHARE_OF_PEAK)
    one_round(relay, subject, site, sink, [cell], options)
    for found in subject.counted(cell):
        result.extra["near_peak"] = {
            "offered": cell.rate,
            "end_of_data_ms": found.end_of_data_ms,
            "bound_p99_ms": REPLY_BOUND_MS,
            "kept": found.end_of_data_ms["p99"] < REPLY_BOUND_MS,
        }
    try:
        result.extra["stages"] = relay.stage_costs()
        result.extra["imported_a_second"] = relay.import_rate(IMPORTED)
    except Unavailable as why:
        options.console.print(f"[yellow]not measured[/]: {why}", highlight=False)


def chosen(options: argparse.Namespace) -> list[Relay]:
    """The relays asked for, the gateway last."""
    relays: list[Relay] = [*all_peers(), gateway(consents=options.consents)]
    names = {relay.name for relay in relays}
    wanted = set(options.only.split(",")) if options.only else names
    if not wanted <= names:
        options.parser.error(f"unknown: {', '.join(sorted(wanted - names))}; there are {', '.join(sorted(names))}")
    return [relay for relay in relays if relay.name in wanted]


def method(options: argparse.Namespace) -> dict[str, str]:
    """How it was measured, for the report."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": f"20 sessions on loopback, no pipelining, one recipient a message, no two alike, {options.seconds:g} s a run",
        "counted": "unique messages at the sink, whole and signed, a sample verified with dkimpy; first connect to last arrival",
        "runs": f"{options.runs}, interleaved; source and sink share the machine's processors with the relay",
        "CPU": account.describe_method(),
    }


def print_rest(result: Result, console: Console) -> None:
    """The findings that are no row of the table: what was asked for, the time to reply, imports, cost by stage."""
    for peer, wanted in WANTED.items():
        ratio = result.ratio(Cell(), OWN, peer)
        if ratio:
            console.print(f"{ratio:.2f} times {peer}; asked for {wanted:g} {verdict(ratio >= wanted)}", highlight=False)
    peak = result.extra.get("near_peak")
    if peak:
        times = peak["end_of_data_ms"]
        console.print(
            f"At {peak['offered']:,.0f} msg/s (80 % of its peak): end of DATA to reply p50 {times['p50']:.1f} ms, "
            f"p99 {times['p99']:.1f} ms; bound {peak['bound_p99_ms']:.0f} ms {verdict(peak['kept'])}",
            highlight=False,
        )
    if "imported_a_second" in result.extra:
        console.print(f"zegel consent import: {result.extra['imported_a_second']:,.0f} rows a second", highlight=False)
    if "stages" in result.extra:
        print_stages(result.extra["stages"], console)


def verdict(kept: bool) -> str:
    """For people."""
    return "[green]kept[/]" if kept else "[red]NOT kept[/]"


def print_stages(found: dict[str, Any], console: Console) -> None:
    """What `zegel bench` said, as a table."""
    table = Table(title=f"\nCPU of one message of {found['size_bytes']:,} octets, by stage", title_justify="left")
    table.add_column("stage")
    table.add_column("microseconds", justify="right")
    for stage in found["stages"]:
        table.add_row(f"  [dim]{stage['name']}[/]" if stage["of"] else stage["name"], f"{stage['microseconds']:,.1f}")
    table.add_section()
    table.add_row("in all", f"{found['total_microseconds']:,.1f}")
    console.print(table)


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 KB only")
    parser.add_argument(
        "--json", action="store_true", help="the result as JSON on standard output, progress on standard error"
    )
    parser.add_argument("--only", default="", metavar="NAME,...", help="these relays only")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one run")
    parser.add_argument("--consents", type=int, default=1_000_000, help="consent records in the gateway's ledger")
    parser.add_argument("--scratch", default="/var/tmp", metavar="FOLDER", help="where queues live: a real disk")
    parser.add_argument(
        "--patience", type=float, default=QUIET_SECONDS, help="most seconds to wait for a quiet machine"
    )
    options = parser.parse_args(arguments)
    options.parser, options.console = parser, Console(stderr=options.json, width=None if sys.stdout.isatty() else 170)
    if machine.on_memory_disk(Path(options.scratch)):
        parser.error(
            f"{options.scratch} is in memory, where durability costs nothing; name a folder on a disk with --scratch"
        )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, store; 1 when a run of the gateway did not count, 3 when it could not be measured at all."""
    options = read_options(sys.argv[1:] if arguments is None else arguments)
    try:
        build.programs()
    except build.BuildFailed as why:
        options.console.print(f"[red]{why}[/]")
        return 3
    with scratch_folder(options.scratch) as folder:
        result = run_all(folder, options)
    path = result.store(build.OUT, f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    shutil.copy(path, build.OUT / "latest.json")
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(result.as_json()) + b"\n")
    else:
        cells = plan(quick=options.quick, tls=True)
        peers = [subject.name for subject in result.subjects if subject.name not in (OWN, DIRECT)]
        print_result(result, cells, options.console, own=OWN, peers=peers)
        print_rest(result, options.console)
        options.console.print(f"[dim]every run: {path}[/]", highlight=False)
    own = next((subject for subject in result.subjects if subject.name == OWN), None)
    if own is not None and own.skipped:
        return 3
    return int(own is not None and any(run.faults for runs in own.runs.values() for run in runs))


if __name__ == "__main__":
    sys.exit(main())
