"""What the retention job costs the mail that flows meanwhile: a million consents that nobody has used for years (CONSENT-15).

    .venv/bin/python -m bench.retention                      a million rows; takes a quarter of an hour
    .venv/bin/python -m bench.retention --records 100000     a rehearsal

They are imported with `zegel consent import`, then made old in the file; when the gateway starts, its job finds them. The same
paced load is sent while the job runs and after it has ended, and the time from the end of DATA to its reply is compared.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import ledger, load
from bench.gateway import DURABILITY, Gateway
from bench.load import Cell, Sink
from bench.peers import make_site

RECORDS, LOOKED_UP = 1_000_000, 100_000
RATE = 400.0  # messages/s, about half of what two workers take while the job has a core
SECONDS, ROUNDS = 20.0, 3
TIMES = 2.0
PATIENCE_SECONDS = 3_600.0  # of the wait for the job's end
LONG_AGO = 1_388_534_400.0  # 1 January 2014
OLD = "forgotten"  # the tenant whose consents are due


@dataclass(frozen=True, slots=True)
class Report:
    """`during` and `after`: p99 in milliseconds of each round; `rows_a_second` of the job from start to end."""

    records: int
    rate: float
    during: list[float]
    after: list[float]
    left: list[int]  # rows that the job still had to delete after each round: none is no measurement
    rows_a_second: float

    @property
    def times(self) -> float:
        return sorted(self.during)[len(self.during) // 2] / sorted(self.after)[len(self.after) // 2]

    @property
    def kept(self) -> bool:
        return self.times <= TIMES and all(self.left)


def prepare(relay: Gateway, folder: Path, records: int) -> None:
    """A million records of another tenant beside those of the load, and all of them old."""
    relay.zegel("tenant", "add", OLD, "--legal-name", "Oud BV")
    relay.zegel("purpose", "add", OLD, "newsletter")
    file = folder / "old.csv"
    ledger.write(file, records)
    told = relay.zegel("consent", "import", OLD, str(file), seconds=7_200)
    if told["imported"] != records:
        raise SystemExit(f"the import took {told['imported']} of {records}")
    file.unlink()
    with closing(connect(relay)) as database:
        columns = ("used_at", "given_at", "confirmed_at", "sale_at")
        old = ", ".join(f"{name} = min({name}, {LONG_AGO})" for name in columns)
        database.execute(f"UPDATE consent_state SET {old} WHERE tenant_id = {OF_TENANT}", (OLD,))
        database.commit()


OF_TENANT = "(SELECT id FROM tenant WHERE name = ?)"


def connect(relay: Gateway) -> sqlite3.Connection:
    return sqlite3.connect(relay.folder / "data" / "zegel.db", timeout=30)


def left(relay: Gateway) -> int:
    """Rows that the job has not deleted yet."""
    with closing(connect(relay)) as database:
        query = f"SELECT count(*) FROM consent_state WHERE tenant_id = {OF_TENANT}"
        found: int = database.execute(query, (OLD,)).fetchone()[0]
        return found


def p99(relay: Gateway, sink: Sink, rate: float, samples: Path) -> float:
    """Milliseconds from the end of DATA to its reply, of one paced round. Raises SystemExit where a message was lost."""
    found = load.measure(relay.group, relay.target(), sink, Cell(rate=rate), seconds=SECONDS, samples=samples)
    if found.faults:
        raise SystemExit("; ".join(found.faults))
    return found.end_of_data_ms["p99"]


def measure(folder: Path, records: int, rate: float) -> Report:
    sink = Sink()
    relay = Gateway("zegel", "Zegel", DURABILITY, consents=LOOKED_UP)
    try:
        site = make_site(folder, sink.port)
        relay.install()
        relay.prepare(site)
        relay.start(site)  # it writes the configuration
        relay.stop()
        prepare(relay, folder, records)
        relay.start(site)
        began = time.monotonic()
        during, rows = [], []
        for _ in range(ROUNDS):
            during.append(p99(relay, sink, rate, folder / "samples"))
            rows.append(left(relay))
        while left(relay):
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise SystemExit(f"{left(relay):,} rows are left after {PATIENCE_SECONDS:.0f} s")
            time.sleep(1.0)
        seconds = time.monotonic() - began
        after = [p99(relay, sink, rate, folder / "samples") for _ in range(ROUNDS)]
    finally:
        relay.stop()
        sink.close()
    return Report(records, rate, during, after, rows, records / seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.retention", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, metavar="N", help="rows that are due")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help="messages a second")
    parser.add_argument("--scratch", default="/var/tmp", metavar="FOLDER", help="where it lies: a real disk")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on standard output")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="zegel-retention-", dir=options.scratch) as scratch:
        report = measure(Path(scratch), options.records, options.rate)
    if options.json:
        print(json.dumps({**asdict(report), "times": report.times, "kept": report.kept}))
        return 0 if report.kept else 1
    print(f"job        {report.rows_a_second:,.0f} rows/s, {report.records:,} rows")
    print(
        f"p99        {', '.join(f'{ms:.1f}' for ms in report.during)} ms while it runs, at {report.rate:.0f} messages/s"
    )
    print(f"           {', '.join(f'{ms:.1f}' for ms in report.after)} ms afterwards")
    print(f"           {report.times:.2f} times (at most {TIMES:.1f}); rows left after each round: {report.left}")
    return 0 if report.kept else 1


if __name__ == "__main__":
    sys.exit(main())
