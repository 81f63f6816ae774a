"""The rounds in which the cost of code is measured: noise in some of them is no failure, and slow code always is."""

from __future__ import annotations

import itertools

import pytest

from tests.harness.timing import ROUNDS, rounds


def run(*seconds: float, bound: float = 1.0) -> int:
    """How many rounds there were when the call takes so long, again and again."""
    ticks = itertools.accumulate(each for cost in itertools.cycle(seconds) for each in (0.0, cost))
    number = 0
    for timed in rounds(bound, lambda: next(ticks)):
        number += 1
        with timed:
            pass
    return number


def test_the_first_round_within_the_bound_is_the_last() -> None:
    assert run(0.9) == 1
    assert run(1.7, 3.0, 0.9) == 3
    assert run(*[1.5] * (ROUNDS - 1), 0.9) == ROUNDS


def test_what_is_slow_in_every_round_fails() -> None:
    with pytest.raises(AssertionError, match=r"^1\.000 s of CPU in the best of 5 rounds"):
        run(1.2, 1.0)


def test_what_was_never_timed_fails() -> None:
    with pytest.raises(AssertionError):
        for _ in rounds(1.0):
            pass
