"""Whether a host may be tried now: exponential back-off per host, with one trial connection after it. Pure.

    fresh --failed--> waiting --time--> trial (one connection) --proven--> fresh
                         ^                     |
                         +------- failed ------+

A host that greets and then fails every session must not look healthy at each greeting, so only `proven`,
an answer to a whole message, forgets the failures.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_DOUBLINGS = 30


class Plan(NamedTuple):
    """First wait, longest wait, first wait after a refused login (a lock-out is worse than a delay); seconds.

    `session_seconds`: the longest after a session that had begun; it may have ended at one message, and others wait behind it.
    """

    first_seconds: float = 5.0
    longest_seconds: float = 600.0
    login_seconds: float = 60.0
    session_seconds: float = 15.0


class HostState(NamedTuple):
    """`failures` in a row, no use before `until` (same clock as `now`), and what the last failure was."""

    failures: int = 0
    until: float = 0.0
    stage: str = ""
    why: str = ""


FRESH = HostState()


class Failure(NamedTuple):
    """What went wrong: `stage` as in SetupFailed, or "session"."""

    stage: str
    why: str


def failed(state: HostState, failure: Failure, now: float, *, plan: Plan = Plan(), jitter: float = 0.0) -> HostState:  # noqa: B008 - immutable
    """The state after a failure at `now`. `jitter` in 0..1 lengthens the wait by up to a fifth.

    Failures of connections that were begun before the wait ran do not lengthen it again.
    """
    if now < state.until:
        return state._replace(stage=failure.stage, why=failure.why)
    first = max(plan.first_seconds, plan.login_seconds) if failure.stage == "auth" else plan.first_seconds
    longest = plan.session_seconds if failure.stage == "session" else plan.longest_seconds
    wait = min(longest, first * 2.0 ** min(state.failures, MAX_DOUBLINGS))
    return HostState(state.failures + 1, now + wait * (1.0 + 0.2 * jitter), failure.stage, failure.why)


def proven(state: HostState) -> HostState:
    """The state after the host has answered for a message."""
    return FRESH if state.failures else state


def allows(state: HostState, now: float, connections: int) -> bool:
    """One more connection may be opened, `connections` being open or under way; after a failure one at a time."""
    return now >= state.until and (state.failures == 0 or connections == 0)


def name_of(state: HostState, now: float) -> str:
    """usable | waiting | trial, for metrics and `zegel doctor`."""
    if state.failures == 0:
        return "usable"
    return "waiting" if now < state.until else "trial"
