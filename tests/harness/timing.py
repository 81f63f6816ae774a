"""What code costs, on a machine that others use too.

What runs beside a test only adds to its CPU seconds: caches and cores are shared, and the clock of a virtual machine goes on
while another has its turn. So the least of several rounds is nearest to what the code itself costs, and a bound is held against
that: one round within it is enough, and code that is too slow is so in every round. No bound is wider for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType

ROUNDS = 5


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


def rounds(bound: float, clock: Callable[[], float] = time.thread_time) -> Iterator[Round]:
    """Rounds until one took less than `bound` seconds of CPU; an AssertionError after the last. Read anew what keeps its answer.

    The seconds are those of this thread, as nothing else in the process is what is measured; `time.process_time` if threads are.
    """
    spent = []
    for _ in range(ROUNDS):
        timed = Round(clock)
        yield timed
        if timed.seconds < bound:
            return
        spent.append(timed.seconds)
    raise AssertionError(f"{min(spent):.3f} s of CPU in the best of {ROUNDS} rounds, and {bound} is too much")
