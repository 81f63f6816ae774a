"""Five days of a dead next hop, in a loop (OUT-2)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.retry import HOUR, SHORT, STANDARD, RetryPlan, next_attempt, problem_of, warning_due


def attempts(plan: RetryPlan, jitter: float, delay: float = 0.0) -> list[float]:
    """Times of all attempts of a message that was queued at 1000.0, each of which takes `delay` seconds to fail."""
    times, now = [1000.0], 1000.0 + delay
    while (due := next_attempt(len(times), 1000.0, now, plan, jitter=jitter)) is not None:
        times.append(due)
        now = due + delay
        assert len(times) < 1000
    return times


@given(st.floats(0, 1), st.sampled_from([STANDARD, SHORT]))
def test_never_more_often_than_half_an_hour_after_two_short_steps(jitter: float, plan: RetryPlan) -> None:
    times = attempts(plan, jitter)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[0] >= 300 and gaps[1] >= 900
    assert min(gaps[2:]) >= 1800 - 1e-6
    assert max(gaps) <= max(plan.steps) * 1.1 + 1800


@given(st.floats(0, 1))
def test_given_up_exactly_at_the_end(jitter: float) -> None:
    assert attempts(STANDARD, jitter)[-1] == 1000.0 + 120 * HOUR
    assert attempts(SHORT, jitter)[-1] == 1000.0 + 4 * HOUR


def test_attempts_that_take_long_still_end() -> None:
    times = attempts(STANDARD, 0.0, delay=600.0)
    assert times[-1] <= 1000.0 + 120 * HOUR
    assert times[-1] >= 1000.0 + 119 * HOUR


def test_first_steps_serve_greylisting() -> None:
    assert next_attempt(1, 0.0, 0.0) == 300.0
    assert next_attempt(2, 0.0, 300.0) == 1200.0
    assert next_attempt(1, 0.0, 0.0, jitter=1.0) == pytest.approx(330.0)


def test_a_message_that_outlived_its_time_is_given_up() -> None:
    assert next_attempt(1, 0.0, 121 * HOUR) is None
    assert next_attempt(40, 0.0, 120 * HOUR) is None
    assert next_attempt(1, 0.0, 4 * HOUR, SHORT) is None


@pytest.mark.parametrize(
    ("hours", "warned", "plan", "due"),
    [
        (3.9, False, STANDARD, False),
        (4.0, False, STANDARD, True),
        (9.0, True, STANDARD, False),
        (9.0, False, SHORT, False),
    ],
)
def test_one_warning_after_four_hours(hours: float, warned: bool, plan: RetryPlan, due: bool) -> None:
    assert warning_due(50.0, 50.0 + hours * HOUR, plan, warned=warned) is due


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        (STANDARD, ""),
        (SHORT, ""),
        (RetryPlan(steps=(300.0, 900.0, 600.0)), "1800"),
        (RetryPlan(steps=(300.0,)), "1800"),
        (RetryPlan(steps=()), "positive"),
        (RetryPlan(steps=(0.0, 900.0, 1800.0)), "positive"),
        (RetryPlan(give_up_seconds=60.0), "half an hour"),
    ],
)
def test_plan_that_breaks_the_rule_is_told_with_its_remedy(plan: RetryPlan, word: str) -> None:
    problem = problem_of(plan)
    assert (word in problem) if word else problem == ""
