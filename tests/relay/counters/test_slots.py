"""Limits that lie in several slots are charged together or not at all, though no one script sees them all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from relay.counters.contract import DAY, FIRST_TIME, MINUTE, SUDDEN, UNASKED, URGENT, WARM_UP, Charge, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.remote import key_of, tag_of
from relay.counters.slots import SlottedCounters
from tests.harness.counters import Driven
from tests.harness.many import examples
from tests.harness.redis import RedisServer

BEGIN = 1_767_225_600
RATES = [
    Limit("messages_per_minute", "tenant", "t:7", 30, MINUTE, 30, 7),
    Limit("messages_per_minute", "client", "i:192.0.2.1", 7, MINUTE, 3),
    Limit("messages_per_minute", "domain", "d:shop.example", 6, MINUTE, 6),
]
DAYS = [
    Limit("recipients_per_day", "tenant", "t:7", 40, DAY, 0, 7),
    Limit("recipients_per_day", "client", "i:192.0.2.1", 25, DAY),
    Limit("recipients_per_day", "domain", "d:shop.example", 60, DAY),
]
NEVER_ENOUGH = Limit("messages_per_minute", "domain", "d:full.example", 1, MINUTE, 1)


@pytest.fixture(scope="module")
def slotted(running_redis: RedisServer) -> Iterator[Driven]:
    driven = Driven(running_redis.url, SlottedCounters)
    yield driven
    driven.close()


def test_the_limits_of_a_tenant_share_a_slot_and_no_others_do() -> None:
    own = [
        Limit("messages_per_minute", scope, f"{scope}", 1, MINUTE, 1, 7) for scope in ("credential", "stream", "tenant")
    ]
    assert {tag_of(limit) for limit in own} == {"t7"}
    assert all("{t7}" in key_of(limit) for limit in own) and len({key_of(limit) for limit in own}) == 3
    assert len({tag_of(limit) for limit in RATES}) == 3
    # The same address in another count is another key, in a slot of its own.
    assert tag_of(RATES[1]) != tag_of(DAYS[1])


rates = st.tuples(
    st.integers(0, 20), st.lists(st.sampled_from(RATES), unique=True, min_size=1), st.integers(1, 9), st.booleans()
)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(rates, max_size=30))
def test_rates_in_many_slots_are_answered_as_in_one_table(
    history: list[Any], slotted: Driven, running_redis: RedisServer
) -> None:
    """And what one slot refused is given back by the others, to the nanosecond."""
    running_redis.ask("FLUSHALL")
    now = BEGIN
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedCounters(Path(folder))
        for wait, limits, messages, park in history:
            now += wait
            charges: list[Charge] = [(limit, messages) for limit in limits]
            answer = embedded.take(charges, now, park=park)._replace(receipt=None)
            assert slotted.take(charges, now, park=park) == answer
            assert [slotted.used(limit, now) for limit in RATES] == [embedded.used(limit, now) for limit in RATES]
            event("granted" if answer.granted else "refused")
        embedded.close()


def test_what_is_given_back_is_counted_as_the_pace_counts_it_by_then(
    slotted: Driven, running_redis: RedisServer
) -> None:
    running_redis.ask("FLUSHALL")
    limit, slow = RATES[0], RATES[0]._replace(amount=7, burst=7)
    run, remote = slotted._run, slotted.remote
    for number, other in enumerate((slow, limit)):  # charged by both in turn
        assert run(remote.take([(limit, 3)], BEGIN, once=f"a{number}", park=True)).granted
        assert run(remote.take([(other, 2)], BEGIN, once=f"b{number}", park=True)).granted
        assert slotted.used(limit, BEGIN) == slotted.used(slow, BEGIN) == 5
        assert run(remote.give([(limit, 3)], f"a{number}"))
        assert slotted.used(limit, BEGIN) == slotted.used(slow, BEGIN) == 2
        assert run(remote.give([(other, 2)], f"b{number}"))
        assert slotted.used(limit, BEGIN) == 0
    assert run(remote.take([(limit, 3)], BEGIN, once="c", park=True)).granted
    running_redis.ask("SET", key_of(limit), f"{BEGIN + 10} 0")  # as an older version writes it: five of two seconds
    assert run(remote.give([(limit, 3)], "c")) and slotted.used(limit, BEGIN) == 2


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(rates, st.sampled_from([1, 2, 10, 1000])), max_size=20))
def test_rates_in_many_slots_are_raised_and_lowered(
    history: list[Any], slotted: Driven, running_redis: RedisServer
) -> None:
    """What was charged and given back again in between has no part in it."""
    running_redis.ask("FLUSHALL")
    passed = dict.fromkeys(RATES, 0)
    for (_, limits, messages, _), times in history:
        raised = [limit._replace(amount=limit.amount * times, burst=limit.burst * times) for limit in limits]
        if slotted.take([(limit, messages) for limit in raised], BEGIN, park=False).granted:
            passed.update((limit, passed[limit] + messages) for limit in limits)
            assert all(passed[limit] <= most.burst for limit, most in zip(limits, raised, strict=True))
        assert {limit: slotted.used(limit, BEGIN) for limit in RATES} == passed


SUDDENLY = Limit(SUDDEN, "credential", "h:office", 5, 3600, 5, 7)
NEW = Limit(WARM_UP, "credential", "w:office", 3, DAY, 100, 7, float(BEGIN))


def test_signs_are_given_back_where_another_slot_refuses(slotted: Driven, running_redis: RedisServer) -> None:
    """Else a tool that is told to wait would look like a thief."""
    running_redis.ask("FLUSHALL")
    both: list[Charge] = [(SUDDENLY, 1), (NEW, 1), (RATES[1], 1)]
    granted = [slotted.take(both, BEGIN, park=False).granted for _ in range(10)]
    assert granted == [True] * 3 + [False] * 7
    assert slotted.used(SUDDENLY, BEGIN) == 3 and slotted.used(NEW, BEGIN) == 3


def test_nobody_becomes_known_by_what_another_slot_refuses(slotted: Driven, running_redis: RedisServer) -> None:
    running_redis.ask("FLUSHALL")
    people = b"".join(number.to_bytes(4, "big") for number in range(1, 101))
    strangers = Limit(FIRST_TIME, "credential", "c:office", 150, DAY, 0, 7, people=people)
    full: list[Charge] = [(NEVER_ENOUGH, 2)]
    for _ in range(3):
        assert not slotted.take([(strangers, 100), *full], BEGIN, park=False).granted
        assert slotted.used(strangers, BEGIN) == 0
    assert slotted.take([(strangers, 100)], BEGIN, park=False).granted and slotted.used(strangers, BEGIN) == 100
    assert not slotted.take([(strangers, 100), *full], BEGIN, park=False).granted
    assert slotted.take([(strangers, 100)], BEGIN, park=False).granted and slotted.used(strangers, BEGIN) == 100


def test_a_warm_up_parks_over_slots_and_the_others_charge_now(slotted: Driven, running_redis: RedisServer) -> None:
    running_redis.ask("FLUSHALL")
    charges: list[Charge] = [(SUDDENLY, 2), (NEW, 2), (DAYS[0], 2), (DAYS[1], 2)]
    dues = [slotted.take(charges, BEGIN, park=True) for _ in range(4)]
    assert [one.due for one in dues] == [0.0, *(BEGIN + DAY * (1 + filled / 6) for filled in (0, 2, 4))]
    assert all(one.granted for one in dues) and slotted.used(DAYS[1], BEGIN) == slotted.used(SUDDENLY, BEGIN) == 8


mails = st.tuples(
    st.one_of(st.integers(0, 60), st.integers(0, 30 * 3600)),
    st.lists(st.sampled_from(DAYS), unique=True, min_size=1),
    st.integers(1, 30),
    st.booleans(),
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(mails, max_size=25))
def test_no_24_hours_of_any_slot_ever_hold_more_than_its_limit(
    history: list[Any], slotted: Driven, running_redis: RedisServer
) -> None:
    """Counted by the time at which messages leave, not by the books."""
    running_redis.ask("FLUSHALL")
    now, left = BEGIN, []
    for wait, limits, recipients, with_rate in history:
        now += wait
        charges: list[Charge] = [(limit, recipients) for limit in limits if recipients <= limit.amount]
        charges += [(RATES[1], 2)] if with_rate else []
        answer = slotted.take(charges, now, park=True)
        event("granted" if answer.granted else "refused")
        if answer.granted:
            left += [(limit, int(max(answer.due, now)) // 3600, recipients) for limit, _ in charges]
    for limit in DAYS:
        mine = [(hour, recipients) for other, hour, recipients in left if other == limit]
        for end, _ in mine:
            assert sum(units for hour, units in mine if end - 24 < hour <= end) <= limit.amount


def test_a_refusal_of_one_slot_costs_nothing_in_the_others(slotted: Driven, server: RedisServer) -> None:
    slotted.take([(NEVER_ENOUGH, 1)], BEGIN, park=False)
    for _ in range(50):
        refused = slotted.take([*((limit, 1) for limit in RATES), (DAYS[0], 5), (NEVER_ENOUGH, 1)], BEGIN, park=False)
        assert (refused.granted, refused.scope) == (False, "domain")
    assert [slotted.used(limit, BEGIN) for limit in (*RATES, DAYS[0])] == [0, 0, 0, 0]


def test_what_bites_in_one_slot_is_named_by_all(slotted: Driven, server: RedisServer) -> None:
    """Who is asked again for the hour that another slot parked for waits for nothing of its own."""
    day, pace = DAYS[0], Limit("messages_per_minute", "client", "i:192.0.2.9", 1, MINUTE, 1)
    late = BEGIN + 3600 - 90
    told = [slotted.take([(day, 9), (RATES[0], 1), (pace, 1)], late, park=True) for _ in range(4)]
    assert [(one.granted, one.scope) for one in told] == [(True, "")] + [(True, "client")] * 3
    parked = slotted.take([(day, 9), (pace, 1)], late, park=True)
    assert (parked.granted, parked.limit, parked.scope) == (True, "recipients_per_day", "tenant")
    assert parked.due == BEGIN + 86_400


def test_the_bucket_for_urgent_mail_lies_beside_that_of_all(slotted: Driven, server: RedisServer) -> None:
    for limit in RATES:
        urgent = limit._replace(key=limit.key + URGENT)
        assert tag_of(urgent) == tag_of(limit) and key_of(urgent) != key_of(limit)
        assert slotted.take([(urgent, 1), (limit._replace(burst=UNASKED), 2)], BEGIN, park=False).granted
        assert (slotted.used(urgent, BEGIN), slotted.used(limit, BEGIN)) == (1, 2)


def test_the_days_of_all_slots_agree_on_the_hour_in_which_the_message_leaves(
    slotted: Driven, server: RedisServer
) -> None:
    slotted.take([(DAYS[1], 25)], BEGIN, park=True)
    parked = slotted.take([(DAYS[0], 20), (DAYS[1], 20)], BEGIN + 3600, park=True)
    assert parked.granted and parked.due == BEGIN + 86_400
    # 20 of the tenant's 40 weigh on the hours from tomorrow on; today there are none of them.
    assert slotted.used(DAYS[0], BEGIN + 7200) == 0
    assert slotted.used(DAYS[0], BEGIN + 86_400) == 20
