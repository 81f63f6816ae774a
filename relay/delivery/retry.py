"""When a deferred message is tried again, when its sender is warned and when it is given up (OUT-2). Pure.

RFC 5321 section 4.5.4.1: not more often than every 30 minutes, for four to five days; one or two shorter
first steps are allowed, which is what greylisting needs.
"""

from __future__ import annotations

from typing import NamedTuple

HOUR = 3600.0
LEAST_SECONDS = 1800.0
MAX_SHORT_STEPS = 2


class RetryPlan(NamedTuple):
    """Waits between attempts in seconds, the last one repeats; age at which to warn (0.0: never) and to give up."""

    steps: tuple[float, ...] = (300.0, 900.0, 1800.0, 1800.0, 3600.0, 3600.0, 7200.0, 7200.0, 14400.0)
    give_up_seconds: float = 120 * HOUR
    warn_seconds: float = 4 * HOUR


STANDARD = RetryPlan()
SHORT = RetryPlan(steps=(300.0, 900.0, 1800.0), give_up_seconds=4 * HOUR, warn_seconds=0.0)


def problem_of(plan: RetryPlan) -> str:
    """What is wrong with a plan from settings, with the remedy; "" if nothing is."""
    if not plan.steps or min(plan.steps) <= 0:
        return "retry steps must be positive seconds; write for instance 300, 900, 1800"
    if min(plan.steps[MAX_SHORT_STEPS:], default=LEAST_SECONDS) < LEAST_SECONDS or len(plan.steps) <= MAX_SHORT_STEPS:
        return "from the third retry on a step must be 1800 seconds or more (OUT-2)"
    if plan.give_up_seconds < LEAST_SECONDS:
        return "give up after at least half an hour"
    return ""


def next_attempt(
    tries: int, queued_at: float, now: float, plan: RetryPlan = STANDARD, *, jitter: float = 0.0
) -> float | None:
    """When to try again after the `tries`th attempt (1 or more) was deferred at `now`; None: give up.

    Times are seconds since the epoch. `jitter` in 0..1 lengthens a step by up to a tenth. The last attempt falls on
    the moment of giving up: a step that would leave less than half an hour after it is stretched to there.
    """
    last = queued_at + plan.give_up_seconds
    step = plan.steps[min(max(tries, 1), len(plan.steps)) - 1]
    due = now + step * (1.0 + 0.1 * jitter)
    if due <= last - LEAST_SECONDS:
        return due
    return last if last - now >= min(step, LEAST_SECONDS) else None


def warning_due(queued_at: float, now: float, plan: RetryPlan = STANDARD, *, warned: bool = False) -> bool:
    """The sender is to be told of the delay now (once, if he did not say otherwise with NOTIFY)."""
    return not warned and plan.warn_seconds > 0 and now - queued_at >= plan.warn_seconds
