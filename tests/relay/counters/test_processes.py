"""Several processes on one table: never more than the limit, no lock left behind, nothing forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relay.counters.contract import DAY, FIRST_TIME, MINUTE, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.ring import tally
from relay.counters.table import Table
from relay.reputation.book import place_of
from tests.fakes.clock import START
from tests.harness.counters import Driven
from tests.harness.redis import RedisServer

ROOT = Path(__file__).parents[3]
LIMITS = [
    (Limit("messages_per_minute", "tenant", "shop", 1000, MINUTE, 1000), 1),
    (Limit("recipients_per_day", "tenant", "shop", 4500, DAY), 5),
]
TAKER = f"""
import sys
from pathlib import Path
from relay.counters.contract import Limit
from relay.counters.embedded import EmbeddedCounters
limits = [(Limit(*limit), cost) for limit, cost in {[(tuple(limit), cost) for limit, cost in LIMITS]!r}]
counters = EmbeddedCounters(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
granted = sum(counters.take(limits, {START}, park=False).granted for _ in range(2000))
# New names make the table grow under the others' feet.
hits = [counters.hit(f"{{sys.argv[2]}}-{{number}}", 600, {START}) for number in range(1500)]
counters.hit("shared", 600, {START}, 7)
assert set(hits) == {{1}}
print(granted, flush=True)
"""
SHARER = f"""
import asyncio, sys
from pathlib import Path
from relay.counters.contract import Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import open_shared
from relay.settings.storage import Storage
limits = [(Limit(*limit), cost) for limit, cost in {[(tuple(limit), cost) for limit, cost in LIMITS]!r}]
mixed = [limits, limits[:1], [(limits[1][0], 7)]]

async def main(url, folder, attempts):
    folder.mkdir()
    shared = open_shared(Storage(counters=url, counters_timeout_seconds=10.0), EmbeddedCounters(folder))
    granted = [0, 0, 0]
    async def session(first):
        for number in range(first, attempts, 50):
            kind = number % 3
            allowance = await shared.take(mixed[kind], {START}, once=number, park=False)
            granted[kind] += allowance.granted
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(session(first) for first in range(50)))
    assert not shared.is_degraded
    print(*granted, flush=True)
    await shared.close()

asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
"""
HOLDER = """
import os, sys
from pathlib import Path
from relay.counters.table import Table
table = Table(Path(sys.argv[1]))
table.lock()
print("locked", flush=True)
sys.stdin.readline()
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_four_processes_take_exactly_what_there_is(tmp_path: Path) -> None:
    processes = [start(TAKER, str(tmp_path), str(number)) for number in range(4)]
    assert [line(process) for process in processes] == ["ready"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    granted = [int(process.communicate()[0].split()[-1]) for process in processes]
    assert sum(granted) == 900, "4500 recipients a day, 5 each; the minute would have let 1000 through"
    counters = EmbeddedCounters(tmp_path)
    assert [counters.used(limit, START) for limit, _ in LIMITS] == [900, 4500]
    assert counters.count("shared", 600, START) == 28
    assert all(counters.count(f"{process}-{number}", 600, START) == 1 for process in range(4) for number in (0, 1499))
    assert counters._table.slots > 6000, "6000 names do not fit into the first table"
    assert sorted(path.name.partition(".")[0] for path in tmp_path.iterdir()) == ["counters", "counters"]
    counters.close()


STRANGERS = Limit(FIRST_TIME, "credential", "c:ann", 1500, DAY, 0, 7)
WRITER = f"""
import sys
from pathlib import Path
from relay.counters.contract import Limit
from relay.counters.embedded import EmbeddedCounters
limit = Limit(*{tuple(STRANGERS)!r})
counters = EmbeddedCounters(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
order = range(1, 2001) if sys.argv[2] == "up" else range(2000, 0, -1)
for number in order:
    people = (number * 2654435761 % 2**32).to_bytes(4, "big")
    counters.take([(limit._replace(people=people), 1)], {START}, park=False)
print("done", flush=True)
"""


def test_four_processes_that_write_to_the_same_people_meet_each_once(tmp_path: Path) -> None:
    """Each tries the same 2,000 strangers, from both ends; the table grows meanwhile, and a restart knows who was met."""
    processes = [start(WRITER, str(tmp_path), "up" if number % 2 else "down") for number in range(4)]
    assert [line(process) for process in processes] == ["ready"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0].split()[-1] for process in processes] == ["done"] * 4
    counters = EmbeddedCounters(tmp_path)
    assert counters.used(STRANGERS, START) == 1500
    marks = [(number * 2654435761 % 2**32).to_bytes(4, "big") for number in range(1, 2001)]
    known = [counters.peek([(STRANGERS._replace(people=mark), 1)], START).granted for mark in marks]
    assert sum(known) == 1500, "whoever was counted is known, and nobody else"
    counters.close()


def test_three_gateways_on_one_redis_take_exactly_what_there_is(tmp_path: Path, server: RedisServer) -> None:
    """Of messages that are charged to both limits, to the one and to the other, from 150 sessions."""
    processes = [start(SHARER, server.url, str(tmp_path / str(number)), "4000") for number in range(3)]
    assert [line(process) for process in processes] == ["ready"] * 3
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[0].split() for process in processes]
    both, minute, day = (sum(int(row[kind]) for row in told) for kind in range(3))
    assert both + minute == 1000
    assert 4500 - 5 < 5 * both + 7 * day <= 4500
    driven = Driven(server.url)
    assert [driven.used(limit, START) for limit, _ in LIMITS] == [1000, 5 * both + 7 * day]
    driven.close()


def test_a_holder_that_is_killed_frees_the_lock(tmp_path: Path) -> None:
    holder = start(HOLDER, str(tmp_path))
    assert line(holder) == "locked"
    counters = EmbeddedCounters.__new__(EmbeddedCounters)  # its constructor would wait for the lock, as it should
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    counters.__init__(tmp_path)  # type: ignore[misc]  # see above
    assert counters.take(LIMITS, START, park=False).granted
    counters.close()
    for stream in (holder.stdin, holder.stdout):
        assert stream is not None
        stream.close()


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    first = EmbeddedCounters(tmp_path)
    first.take([(limit, 900) for limit, _ in LIMITS], START, park=False)
    first.block("192.0.2.1", START + 900, START)
    first.close()
    second = EmbeddedCounters(tmp_path)
    assert [second.used(limit, START) for limit, _ in LIMITS] == [900, 900]
    assert second.blocked_until("192.0.2.1", START) == START + 900
    second.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_after_a_fork_has_a_lock_of_its_own(tmp_path: Path) -> None:
    """A lock belongs to the open file: with the parent's descriptor the child would walk straight in."""
    table = Table(tmp_path)
    table.lock()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        table.lock()
        os.write(write, b"in")
        os._exit(0)
    os.close(write)
    os.set_blocking(read, False)
    # The child cannot write before unlock, however long it has had.
    with pytest.raises(BlockingIOError):
        os.read(read, 2)
    table.unlock()
    os.set_blocking(read, True)
    assert os.read(read, 2) == b"in"
    os.close(read)
    assert os.waitpid(child, 0)[1] == 0
    table.close()


TELLER = f"""
import asyncio, sys
from pathlib import Path
from relay.counters.embedded import EmbeddedCounters
from relay.counters.ring import BOUNCED, DELIVERED, News
from relay.reputation.book import Book, Sender
from relay.reputation.judge import Bounds
sender = Sender(7, "shop-news", "marketing", "shop.example")

async def main():
    counters = EmbeddedCounters(Path(sys.argv[1]))
    book = Book(counters.windows, Bounds())
    print("ready", flush=True)
    sys.stdin.readline()
    changes = []
    for number in range(250):
        changes += await book.add(sender, News(bytes([BOUNCED if number % 5 == 0 else DELIVERED])), {START})
        counters.hit(f"{{sys.argv[2]}}-{{number}}", 600, {START})
    print(*(f"{{change.scope}}:{{change.before}}:{{change.after}}" for change in changes), flush=True)

asyncio.run(main())
"""


def test_outcomes_of_four_processes_are_all_counted_and_each_change_is_one_process_s(tmp_path: Path) -> None:
    EmbeddedCounters(tmp_path).close()
    tellers = [
        subprocess.Popen(
            [sys.executable, "-c", TELLER, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for number in range(4)
    ]
    for teller in tellers:
        assert teller.stdout is not None and teller.stdout.readline() == "ready\n"
    for teller in tellers:
        assert teller.stdin is not None
        teller.stdin.write("go\n")
        teller.stdin.flush()
    changes = [change for teller in tellers for change in teller.communicate(timeout=60)[0].split()]
    counters = EmbeddedCounters(tmp_path)
    counted = tally(asyncio.run(counters.windows.get(place_of(7, "tenant", ""), START)))
    counters.close()
    assert counted[:4] == (1000, 1000, 200, 0)
    by_scope: dict[str, list[str]] = {}
    for change in changes:
        scope, _, levels = change.partition(":")
        by_scope.setdefault(scope, []).append(levels)
    assert set(by_scope) == {"credential", "stream", "domain", "tenant"}
    for told in by_scope.values():
        assert len(told) == len(set(told)) and sorted(told)[-1].endswith(":3")
