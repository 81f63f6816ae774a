"""What code costs, on a machine that others use too.

What runs beside a test only adds to its CPU seconds: caches and cores are shared, and the clock of a virtual machine goes on
while another has its turn. So the least of several rounds is nearest to what the code itself costs, and a bound is held against
that: one round within it is enough, and code that is too slow is so in every round.

A bound is written for the machine of docs/speed.md in a quiet hour. On another, or while a neighbour has half of the core, the
same code takes twice as long in every round; so beside each round a fixed piece of work is timed, and the bound is as much wider
as that is slower. It never gets narrower.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from types import TracebackType

ROUNDS = 5
_YARDSTICK_SECONDS = 0.001
"""What the fixed piece of work takes there."""


class Round:
    """`with` it goes what is timed; what is made and looked at before and after costs nothing."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds = float("inf")
        self._clock = clock

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = self._clock() - self._began


def slowness() -> float:
    """How many times slower than the machine that bounds are written for this one is in this moment; at least 1.0."""
    began = time.thread_time()
    _fixed_work()
    return max(1.0, (time.thread_time() - began) / _YARDSTICK_SECONDS)


def _fixed_work() -> int:
    """A bit of all that the code under test does: calls, look-ups, tuples, octets, numbers. Its result is of no use."""
    row, kept, total = struct.Struct("<16sdqq"), {}, 0
    for number in range(700):
        digest = blake2b(b"%d" % number, digest_size=16).digest()
        kept[digest, number & 7] = row.pack(digest, float(number), number, -number)
        key, _, value, _ = row.unpack(kept[digest, number & 7])
        total += value + key[0] + sum(digest)
    return total


def rounds(
    bound: float,
    clock: Callable[[], float] = time.thread_time,
    *,
    slower: Callable[[], float] = slowness,
    number: int = ROUNDS,
) -> Iterator[Round]:
    """Up to `number` rounds, until one took less than `bound` seconds of CPU; an AssertionError after the last. Read anew what
    keeps its answer.

    The seconds are those of this thread, as nothing else in the process is what is measured; `time.process_time` if threads are.
    `slower` is what the bound is multiplied by.
    """
    spent = []
    for _ in range(number):
        timed, before = Round(clock), slower()
        yield timed
        seconds = timed.seconds / min(before, slower())
        if seconds < bound:
            return
        spent.append(seconds)
    raise AssertionError(f"{min(spent):.4g} s of CPU in the best of {number} rounds, and {bound} is too much")
