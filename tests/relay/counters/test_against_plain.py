"""The shared table against limits written plainly, over histories that hypothesis makes up."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.counters.contract import DAY, MINUTE, Limit
from relay.counters.embedded import EmbeddedCounters
from tests.harness.many import examples
from tests.relay.counters.plain import PlainLimits

# Amounts that divide a minute into whole nanoseconds, also after they were raised, so that fractions and nanoseconds are the same
# numbers.
RATES = [
    Limit("messages_per_minute", "credential", name, amount, MINUTE, burst)
    for name, amount, burst in (("a", 6, 6), ("b", 30, 3))
]
DAYS = [Limit("recipients_per_day", "tenant", name, amount, DAY) for name, amount in (("a", 20), ("b", 50))]
BEGIN = 490_000 * 3600

steps = st.tuples(
    st.one_of(
        st.just(0), st.integers(0, 30), st.integers(0, 4 * 3600), st.integers(0, 40 * 3600)
    ),  # seconds since the last
    st.lists(st.sampled_from(RATES), unique=True, max_size=2),
    st.lists(st.sampled_from(DAYS), unique=True, max_size=2),
    st.integers(1, 7),  # messages
    st.integers(1, 20),  # recipients
    st.booleans(),  # park
    st.sampled_from([1, 1, 1, 10]),  # times that the limits of a minute are raised
)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(steps, max_size=40))
def test_every_history_is_answered_as_the_plain_limits_answer_it(history: list[tuple]) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        counters, plain, now = EmbeddedCounters(Path(folder)), PlainLimits(), BEGIN
        for wait, rates, days, messages, recipients, park, times in history:
            now += wait
            raised = [limit._replace(amount=limit.amount * times, burst=limit.burst * times) for limit in rates]
            charges = [(limit, messages) for limit in raised] + [(limit, recipients) for limit in days]
            looked = counters.peek(charges, now, park=park)
            answer = counters.take(charges, now, park=park)
            expected = plain.take(charges, now, park=park)
            assert answer._replace(receipt=None) == looked
            assert answer.granted == expected.granted, (charges, now, park)
            if answer.granted:
                assert abs(max(answer.due, now) - expected.due) < 1e-3, (charges, now, park)
                assert bool(answer.limit) == (answer.due > now)
        counters.close()


paces = st.tuples(st.floats(0, 20), st.sampled_from([1, 7, 60, 600, 1_000_003]), st.integers(1, 100))


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(paces, max_size=60))
def test_a_limit_that_changes_lets_no_more_through_than_the_largest_of_them(
    history: list[tuple[float, int, int]],
) -> None:
    """Between any two messages, whatever was set in between: the burst, and what the pace allows in that time."""
    went: list[tuple[float, int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        counters, now = EmbeddedCounters(Path(folder)), float(BEGIN)
        for wait, amount, messages in history:
            now += wait
            limit = Limit("messages_per_minute", "credential", "a", amount, MINUTE, amount)
            if counters.take([(limit, messages)], now, park=False).granted:
                went.append((now, amount, messages))
            assert counters.used(limit, now) <= max(amount, sum(units for _, _, units in went))
        counters.close()
    for first, (begin, _, _) in enumerate(went):
        total, most = 0, 0
        for end, amount, messages in went[first:]:
            total, most = total + messages, max(most, amount)
            assert total <= most + (end - begin) * most / MINUTE + 1e-3


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3 * 3600), st.integers(1, 30)), max_size=60))
def test_no_24_hours_ever_hold_more_than_the_limit(history: list[tuple[int, int]]) -> None:
    """Counted by the time at which messages leave, not by the books of the counters."""
    limit = Limit("recipients_per_day", "tenant", "shop", 40, DAY)
    left: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        counters, now = EmbeddedCounters(Path(folder)), BEGIN
        for wait, recipients in history:
            now += wait
            answer = counters.take([(limit, recipients)], now, park=True)
            if answer.granted:
                left.append((int(max(answer.due, now)) // 3600, recipients))
        counters.close()
    for end, _ in left:
        assert sum(units for hour, units in left if end - 24 < hour <= end) <= limit.amount
