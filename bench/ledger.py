"""What the consent ledger costs as it grows: import, look-up, proof, disk. Real imports, real owner; no server runs.

    .venv/bin/python -m bench.ledger                          10 million records, as the promise has it
    .venv/bin/python -m bench.ledger --records 1000000        what fits a small machine
    .venv/bin/python -m bench.ledger --keep /srv/bench        keep the ledgers, and measure them again next time

Two ledgers are made with `zegel consent import`: one of `--records` rows, one of 10 thousand. One row of each is bad, and exactly
that one must be refused. Look-ups and proofs are of people drawn at random, the two ledgers in turn. A look-up is timed as a
gateway makes it, one between the work on two messages, and also in a row of nothing else, where the small ledger lies in the
processor's own cache and the large one cannot. Both lie in memory then, locked there and read once from end to end, since the
host of a virtual machine takes back what has lain still: what is measured is neither the disk nor the host.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.build import REPOSITORY
from relay.cli.bench_ground import Ground, ground, newsletter, recipient
from relay.cli.bench_stages import PEER
from relay.consent.lookup import Lookup
from relay.delivery.render import render
from relay.enqueue import make_item
from relay.keyring import Keyring
from relay.mail.envelope import Recipient
from relay.mail.message import Message
from relay.owner import Owner
from relay.settings.load import load

SMALL, LARGE = 10_000, 10_000_000
LOOKUPS, MESSAGES, MESSAGE_BYTES, PAIRS, PROOFS = 5_000, 1_000, 10_240, 15, 300
FLAT, PROOF_MS = 1.10, 50.0
SEED = 20_260_101
READ_BYTES = 1 << 20
MAP_LOCKED = 0x2000  # of Linux; the mmap module does not name it
COLUMNS = "email,purpose,basis,method,source,given_at,text,text_language,policy_url,jurisdiction,provenance,sensitive_audience"
ROW = (
    'person{0}@dest{1}.example,newsletter,consent,web_form,https://shop.example/join,2026-01-{2:02}T{3:02}:{4:02}:00Z,'
    '"Ja, stuur mij de nieuwsbrief",nl,https://shop.example/privacy,NL,own,no\n'
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """One ledger. `seconds` and `cpu_seconds` are of its import, None where it was kept from before."""

    folder: Path
    records: int
    seconds: float | None
    cpu_seconds: float | None

    @property
    def database(self) -> Path:
        return self.folder / "data" / "zegel.db"

    def bytes_per_record(self) -> float:
        return sum(path.stat().st_size for path in self.database.parent.glob("zegel.db*")) / self.records


def address(number: int) -> str:
    return f"person{number}@dest{number % 997}.example"


def make(folder: Path, records: int) -> Made:
    """A ledger of `records` in `folder`, unless one is there. Raises SystemExit where the import did not do as it must."""
    done = folder / "done"
    if done.exists():
        return Made(folder, records, None, None)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = folder / "zegel.toml"
    config.write_text('[server]\nhostname = "localhost"\ndata_dir = "data"\nkeys_dir = "keys"\n')
    zegel(config, "tenant", "add", "shop", "--legal-name", "Shop BV")
    zegel(config, "purpose", "add", "shop", "newsletter")
    file = folder / "in.csv"
    bad = write(file, records)
    before, began = cpu(), time.monotonic()
    told = zegel(config, "consent", "import", "shop", str(file), allow=(1,))
    seconds, used = time.monotonic() - began, cpu() - before
    file.unlink()
    lines = [error["line"] for error in told["errors"]]
    if (told["imported"], told["refused"], lines) != (records, 1, [bad]):
        raise SystemExit(
            f"the import took {told['imported']} of {records} and refused lines {lines[:5]}, not {bad} alone"
        )
    done.touch()
    return Made(folder, records, seconds, used)


def write(file: Path, records: int) -> int:
    """`records` good rows and a bad one; the line of that."""
    bad = records * 2 // 3
    with file.open("w", encoding="utf-8") as target:
        target.write(COLUMNS + "\n")
        for number in range(records):
            if number == bad:
                target.write(ROW.format("@", 0, 1, 0, 0))
            target.write(ROW.format(number, number % 997, 1 + number % 28, number % 24, number % 60))
    return bad + 2


def zegel(config: Path, *words: str, allow: Sequence[int] = ()) -> Any:
    command = [sys.executable, "-m", "relay", *words, "--json", "-c", str(config)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode not in (0, *allow):
        raise SystemExit(f"zegel {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def in_memory(file: Path) -> Iterator[None]:
    """The file lies in memory, and no page of it leaves meanwhile. Raises OSError where this process may not lock so much."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    handle = os.open(file, os.O_RDONLY)
    size = os.fstat(handle).st_size
    try:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE | MAP_LOCKED
        place = library.mmap(None, size, mmap.PROT_READ, flags, handle, 0)
        if place == ctypes.c_void_p(-1).value:
            raise OSError(
                ctypes.get_errno(), f"{size:,} octets cannot be locked in memory: run as root, or `ulimit -l`"
            )
        while os.read(handle, READ_BYTES):
            pass
    finally:
        os.close(handle)
    try:
        yield
    finally:
        library.munmap(place, size)


@contextmanager
def lookup(made: Made) -> Iterator[Lookup]:
    with in_memory(made.database), Lookup(made.database, Keyring.open(made.folder / "keys", create=False)) as found:
        yield found


class Work:
    """What a worker does for one message besides the look-up: judges 10 KB, makes and seals a queue item, renders, signs."""

    def __init__(self, made: Ground) -> None:
        self._made = made
        self._raw = newsletter(MESSAGE_BYTES)

    def __call__(self) -> None:
        made, everyone = self._made, (Recipient(recipient(0)),)
        message = Message.split(self._raw)
        assert isinstance(message, Message)
        ruling = made.intake.judge(made.submission(everyone, message), frozenset({everyone[0].address}))
        item = make_item(made.intake.queue.next_id(), ruling, made.intake.house)
        made.cipher.seal(item.id, item.dump() + self._raw)
        render(item, everyone[0].address, PEER, made.signer, {})


def row_us(reader: Lookup, records: int, draw: random.Random) -> float:
    """CPU microseconds of one look-up as at RCPT, consent and what stands against it, in a row of nothing else."""
    people = [address(draw.randrange(records)) for _ in range(LOOKUPS)]
    began = time.thread_time()
    for person in people:
        states, _ = reader.of_one(1, "newsletter", person)
        assert states[person] is not None, person
    return (time.thread_time() - began) / LOOKUPS * 1e6


def lookup_us(reader: Lookup, records: int, draw: random.Random, work: Work) -> float:
    """The same between the work on messages, which is not counted; nor is the clock."""
    clock = time.thread_time_ns
    spent = 0
    for _ in range(MESSAGES):
        person = address(draw.randrange(records))
        work()
        began = clock()
        states, _ = reader.of_one(1, "newsletter", person)
        spent += clock() - began
        assert states[person] is not None, person
        began = clock()
        spent -= clock() - began
    return spent / MESSAGES / 1e3


def proof_ms(made: Made, draw: random.Random) -> list[float]:
    """Milliseconds of `consent.proof` for one address, the audit row that it leaves included."""
    places = SimpleNamespace(data_dir=made.folder / "data")
    settings = SimpleNamespace(server=places, storage=SimpleNamespace(database=f"sqlite:///{made.database}"))
    owner = Owner.open(settings, Keyring.open(made.folder / "keys", create=False), now=time.time)
    spent = []
    try:
        for _ in range(PROOFS):
            person = address(draw.randrange(made.records))
            began = time.perf_counter()
            found: Any = owner.call("consent.proof", {"tenant": "shop", "address": person})
            spent.append((time.perf_counter() - began) * 1e3)
            assert len(found["events"]) == 1 and found["judgements"][0]["counts"] is True, person
    finally:
        owner.close()
    return sorted(spent)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; the bounds are those of the promise."""

    records: int
    rows_a_second: float | None
    cpu_us_a_row: float | None
    bytes_a_record: float
    lookup_us: float
    lookup_us_small: float
    lookup_ratio: float  # the median of pairs
    row_us: float
    row_us_small: float
    row_ratio: float
    proof_ms: float  # the median
    proof_p99_ms: float

    @property
    def kept(self) -> bool:
        return self.lookup_ratio <= FLAT and self.proof_p99_ms < PROOF_MS


def measure(large: Made, small: Made) -> Report:
    draw = random.Random(SEED)
    costs: list[tuple[float, float]] = []
    rows: list[tuple[float, float]] = []
    with ExitStack() as stack:
        one, other = (stack.enter_context(lookup(made)) for made in (large, small))
        work = Work(stack.enter_context(ground(load(small.folder / "zegel.toml"))))
        for _ in range(4):  # the pages that every look-up reads are in SQLite's own cache then
            for reader, made in ((one, large), (other, small)):
                row_us(reader, made.records, draw)
        for _ in range(PAIRS):
            costs.append((lookup_us(one, large.records, draw, work), lookup_us(other, small.records, draw, work)))
            rows.append((row_us(one, large.records, draw), row_us(other, small.records, draw)))
    proofs = proof_ms(large, draw)
    return Report(
        large.records,
        large.records / large.seconds if large.seconds else None,
        large.cpu_seconds / large.records * 1e6 if large.cpu_seconds else None,
        large.bytes_per_record(),
        *_middle(costs),
        *_middle(rows),
        statistics.median(proofs),
        proofs[len(proofs) * 99 // 100],
    )


def _middle(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Medians: of the large, of the small, and of their ratio pair by pair."""
    return (
        statistics.median(cost for cost, _ in pairs),
        statistics.median(cost for _, cost in pairs),
        statistics.median(cost / base for cost, base in pairs),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--records", type=int, default=LARGE, metavar="N", help="rows of the large ledger")
    parser.add_argument("--scratch", default="/var/tmp", metavar="FOLDER", help="where the ledgers lie: a real disk")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the ledgers there, and take those that are there")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on standard output")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="zegel-ledger-", dir=options.scratch) as scratch:
        home = Path(options.keep or scratch)
        large, small = (make(home / f"ledger-{count}", count) for count in (options.records, SMALL))
        report = measure(large, small)
    if options.json:
        print(json.dumps({**asdict(report), "kept": report.kept}))
        return 0 if report.kept else 1
    if report.rows_a_second:
        print(f"import        {report.rows_a_second:,.0f} rows/s, {report.cpu_us_a_row:.0f} µs CPU a row")
    print(f"disk          {report.bytes_a_record:.0f} bytes a record")
    print(f"look-up       {report.lookup_us:.1f} µs CPU, {report.lookup_us_small:.1f} µs of {SMALL:,}")
    print(f"              {report.lookup_ratio:.2f} times (at most {FLAT:.2f}), each between two messages")
    print(f"  in a row    {report.row_us:.1f} µs CPU, {report.row_us_small:.1f} µs: {report.row_ratio:.2f} times")
    print(f"proof         {report.proof_ms:.1f} ms, p99 {report.proof_p99_ms:.1f} ms (below {PROOF_MS:.0f})")
    return 0 if report.kept else 1


if __name__ == "__main__":
    sys.exit(main())
