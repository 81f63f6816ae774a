"""Redis and the embedded table answer every history alike, to the last digit: one arithmetic, written in two languages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from relay.counters.contract import (
    AT_ONCE,
    BEHIND,
    CAMPAIGN,
    DAY,
    FIRST_TIME,
    IN_LINE,
    MINUTE,
    SHARED,
    SUDDEN,
    UNASKED,
    URGENT,
    WARM_UP,
    Limit,
)
from relay.counters.embedded import EmbeddedCounters
from relay.counters.remote import RedisCounters, key_of, once_key
from relay.counters.table import KEY_BYTES
from relay.counters.table import RATE as TABLE_RATE
from tests.harness.counters import Driven
from tests.harness.many import examples
from tests.harness.redis import RedisServer

BEGIN = 1_767_225_600.0
# Amounts that do not divide a minute as well: intervals are then rounded down, in both.
RATES = [
    Limit("messages_per_minute", scope, name, amount, MINUTE, burst, tenant, behind=0 if tenant else SHARED)
    for scope, name, amount, burst, tenant in (
        ("credential", "a", 6, 6, 7),
        ("tenant", "b", 30, 3, 7),
        ("stream", "c", 7, 7, 7),
        ("client", "d", 1, 0, 0),
        ("domain", "e", 1_000_003, 17, 0),
        ("client", "d", 1, UNASKED, 0),
        ("tenant", "b", 30, UNASKED, 7),
    )
]
PAIRS = [
    (limit._replace(key=limit.key + URGENT, since=AT_ONCE), limit._replace(key=f"{limit.key}{BEHIND}7", since=IN_LINE))
    for limit in RATES[1:5]
]
DAYS = [
    Limit("recipients_per_day", scope, name, amount, DAY, 0, 7)
    for scope, name, amount in (("tenant", "a", 20), ("credential", "b", 50), ("stream", "c", 13))
]
DAYS += [Limit("recipients_per_day", "client", "d", 11, DAY, behind=SHARED)]
DAYS += [
    Limit(WARM_UP, scope, "w", amount, DAY, normal, 7, since, behind)
    for scope, amount, normal, since, behind in (
        ("credential", 20, 100, BEGIN - 1000.1, 1),
        ("domain", 7, 1000, BEGIN + 3600, 0),
    )
]
DAYS += [Limit(SUDDEN, "credential", name, amount, 3600, 2, 7) for name, amount in (("h", 20), ("i", 1))]
DAYS += [
    Limit(CAMPAIGN, "credential", name, amount, 3600, 2, 7, behind=behind)
    for name, amount, behind in (("k", 9, 0), ("l", 9, 20))
]
DAYS += [Limit(FIRST_TIME, "credential", "c", 9, DAY, 0, 7, behind=behind, people=b"?") for behind in (0, 3)]
A_YEAR = 365 * 86_400.0

daily = st.one_of(
    st.just(0.0),
    st.floats(0, 30),
    st.integers(0, 4 * 3600).map(float),
    st.integers(0, 100).map(lambda hours: hours * 3600.0),  # to the very edge of a step
    st.floats(0, 40 * 3600),
    st.floats(10 * 86_400, 20 * 86_400),
    st.floats(-30 * 3600, 0),  # a clock set back
)
seconds = st.one_of(daily, st.sampled_from([A_YEAR, -A_YEAR]))  # and a clock that is plainly wrong
charges = st.tuples(
    st.lists(st.sampled_from(RATES), unique=True, max_size=3),
    st.lists(st.sampled_from(DAYS), unique=True, max_size=3),
    st.integers(1, 40),  # messages
    st.integers(1, 60),  # recipients: above some whole limits
    st.integers(0, 3),  # how much the limits were raised or lowered meanwhile
    st.sampled_from([1, 1, 1, 7, 1_000, 999_983]),  # and times that those of a minute were raised
    st.sampled_from([0, 0, 7, 200, 4_000]),  # whom it goes to, from here on
    st.lists(st.sampled_from(PAIRS), unique=True, max_size=2),
)
steps = st.tuples(seconds, charges, st.booleans(), st.sampled_from([0, 0, 30]))


def met(limit: Limit, first: int, count: int) -> Limit:
    """With the marks of so many; some of them lie in one bucket of every level, so that buckets are soon full."""
    if not limit.people:
        return limit
    marks = ((number % 90 * 4096 + number // 90).to_bytes(4, "big") for number in range(first + 1, first + count + 1))
    return limit._replace(people=b"".join(marks))


@pytest.fixture(scope="module")
def remote(running_redis: RedisServer) -> Iterator[Driven]:
    driven = Driven(running_redis.url)
    yield driven
    driven.close()


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, max_size=25))
def test_every_take_is_answered_alike(history: list[Any], running_redis: RedisServer, remote: Driven) -> None:
    running_redis.ask("FLUSHALL")
    now = BEGIN
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedCounters(Path(folder))
        is_wrong = False
        for wait, (rates, days, messages, recipients, raised, times, first, pairs), park, most in history:
            now += wait
            is_wrong = is_wrong or abs(wait) == A_YEAR  # then who is a stranger is not promised: see the next test
            paces = [*rates, *(limit for pair in pairs for limit in pair)]
            asked = [(limit._replace(amount=(limit.amount + raised * 5) * times), messages) for limit in paces]
            asked += [(limit._replace(amount=max(0, limit.amount + (raised - 1) * 7)), recipients) for limit in days]
            asked = [(met(limit, first, cost), cost) for limit, cost in asked]
            strangers = [one for one in asked if one[0].people]
            asked = [
                one for one in asked if not one[0].people or (one is strangers[0] and not is_wrong)
            ]  # one a message
            told = embedded.peek(asked, now, park=park, max_parked=most)._replace(receipt=None)
            assert remote.peek(asked, now, park=park, max_parked=most) == told
            answer = embedded.take(asked, now, park=park, max_parked=most)._replace(receipt=None)
            assert remote.take(asked, now, park=park, max_parked=most) == answer, (asked, now, park, most)
            for limit, _ in asked:
                assert remote.used(limit, now) == embedded.used(limit, now), (limit, now)
            event("parked" if answer.granted and answer.due else "granted" if answer.granted else "refused")
        embedded.close()


RATE = Limit("messages_per_minute", "stream", "r", 1, MINUTE, 1, 7)
amounts = st.one_of(st.integers(1, 9), st.integers(1, 10_000), st.integers(1, 10**11))
paces = st.tuples(st.one_of(st.floats(0, 5), st.floats(-9, 900)), amounts, st.integers(1, 60), st.booleans())


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(paces, max_size=25))
def test_a_backlog_is_rescaled_alike(history: list[Any], running_redis: RedisServer, remote: Driven) -> None:
    """To the nanosecond, from and to any amount: in Lua the product of ahead and interval is beyond what a number holds."""
    running_redis.ask("FLUSHALL")
    now = BEGIN
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedCounters(Path(folder))
        for wait, amount, messages, park in history:
            now += wait
            limit = RATE._replace(amount=amount, burst=amount)
            assert remote.used(limit, now) == embedded.used(limit, now), (limit, now)
            answer = embedded.take([(limit, messages)], now, park=park)._replace(receipt=None)
            assert remote.take([(limit, messages)], now, park=park) == answer, (limit, now)
            if answer.granted:  # what they keep is the same
                place = embedded._table.find(limit[:3])
                _, tat, made, at_ns = TABLE_RATE.unpack_from(embedded._table.raw, place + KEY_BYTES)
                kept = running_redis.ask("GET", key_of(limit))
                assert [int(part) for part in kept.split()] == [*divmod(tat, 10**9), made, tat - at_ns]
            event("parked" if answer.granted and answer.due else "granted" if answer.granted else "refused")
        embedded.close()


people = st.tuples(
    daily,
    st.sampled_from([0, 0, 7, 30, 200, 4_000, 70_000]),
    st.integers(1, 500),
    st.sampled_from([0, 10, 600, 2**31]),
    st.sampled_from([0, 0, 2]),
    st.booleans(),
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(people, max_size=30), leap=st.integers(0, 60))
def test_who_is_known_is_known_to_both(
    history: list[Any], leap: int, running_redis: RedisServer, remote: Driven
) -> None:
    """Also where buckets are full down to the last level, and after a silent year. Whom a clock that is a year wrong makes a
    stranger is not promised: embedded forgets bucket by bucket, Redis an account at a time.
    """
    running_redis.ask("FLUSHALL")
    now = BEGIN
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedCounters(Path(folder))
        for turn, (wait, first, count, amount, days, park) in enumerate(history):
            now += wait + (A_YEAR if turn == leap else 0.0)
            limit = met(Limit(FIRST_TIME, "credential", "c", amount, DAY, 0, 7, behind=days, people=b"?"), first, count)
            answer = embedded.take([(limit, count)], now, park=park)._replace(receipt=None)
            assert remote.take([(limit, count)], now, park=park) == answer
            assert remote.used(limit, now) == embedded.used(limit, now)
            event("parked" if answer.granted and answer.due else "granted" if answer.granted else "refused")
        embedded.close()


counts = st.tuples(seconds, st.sampled_from(["a", "b"]), st.sampled_from([1, 1, 5]), st.booleans())


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(counts, max_size=30), window=st.sampled_from([600.0, 86_400.0, 1_000.0]))
def test_every_count_and_block_is_answered_alike(
    history: list[Any], window: float, running_redis: RedisServer, remote: Driven
) -> None:
    running_redis.ask("FLUSHALL")
    now = BEGIN
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedCounters(Path(folder))
        for wait, key, amount, blocks in history:
            now += wait
            assert remote.count(key, window, now) == embedded.count(key, window, now)
            assert remote.hit(key, window, now, amount) == embedded.hit(key, window, now, amount)
            if blocks:
                remote.block(key, now + 60 * amount, now)
                embedded.block(key, now + 60 * amount, now)
            assert remote.blocked_until(key, now + 59) == embedded.blocked_until(key, now + 59)
        embedded.close()


def test_a_charge_can_be_given_back_for_as_long_as_an_answer_may_take(running_redis: RedisServer) -> None:
    """A commit that fails after minutes (`limits.reply_timeout_seconds`) was charged for good, and each retry again."""
    running_redis.ask("FLUSHALL")
    driven = Driven(running_redis.url, lambda wire: RedisCounters(wire, 600.0))
    limit = RATES[0]
    told = driven.take([(limit, 2)], BEGIN, park=False)
    assert 600_000 < int(running_redis.ask("PTTL", once_key(limit, "1"))) <= 660_000
    driven.give_back([(limit, 2)], BEGIN + 599.0, told)
    assert driven.used(limit, BEGIN) == 0
    driven.close()
