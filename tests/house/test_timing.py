"""The rounds in which the cost of code is measured: noise in some of them is no failure, and slow code always is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from tests.harness.timing import ROUNDS, rounds, slowness


def run(*seconds: float, bound: float = 1.0, slower: Iterable[float] = itertools.repeat(1.0)) -> int:
    """How many rounds there were when the call takes so long, again and again."""
    ticks = itertools.accumulate(each for cost in itertools.cycle(seconds) for each in (0.0, cost))
    number, times = 0, iter(slower)
    for timed in rounds(bound, lambda: next(ticks), slower=lambda: next(times)):
        number += 1
        with timed:
            pass
    return number


def test_the_first_round_within_the_bound_is_the_last() -> None:
    assert run(0.9) == 1
    assert run(1.7, 3.0, 0.9) == 3
    assert run(*[1.5] * (ROUNDS - 1), 0.9) == ROUNDS


def test_what_is_slow_in_every_round_fails() -> None:
    with pytest.raises(AssertionError, match=r"^1 s of CPU in the best of 5 rounds"):
        run(1.2, 1.0)


def test_what_was_never_timed_fails() -> None:
    with pytest.raises(AssertionError):
        for _ in rounds(1.0):
            pass


def test_a_machine_that_is_slower_before_and_after_gets_a_wider_bound() -> None:
    assert run(1.8, slower=(2.0, 2.0)) == 1
    assert run(1.8, 0.9, slower=(2.0, 1.0, 1.0, 1.0)) == 2, "it may have been the code"
    assert run(1.8, 0.9, slower=(1.0, 2.0, 1.0, 1.0)) == 2
    with pytest.raises(AssertionError, match=r"^1\.5 s of CPU in the best of 5 rounds"):
        run(3.0, slower=itertools.repeat(2.0))


def test_no_machine_makes_a_bound_narrower() -> None:
    assert all(slowness() >= 1.0 for _ in range(20))
