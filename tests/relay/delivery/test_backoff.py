"""Hosts that fail: waits double, end, and are forgotten only when mail has gone through."""

from relay.delivery.backoff import FRESH, Failure, HostState, Plan, allows, failed, name_of, proven

PLAN = Plan(first_seconds=5.0, longest_seconds=600.0, login_seconds=60.0)
DOWN = Failure("connect", "cannot connect: Connection refused")


def dead_for(times: int, failure: Failure = DOWN) -> tuple[HostState, list[float]]:
    state, now, waits = FRESH, 0.0, []
    for _ in range(times):
        state = failed(state, failure, now, plan=PLAN)
        waits.append(state.until - now)
        now = state.until
    return state, waits


def test_waits_double_up_to_the_longest() -> None:
    _, waits = dead_for(10)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_ten_thousand_failures_do_not_overflow() -> None:
    state, waits = dead_for(10_000)
    assert waits[-1] == 600.0
    assert state.failures == 10_000


def test_refused_login_waits_longer_at_once() -> None:
    _, waits = dead_for(3, Failure("auth", "535 5.7.8 no"))
    assert waits == [60, 120, 240]


def test_jitter_only_lengthens() -> None:
    assert failed(FRESH, DOWN, 100.0, plan=PLAN, jitter=1.0).until == 106.0


def test_eight_connections_that_fail_together_count_once() -> None:
    state = failed(FRESH, DOWN, 100.0, plan=PLAN)
    for _ in range(7):
        state = failed(state, Failure("session", "connection lost"), 101.0, plan=PLAN)
    assert (state.failures, state.until) == (1, 105.0)
    assert state.why == "connection lost"


def test_after_the_wait_one_connection_is_a_trial_and_only_mail_proves_it() -> None:
    state = failed(FRESH, DOWN, 100.0, plan=PLAN)
    assert not allows(state, 104.9, 0)
    assert name_of(state, 104.9) == "waiting"
    assert allows(state, 105.0, 0)
    assert not allows(state, 105.0, 1)
    assert name_of(state, 105.0) == "trial"
    assert allows(proven(state), 105.0, 7)
    assert name_of(proven(state), 0.0) == "usable"


def test_sessions_that_end_at_a_message_never_keep_the_host_waiting_long() -> None:
    """It may be that message alone, and all other mail waits behind it."""
    state, now = FRESH, 0.0
    for _ in range(12):
        state = failed(
            state, Failure("session", "421 closing"), now, plan=Plan(first_seconds=5.0, longest_seconds=600.0)
        )
        assert state.until - now <= 15.0
        now = state.until
    assert failed(state, Failure("connect", "refused"), now, plan=Plan()).until - now == 600.0
