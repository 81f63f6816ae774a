"""What every implementation of `relay.counters.contract.Counters` promises, from the outside."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.counters.contract import (
    CAMPAIGN,
    DAY,
    FIRST_TIME,
    MINUTE,
    PARK_HORIZON_SECONDS,
    SHARED,
    SUDDEN,
    UNASKED,
    WARM_UP,
    Charge,
    Counters,
    CountersUnavailable,
    Limit,
)
from relay.counters.embedded import EmbeddedCounters
from relay.counters.remote import key_of
from relay.counters.remote_windows import SWAP, SharedWindows
from relay.counters.ring import BOUNCED, DELIVERED, REFUSED, UNKNOWN, News, Tally, tally
from relay.counters.table import KEY_BYTES, VALUES
from relay.counters.windows import KEEP_SECONDS, Place, Windows
from relay.counters.wire import Wire
from relay.policy.facts import Allowance
from tests.fakes.clock import START
from tests.harness.counters import Driven, wire_to
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer, cluster, stop_all

HOUR = 3600
PERSON = Limit("messages_per_minute", "credential", "ann", 30, MINUTE, 30)
TOOL = Limit("messages_per_minute", "credential", "shop", 600, MINUTE, 600, 7)
DAILY = Limit("recipients_per_day", "tenant", "shop", 100, DAY)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_ports(1)[0]).start()
    yield server
    server.stop()


@pytest.fixture(params=["embedded", "redis"])
def counters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counters]:
    made: EmbeddedCounters | Driven
    if request.param == "embedded":
        made = EmbeddedCounters(tmp_path)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        made = Driven(server.url)
    yield made
    made.close()


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[EmbeddedCounters]:
    made = EmbeddedCounters(tmp_path)
    yield made
    made.close()


NEW_LOGIN = Limit(WARM_UP, "credential", "w:new", 50, DAY, 100_000, 7, START - HOUR)
HABIT = Limit(SUDDEN, "credential", "h:shop", 200, HOUR, 10, 7)
GIVEN = [(PERSON._replace(tenant=7), 1), (DAILY._replace(tenant=7), 20), (NEW_LOGIN, 20), (HABIT, 20)]


@pytest.mark.parametrize("before", [1, 3], ids=["at once", "parked for days"])
def test_what_is_given_back_was_never_charged(counters: Counters, before: int) -> None:
    """Three of twenty are over the day of the warm-up, and five over that of the tenant."""
    for _ in range(before):
        assert counters.take(GIVEN, START, park=True).granted
    used = [counters.used(limit, START) for limit, _ in GIVEN]
    ahead = counters.peek(GIVEN, START, park=True)
    for _ in range(2):
        allowance = counters.take(GIVEN, START, park=True)
        assert allowance.granted and (allowance.due > START) == (before == 3)
        counters.give_back(GIVEN, START, allowance)
        assert [counters.used(limit, START) for limit, _ in GIVEN] == used
        told = counters.peek(GIVEN, START, park=True)
        assert (told.due, told.backlog) == (ahead.due, ahead.backlog)


def test_a_count_is_taken_back_and_never_falls_below_nothing(counters: Counters) -> None:
    assert counters.hits(["{t}a", "{t}b"], DAY, START) == [1, 1]
    assert counters.hits(["{t}a"], DAY, START) == [2]
    assert counters.hits(["{t}a", "{t}b"], DAY, START, -1) == [1, 0]
    assert counters.hits(["{t}b"], DAY, START + HOUR, -1) == [0]
    assert counters.hits(["{t}a"], DAY, START + HOUR, -1) == [1], "of another hour: it stays counted"
    assert counters.hits(["{t}b"], DAY, START + HOUR) == [1]


def test_message_31_sent_in_one_go_is_refused(counters: Counters) -> None:
    """THROTTLE-1, personal: 30 a minute, then a 4xx that says when."""
    granted = [counters.take([(PERSON, 1)], START, park=False).granted for _ in range(31)]
    assert granted == [True] * 30 + [False]
    refused = counters.take([(PERSON, 1)], START, park=False)
    assert (refused.limit, refused.scope, refused.allowed) == ("messages_per_minute", "credential", 30)
    assert refused.due == pytest.approx(START + 2, abs=1e-6)
    assert counters.take([(PERSON, 1)], START + 1.9, park=False).granted is False
    assert counters.take([(PERSON, 1)], START + 2, park=False).granted is True


def test_message_601_is_parked_and_leaves_in_the_next_minute(counters: Counters) -> None:
    """THROTTLE-1, marketing: over the pace the message waits for its turn, in the order it came."""
    dues = [counters.take([(TOOL, 1)], START, park=True).due for _ in range(1200)]
    assert dues[:600] == [0.0] * 600
    assert dues[600] == pytest.approx(START + 0.1, abs=1e-6)
    assert dues[1199] == pytest.approx(START + 60, abs=1e-6)
    assert sorted(dues[600:]) == dues[600:]


def test_several_keys_are_counted_in_one_step(counters: Counters) -> None:
    keys = ["{t7}text:0:1", "{t7}text:1:2", "{t7}text:2:3"]
    assert counters.hits(keys, DAY, START) == [1, 1, 1]
    assert counters.hits(keys[1:], DAY, START + 1) == [2, 2]
    assert counters.hits([keys[0], keys[2]], DAY, START + 2 * DAY) == [1, 1], "what is over is over"
    assert counters.hit(keys[0], DAY, START + 2 * DAY) == 2


NEW = Limit(WARM_UP, "credential", "w:new", 50, DAY, 10_000, 7, START)


def test_a_new_account_may_send_to_fifty_and_each_day_to_twice_as_many(counters: Counters) -> None:
    """THROTTLE-3: day 1, recipient 51 is parked to day 2; on day 3, 200 leave; nothing is refused."""
    dues = [counters.take([(NEW, 1)], START + HOUR, park=True).due for _ in range(400)]
    leaves = Counter(0 if due == 0.0 else int((due - START) // DAY) for due in dues)
    assert leaves == {0: 50, 1: 100, 2: 200, 3: 50}
    assert sorted(dues) == dues, "in the order they came"
    late = counters.take([(NEW, 1)], START + 4 * DAY, park=True)
    assert late.granted and not late.due, "the next day has room of its own"
    assert counters.used(NEW, START + 4 * DAY) == 1


def test_a_new_account_that_is_a_person_is_told_to_wait(counters: Counters) -> None:
    assert counters.take([(NEW, 50)], START, park=False).granted
    refused = counters.take([(NEW, 1)], START + HOUR, park=False)
    assert (refused.granted, refused.limit, refused.allowed, refused.due) == (False, WARM_UP, 50, START + DAY)
    assert counters.take([(NEW, 60)], START, park=False).due == START + DAY, "more than a whole day is the next one's"


def test_the_first_campaign_of_a_new_account_is_parked_whole(counters: Counters) -> None:
    """20,000 recipients in messages of one: within two weeks, however the days' amounts lie."""
    dues = [counters.take([(NEW, 10)], START, park=True).due for _ in range(2000)]
    assert max(dues) < START + 9 * DAY and dues.count(0.0) == 5
    full = counters.take([(NEW, 1)], START, park=True, max_parked=1000)
    assert not full.granted and full.backlog > 1000


def test_a_warm_up_ends_at_the_normal_limit(counters: Counters) -> None:
    old = NEW._replace(since=START - 30 * DAY)
    assert all(not counters.take([(old, 5_000)], START, park=True).due for _ in range(5))


def test_a_day_with_an_alarm_allows_the_next_no_more(counters: Counters) -> None:
    alarmed = NEW._replace(behind=1)
    dues = [counters.take([(alarmed, 1)], START + DAY, park=True).due for _ in range(110)]
    leaves = Counter(1 if due == 0.0 else int((due - START) // DAY) for due in dues)
    assert leaves == {1: 50, 2: 60}


def test_other_limits_of_a_message_are_charged_when_it_is_taken(counters: Counters) -> None:
    """A warm-up says when it leaves; together they are all or nothing."""
    assert counters.take([(NEW, 50), (DAILY, 50)], START, park=True).due == 0.0
    parked = counters.take([(NEW, 50), (DAILY, 50)], START, park=True)
    assert parked.granted and parked.due == START + DAY and parked.limit == WARM_UP
    assert counters.used(DAILY, START) == 100
    assert not counters.take([(NEW, 1), (DAILY, 1)], START, park=False).granted
    assert counters.take([(NEW, 50)], START, park=True).due == pytest.approx(START + 1.5 * DAY)
    counters.reset(NEW)
    assert counters.used(NEW, START) == 0 and counters.take([(NEW, 50)], START, park=False).granted


HABIT = Limit(SUDDEN, "credential", "h:office", 200, HOUR, 5)


def office(counters: Counters, days: int, each: int) -> float:
    """So many days of so much mail; when they are over."""
    for day in range(days):
        for hour in range(9, 17):
            counters.take([(HABIT, each // 8)], START + day * DAY + hour * HOUR, park=False)
    return START + days * DAY


def test_far_more_in_an_hour_than_in_days_before_is_sudden(counters: Counters) -> None:
    """THROTTLE-7: an account that averages 16 a day sends 250 in ten minutes, at night."""
    night = office(counters, 15, 16) + 3 * HOUR
    told = [counters.take([(HABIT, 1)], night + number, park=False) for number in range(250)]
    assert all(one.granted for one in told)
    assert [one.sudden for one in told] == [0] * 200 + list(range(201, 251))
    assert counters.used(HABIT, night + 250) == 250
    assert counters.peek([(HABIT, 1)], night + 250).sudden
    assert not counters.take([(HABIT, 1)], night + 2 * HOUR, park=False).sudden, "an hour later it is over"


def test_what_is_much_for_one_is_usual_for_another(counters: Counters) -> None:
    """Password resets during a sale: an hour with five ordinary days of them is still no theft."""
    sale = office(counters, 14, 800) + 12 * HOUR
    assert not counters.take([(HABIT, 4_000)], sale, park=False).sudden
    assert counters.take([(HABIT, 1)], sale + 60, park=False).sudden


def test_nothing_is_sudden_before_two_weeks_are_counted(counters: Counters) -> None:
    """Else a store that was lost, or an upgrade, would hold everybody's mail."""
    assert not counters.take([(HABIT, 5_000)], office(counters, 13, 16), park=False).sudden


def test_an_account_that_was_silent_for_months_is_not_forgotten(counters: Counters) -> None:
    office(counters, 2, 16)
    assert counters.take([(HABIT, 201)], START + 300 * DAY, park=False).sudden


MAILING = Limit(CAMPAIGN, "credential", "h:news", 200, HOUR, 5, behind=90)


def mailing(counters: Counters, at: float, size: int) -> list[int]:
    """A campaign within the hour, in messages of a hundred; what is told of each."""
    return [counters.take([(MAILING, 100)], at + n, park=True).sudden for n in range(size // 100)]


def test_a_weekly_newsletter_is_measured_against_the_largest_of_90_days(counters: Counters) -> None:
    """THROTTLE-7: as large as ever is no theft, five times that neither, and nothing before 90 days are counted."""
    for week in range(13):
        assert not any(mailing(counters, START + 7 * week * DAY + 9 * HOUR, 2_000)), week
    later = START + 91 * DAY + 9 * HOUR
    assert not any(mailing(counters, later, 10_000))
    assert counters.peek([(MAILING, 100)], later + HOUR / 2).sudden == 10_100
    assert mailing(counters, later + HOUR / 2, 300) == [10_100, 10_200, 10_300]
    assert counters.used(MAILING, later + HOUR / 2) == 10_300
    assert not any(mailing(counters, later + 2 * HOUR, 10_000)), "the day itself is no measure, and the hour is new"


def test_a_campaign_of_longer_ago_than_90_days_is_no_measure(counters: Counters) -> None:
    mailing(counters, START, 20_000)
    quarter = START + 88 * DAY
    assert not any(mailing(counters, quarter, 300)), "90 days are not counted yet"
    assert not any(mailing(counters, START + 90 * DAY, 20_000)), "the large one still counts"
    assert not any(mailing(counters, START + 170 * DAY, 90_000))
    assert mailing(counters, START + 300 * DAY, 400) == [0, 0, 300, 400], "all are too long ago"


def test_a_campaign_with_consents_is_measured_at_once(counters: Counters) -> None:
    """Whether these excuse it is asked by who knows them."""
    asked = MAILING._replace(behind=0)
    told = [counters.take([(asked, 150)], START + n, park=True).sudden for n in range(3)]
    assert told == [0, 300, 450]
    assert counters.take([(asked._replace(key="h:other"), 201)], START, park=True).sudden == 201


def to(*people: int, most: int = 5, days: int = 0) -> Limit:
    """The limit on recipients of the first time, for a message to these."""
    marks = b"".join((0xA5000000 + number * 2654435761 % 2**24).to_bytes(4, "big") for number in people)
    return Limit(FIRST_TIME, "credential", "c:ann", most, DAY, 0, 7, behind=days, people=marks)


def write(counters: Counters, at: float, *people: int, most: int = 5, days: int = 0, park: bool = False) -> Allowance:
    return counters.take([(to(*people, most=most, days=days), len(people))], at, park=park)


def test_only_who_was_never_written_to_before_is_counted(counters: Counters) -> None:
    assert write(counters, START, 1, 2, 3).granted and write(counters, START, 3, 4, 1).granted
    assert counters.used(to(), START) == 4
    refused = write(counters, START + HOUR, 1, 5, 6)
    assert (refused.granted, refused.limit, refused.scope, refused.allowed) == (False, FIRST_TIME, "credential", 5)
    assert START + HOUR < refused.due <= START + DAY
    assert write(counters, START + HOUR, 5).granted and not write(counters, START + HOUR, 6).granted
    assert write(counters, START + HOUR, 1, 2, 3, 4, 5).granted, "whom he knows he may write to"
    assert write(counters, START + DAY + HOUR, 6).granted, "the next day"


def test_a_refused_message_makes_nobody_known(counters: Counters) -> None:
    assert write(counters, START, 1, 2, 3, 4).granted
    for _ in range(3):
        assert not write(counters, START, 5, 6).granted
        assert not counters.peek([(to(5, 6), 2)], START).granted
    assert write(counters, START, 5).granted and counters.used(to(), START) == 5
    assert not counters.take([(to(1), 1), (PERSON, 31)], START, park=False).granted, "another limit bites"


def test_a_program_waits_with_its_strangers_and_may_not_write_to_them_meanwhile(counters: Counters) -> None:
    assert not write(counters, START, 1, 2, 3, 4, 5, park=True).due
    parked = write(counters, START, 6, park=True)
    assert parked.granted and parked.limit == FIRST_TIME and parked.due > START
    again = write(counters, START, 6, park=True)
    assert again.granted and again.due >= parked.due, "who writes everything twice gains nothing"
    assert not write(counters, START, 1, 5, park=True).due


def test_an_account_is_learned_before_the_limit_holds(counters: Counters) -> None:
    assert all(write(counters, START + n, n, days=14).granted for n in range(50))
    later = START + 14 * DAY + HOUR
    assert counters.used(to(), later) == 0
    assert write(counters, later, *range(50), days=14).granted, "these are known by now"
    assert write(counters, later, *range(50, 55), days=14).granted
    assert not write(counters, later, 55, days=14).granted


def test_who_was_not_written_to_for_a_year_is_a_stranger(counters: Counters) -> None:
    assert write(counters, START, 1, 2, 3).granted
    assert write(counters, START + 200 * DAY, 1).granted
    assert counters.peek([(to(1, 2, 3, most=0x7FFFFFFF), 3)], START + 500 * DAY).granted
    assert write(counters, START + 500 * DAY, 1, 2, 3).granted and counters.used(to(), START + 500 * DAY) == 2


def test_accounts_know_their_own_correspondents(counters: Counters) -> None:
    assert write(counters, START, 1, 2, 3, 4, 5).granted
    other = to(1, 2, 3, 4, 5, 6)._replace(key="c:bob")
    assert not counters.take([(other, 6)], START, park=False).granted


def test_an_account_with_thousands_is_known_as_well(counters: Counters) -> None:
    """Over all levels of buckets; beyond their room nobody is counted, rather than everybody."""
    most, day = 2**31, 0
    for first in range(0, 6_000, 200):
        write(counters, START + day, *range(first, first + 200), most=most)
    assert counters.used(to(), START) == 6_000
    for first in range(0, 6_000, 500):
        assert write(counters, START, *range(first, first + 500), most=1).granted
    assert not write(counters, START, 7_000, 7_001, most=6_001).granted


def test_lifting_the_limit_forgets_nobody(counters: Counters) -> None:
    write(counters, START, 1, 2, 3, 4, 5)
    counters.reset(to())
    assert counters.used(to(), START) == 0
    write(counters, START, 1, 2, 3, 4, 5)
    assert counters.used(to(), START) == 0 and write(counters, START, 11, 12, 13, 14, 15).granted


def test_a_message_that_is_refused_is_not_counted_as_sent(counters: Counters) -> None:
    night = office(counters, 15, 16)
    assert counters.take([(PERSON, 30), (HABIT, 1)], night, park=False).granted
    for _ in range(300):
        assert not counters.take([(PERSON, 1), (HABIT, 1)], night, park=False).granted
    assert counters.used(HABIT, night) == 1


def test_a_backlog_that_grows_past_its_bound_is_refused(counters: Counters) -> None:
    for _ in range(600):
        counters.take([(TOOL, 1)], START, park=True, max_parked=50)
    waiting = [counters.take([(TOOL, 1)], START, park=True, max_parked=50) for _ in range(60)]
    assert [allowance.granted for allowance in waiting] == [True] * 50 + [False] * 10
    assert waiting[49].backlog == 50
    assert counters.take([(TOOL, 1)], START + 1, park=True, max_parked=50).granted, "ten have left meanwhile"


def test_what_others_have_waiting_is_neither_counted_nor_told(counters: Counters) -> None:
    """A client's address is shared: who sends from there too may park as much as ever."""
    door = Limit("messages_per_minute", "client", "i:192.0.2.1", 60, MINUTE, 60, behind=SHARED)
    daily = Limit("recipients_per_day", "domain", "d:shop.example", 400, DAY, behind=SHARED)
    for _ in range(300):
        assert counters.take([(TOOL, 1), (door, 1), (daily, 1)], START, park=True, max_parked=50).granted
    own = TOOL._replace(key="rival", tenant=8)
    waiting = counters.take([(own, 1), (door, 1)], START, park=True, max_parked=50)
    assert (waiting.granted, waiting.scope, waiting.backlog) == (True, "client", 0)
    later = counters.take([(own, 1), (daily, 200)], START, park=True, max_parked=50)
    assert (later.granted, later.scope, later.backlog) == (True, "domain", 0)
    assert counters.peek([(door._replace(behind=0), 0)], START, park=True).backlog == 241, "an operator may look"


def test_what_is_counted_unasked_never_waits_and_makes_others_wait(counters: Counters) -> None:
    common = Limit("messages_per_minute", "tenant", "t:7", 60, MINUTE, 60, 7)
    urgent: list[Charge] = [(common._replace(key="t:7:now"), 1), (common._replace(burst=UNASKED), 1)]
    assert not [True for _ in range(160) if not counters.take([(common, 1)], START, park=True).granted]
    assert [counters.take(urgent, START, park=False).granted for _ in range(61)] == [True] * 60 + [False]
    assert counters.used(common, START) == 220
    assert counters.take([(common, 1)], START, park=True).due == pytest.approx(START + 161, abs=1e-6)


def test_what_a_clock_that_was_wrong_counted_unasked_counts_for_nothing(counters: Counters) -> None:
    """Else it would be far ahead for good, and no campaign would ever leave."""
    common = Limit("messages_per_minute", "tenant", "t:7", 60, MINUTE, 60, 7)
    for now in (START, START + 365 * DAY, START):
        assert counters.take([(common._replace(burst=UNASKED), 1)], now, park=False).granted
    assert counters.used(common, START) == 1
    assert counters.take([(common, 1)], START, park=False).granted


def test_a_day_that_has_room_in_the_hour_of_its_turn_is_not_what_bites(counters: Counters) -> None:
    """The pace parks into the next hour, which half of a day's limit is charged to already."""
    pace = Limit("messages_per_minute", "credential", "shop", 1, MINUTE, 1, 7)
    day = Limit("recipients_per_day", "tenant", "t:7", 100, DAY, 0, 7)
    late = START + HOUR - 90
    told = [counters.take([(pace, 1), (day, 25)], late, park=True) for _ in range(4)]
    assert [(one.limit, one.scope) for one in told[1:]] == [("messages_per_minute", "credential")] * 3
    assert told[3].due == pytest.approx(START + HOUR + HOUR / 4), "and not all leaves when the hour begins"
    full = counters.take([(pace, 1), (day, 1)], late, park=True)
    assert (full.limit, full.scope) == ("recipients_per_day", "tenant")


def test_nothing_is_parked_for_more_than_two_days(counters: Counters) -> None:
    slow = Limit("messages_per_minute", "credential", "slow", 1, MINUTE, 1)
    ahead = PARK_HORIZON_SECONDS // 60
    assert counters.take([(slow, ahead + 1)], START, park=True).due == pytest.approx(START + PARK_HORIZON_SECONDS)
    assert not counters.take([(slow, 1)], START, park=True).granted


def test_the_strictest_limit_wins_and_either_all_are_charged_or_none(counters: Counters) -> None:
    """THROTTLE-2: two accounts of one tenant share the tenant's bucket; what is refused costs nothing."""
    tenant = Limit("messages_per_minute", "tenant", "shop", 3, MINUTE, 3)
    first, second = (Limit("messages_per_minute", "credential", name, 2, MINUTE, 2) for name in ("a", "b"))
    assert [counters.take([(first, 1), (tenant, 1)], START, park=False).scope for _ in range(3)] == [
        "",
        "",
        "credential",
    ]
    assert counters.take([(second, 1), (tenant, 1)], START, park=False).granted
    refused = counters.take([(second, 1), (tenant, 1)], START, park=False)
    assert (refused.granted, refused.scope, refused.allowed) == (False, "tenant", 3)
    assert counters.used(second, START) == 1, "the refused message was not charged to its credential"
    assert counters.used(tenant, START) == 3


def test_a_look_charges_nothing(counters: Counters) -> None:
    for _ in range(100):
        assert counters.peek([(PERSON, 30), (DAILY, 100)], START).granted
    assert counters.take([(PERSON, 30), (DAILY, 100)], START, park=False).granted
    assert not counters.peek([(PERSON, 1)], START).granted
    told = counters.peek([(DAILY, 1)], START, park=True)
    assert told == counters.take([(DAILY, 1)], START, park=True)._replace(receipt=None)


def test_a_day_slides_by_the_hour(counters: Counters) -> None:
    assert counters.take([(DAILY, 60)], START, park=False).granted
    assert counters.take([(DAILY, 40)], START + 5 * HOUR, park=False).granted
    assert not counters.take([(DAILY, 1)], START + 24 * HOUR - 1, park=False).granted
    assert counters.take([(DAILY, 60)], START + 24 * HOUR, park=False).granted
    refused = counters.take([(DAILY, 1)], START + 24 * HOUR, park=False)
    assert refused.due == START + 29 * HOUR


def test_day_one_recipient_51_waits_for_day_two(counters: Counters) -> None:
    """THROTTLE-3: a new account is parked, not refused."""
    warming = Limit("recipients_per_day", "credential", "new", 50, DAY, 0, 7)
    dues = [counters.take([(warming, 1)], START, park=True).due for _ in range(51)]
    assert dues[:50] == [0.0] * 50
    assert dues[50] == START + 24 * HOUR
    assert counters.take([(warming, 1)], START, park=True).backlog == 2


def test_what_is_parked_for_one_hour_does_not_leave_in_one_heap(counters: Counters) -> None:
    counters.take([(DAILY, 100)], START, park=True)
    dues = [counters.take([(DAILY, 10)], START, park=True).due for _ in range(10)]
    assert dues == pytest.approx([START + 24 * HOUR + part * 360 for part in range(10)])


def test_a_small_charge_now_does_not_take_what_is_reserved(counters: Counters) -> None:
    counters.take([(DAILY, 50)], START, park=True)
    assert counters.take([(DAILY, 60)], START + 5 * HOUR, park=True).due == START + 24 * HOUR
    # 50 would fit into today's window, but with the 60 of hour 24 they would be 110 within one day.
    second = counters.take([(DAILY, 50)], START + 6 * HOUR, park=True)
    assert second.due == START + 48 * HOUR
    assert counters.take([(DAILY, 40)], START + 6 * HOUR, park=True).due == 0.0


def test_a_charge_above_the_whole_limit_pays_by_the_day_or_is_refused(counters: Counters) -> None:
    refused = counters.take([(DAILY, 250)], START, park=False)
    assert (refused.granted, refused.due) == (False, 0.0), "it never frees"
    parked = counters.take([(DAILY, 250)], START, park=True)
    assert parked.granted and parked.due == START + 48 * HOUR
    assert not counters.take([(DAILY, 150)], START, park=True).granted, "beyond two days"


def test_a_message_parked_by_the_minute_is_charged_to_the_day_it_leaves(counters: Counters) -> None:
    slow = Limit("messages_per_minute", "credential", "slow", 1, MINUTE, 1)
    assert counters.take([(slow, 121), (DAILY, 100)], START, park=True).due == START + 2 * HOUR
    # The hundred leave in hour 2, so hour 24 is still within their day and hour 26 is not.
    assert counters.take([(DAILY, 1)], START + 25 * HOUR, park=False).granted is False
    assert counters.take([(DAILY, 1)], START + 26 * HOUR, park=False).granted is True


def test_daily_limits_agree_on_one_hour(counters: Counters) -> None:
    other = Limit("recipients_per_day", "domain", "shop.example", 100, DAY)
    counters.take([(DAILY, 100)], START, park=True)
    counters.take([(other, 100)], START + 3 * HOUR, park=True)
    parked = counters.take([(DAILY, 10), (other, 10)], START + 4 * HOUR, park=True)
    assert parked.due == START + 27 * HOUR and parked.scope == "domain"


def test_a_limit_of_nothing_lets_nothing_through(counters: Counters) -> None:
    for limit in (PERSON._replace(amount=0), DAILY._replace(amount=0)):
        for park in (False, True):
            assert counters.take([(limit, 1)], START, park=park).granted is False


def test_no_limits_no_refusal(counters: Counters) -> None:
    assert counters.take([], START, park=False).granted


def test_a_raised_limit_holds_at_once(counters: Counters) -> None:
    counters.take([(DAILY, 100)], START, park=False)
    assert not counters.take([(DAILY, 1)], START, park=False).granted
    assert counters.take([(DAILY._replace(amount=200), 100)], START, park=False).granted


def paced(amount: int, burst: int = 0) -> Limit:
    return Limit("messages_per_minute", "credential", "paced", amount, MINUTE, burst or amount, 7)


def test_a_raised_pace_counts_a_backlog_in_messages_and_not_in_minutes(counters: Counters) -> None:
    """A hundred were parked at one a minute; of 600 a minute that is a hundred, and not all of the next 99 minutes."""
    dues = [counters.take([(paced(1), 1)], START, park=True).due for _ in range(100)]
    assert dues[99] == START + 99 * 60 and counters.used(paced(1), START) == 100
    assert counters.used(paced(600), START) == 100
    granted = [counters.take([(paced(600), 1)], START, park=False).granted for _ in range(501)]
    assert granted == [True] * 500 + [False], "exactly 600 with those that wait"
    assert counters.peek([(paced(600), 1)], START).due == pytest.approx(START + 0.1, abs=1e-6)
    assert counters.take([(paced(600), 600)], START + 60, park=False).granted


def test_a_raised_pace_is_not_held_up_by_the_slow_one_of_before(counters: Counters) -> None:
    """Nobody wrote since: what is refused changes nothing. The backlog goes down as fast as the limit is now."""
    assert counters.take([(paced(10), 1000)], START, park=True).granted
    assert not counters.take([(paced(300), 1)], START + 60, park=False).granted
    assert counters.used(paced(300), START + 60) == 700
    assert counters.take([(paced(300), 1)], START + 160, park=False).granted
    assert counters.used(paced(300), START + 160) == 201


def test_a_lowered_pace_has_what_is_taken_paid_at_the_new_one(counters: Counters) -> None:
    assert counters.take([(paced(600), 300)], START, park=False).granted
    assert counters.used(paced(60), START) == 300
    parked = counters.take([(paced(60), 1)], START, park=True)
    assert parked.granted and parked.due == START + 241 and parked.backlog == 241
    assert not counters.take([(paced(60), 1)], START + 240, park=False).granted
    assert counters.take([(paced(60), 1)], START + 242, park=False).granted


def test_nothing_is_reserved_beyond_two_days_by_lowering_a_pace(counters: Counters) -> None:
    assert counters.take([(paced(600), 50_000)], START, park=True).granted
    for park in (False, True):
        refused = counters.take([(paced(1), 1)], START, park=park)
        assert not refused.granted and refused.due > START + PARK_HORIZON_SECONDS
    assert counters.used(paced(600), START) == 50_000
    assert counters.take([(paced(1), 1)], START + 5_000, park=False).granted, (
        "they have left by then, at their own pace"
    )


@pytest.mark.parametrize("amounts", [(7, 11), (1, 1_000_003), (13, 600), (60, 7)])
def test_exactly_so_many_pass_however_often_the_pace_changes(counters: Counters, amounts: tuple[int, int]) -> None:
    """The parts of a nanosecond are rounded, and none of them lets one more through or one less."""
    least, most = paced(min(amounts)), paced(max(amounts))
    at, passed = START + 1 / 3, 0
    for number in range(2 * least.amount):
        charged = (least, most)[number % 2]
        passed += counters.take([(charged, 1)], at, park=False).granted
        assert counters.used(least, at) == counters.used(most, at) == passed
    assert passed >= least.amount
    rest = most.amount - passed
    assert not counters.peek([(most, rest + 1)], at).granted
    assert counters.take([(most, rest)], at, park=False).granted
    assert not counters.take([(most, 1)], at, park=False).granted


def test_a_part_of_a_unit_that_cannot_be_kept_counts_as_charged(counters: Counters) -> None:
    """Of ten thousand million a minute one takes six nanoseconds, so 119 seconds of one a minute are eleven and nine tenths."""
    for at in (START, START + 1):
        assert counters.take([(paced(1), 1)], at, park=True).granted
    assert counters.take([(paced(10**10), 1)], START + 1, park=False).granted
    assert counters.peek([(paced(1), 1)], START + 1).due >= START + 180 - 1e-6


def test_a_pace_that_an_older_version_wrote_is_taken_as_it_is(counters: Counters) -> None:
    """Without the interval that made it: half a minute ahead is half of any limit."""
    tat = int((START + 30) * 1e9)
    if isinstance(counters, EmbeddedCounters):
        place = counters._table.claim(paced(60)[:3], START)
        VALUES.pack_into(counters._table.raw, place + KEY_BYTES, tat / 1e9, tat, 0)
    else:
        assert isinstance(counters, Driven)
        text = "{} {}".format(*divmod(tat, 10**9))
        counters.ask("SET", key_of(paced(60)), text, "PX", 600_000)
    assert counters.used(paced(60), START) == 30 and counters.used(paced(600), START) == 300
    assert counters.take([(paced(60), 30)], START, park=False).granted
    assert not counters.take([(paced(60), 1)], START, park=False).granted
    assert counters.used(paced(600), START) == 60, "from now on it is known"


def test_a_clock_set_back_gives_no_new_room_and_one_that_was_wrong_blocks_nobody(counters: Counters) -> None:
    counters.take([(DAILY, 100), (PERSON, 30)], START, park=False)
    assert not counters.take([(DAILY, 1)], START - 2 * HOUR, park=False).granted
    assert not counters.take([(PERSON, 1)], START - 2 * HOUR, park=False).granted
    year = 365 * 86400
    lost = DAILY._replace(key="lost"), PERSON._replace(key="lost")
    assert counters.take([(limit, 30) for limit in lost], START + 10 * year, park=False).granted
    assert counters.take([(limit, 30) for limit in lost], START, park=False).granted


def test_hits_are_counted_over_a_sliding_window(counters: Counters) -> None:
    assert [counters.hit("login:192.0.2.1", 600, START + second) for second in range(10)] == list(range(1, 11))
    assert counters.count("login:192.0.2.1", 600, START + 300) == 10
    assert counters.hit("login:192.0.2.1", 600, START + 300, 5) == 15
    assert counters.count("login:192.0.2.1", 600, START + 600) == 5
    assert counters.count("login:192.0.2.1", 600, START + 2000) == 0
    assert counters.count("login:192.0.2.2", 600, START) == 0


def test_a_block_is_never_shortened(counters: Counters) -> None:
    counters.block("192.0.2.1", START + 900, START)
    counters.block("192.0.2.1", START + 60, START)
    assert counters.blocked_until("192.0.2.1", START + 899) == START + 900
    assert counters.blocked_until("192.0.2.1", START + 900) == 0.0
    assert counters.blocked_until("192.0.2.2", START) == 0.0


def test_a_block_by_a_clock_that_was_ahead_ends_when_the_clock_is_right(presence: EmbeddedCounters) -> None:
    year = 365 * 86400
    presence.block("192.0.2.1", START + year + 900, START + year)
    assert presence.blocked_until("192.0.2.1", START) == 0.0
    presence.block("192.0.2.1", START + 900, START)
    assert presence.blocked_until("192.0.2.1", START + 1) == START + 900


def test_presence_is_counted_over_workers_and_ends_with_them(presence: EmbeddedCounters) -> None:
    assert [presence.enter("192.0.2.1", member, START) for member in (0, 0, 1)] == [1, 2, 3]
    assert presence.enter("192.0.2.2", 1, START) == 1
    assert presence.leave("192.0.2.1", 0, START) == 2
    presence.vacate(1)
    assert presence.leave("192.0.2.2", 1, START) == 0, "the session of a killed worker is not counted twice"
    assert presence.enter("192.0.2.1", 2, START) == 2
    with pytest.raises(ValueError, match="worker number 72"):
        presence.enter("192.0.2.1", 72, START)


def test_reset_forgets_what_it_names_and_nothing_else(counters: Counters) -> None:
    counters.take([(PERSON, 30), (DAILY, 100)], START, park=False)
    counters.hit("a", 600, START)
    counters.block("a", START + 60, START)
    counters.reset(PERSON, "a", "never seen")
    assert counters.used(PERSON, START) == 0 and counters.used(DAILY, START) == 100
    assert counters.count("a", 600, START) == 0 and counters.blocked_until("a", START) == 0.0
    assert counters.take([(PERSON, 30)], START, park=False).granted


# -- windows of outcomes ------------------------------------------------------------------------------------------------

SHOP = Place(7, "stream:marketing")


class Opened:
    """`Windows` of several processes on one store: `one()` is another each time."""

    def __init__(self, kind: str, folder: Path, url: str) -> None:
        self._kind, self._folder, self._url = kind, folder, url
        self._wires: list[Wire] = []

    def one(self) -> Windows:
        if self._kind == "embedded":
            return EmbeddedCounters(self._folder).windows
        self._wires.append(wire_to(self._url))
        return SharedWindows(self._wires[-1])

    async def close(self) -> None:
        for wire in self._wires:
            await wire.close()


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    nodes = cluster(tmp_path_factory.mktemp("cluster"))
    yield nodes
    stop_all(nodes)


@pytest.fixture(params=["embedded", "redis", "cluster"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    url = ""
    if request.param == "cluster":
        nodes: list[RedisServer] = request.getfixturevalue("redis_cluster")
        for node in nodes[:3]:  # the primaries
            node.ask("FLUSHALL")
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        url = server.url
    return Opened(request.param, tmp_path, url)


def run(opened: Opened, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def closing() -> None:
        try:
            await work()
        finally:
            await opened.close()

    asyncio.run(closing())


def by_bounces(counted: Tally, level: int) -> int:
    return max(level, counted.bounces // 10)


def test_a_window_is_exact_however_many_write_and_each_change_is_seen_once(opened: Opened) -> None:
    async def work() -> None:
        hands = [opened.one() for _ in range(4)]
        asked = [
            hand.add(SHOP, News(bytes([DELIVERED] * 3 + [BOUNCED]), b"", number % 10 == 0), START, by_bounces)
            for number in range(10)
            for hand in hands
        ]
        judged = await asyncio.gather(*asked)
        window = await opened.one().get(SHOP, START)
        assert tally(window)[:5] == (160, 160, 40, 0, 4)
        changes = sorted((one.before, one.window.level) for one in judged if one.before != one.window.level)
        assert changes == [(0, 1), (1, 2), (2, 3), (3, 4)]

    run(opened, work)


def test_a_level_and_its_marks_are_seen_by_others(opened: Opened) -> None:
    async def work() -> None:
        one, other = opened.one(), opened.one()
        await other.look()
        before = other.marks()
        await one.add(SHOP, News(bytes(50)), START, by_bounces)
        await other.look()
        assert other.marks() == before and other.level(SHOP) == 0, "nothing has changed for anybody"
        await one.add(SHOP, News(bytes([BOUNCED] * 30)), START, by_bounces)
        await other.look()
        assert other.level(SHOP) == 3 and other.level(SHOP._replace(tenant=8)) == 0
        changed, released = other.marks()
        assert changed > before[0] and released == before[1]
        assert await other.release(SHOP, START) == 3
        await one.look()
        assert one.level(SHOP) == 0 and one.marks()[1] > released
        assert tally(await one.get(SHOP, START)).total == 0
        assert await one.release(SHOP._replace(key="nobody"), START) == 0

    run(opened, work)


@pytest.mark.parametrize("kind", ["node", "redis"])
def test_a_level_ends_with_its_window(kind: str, tmp_path: Path, redis_server: RedisServer) -> None:
    """Who was warned and silent for a quarter begins anew, also for those who remember the warning."""
    redis_server.ask("FLUSHALL")

    async def work() -> None:
        wire = wire_to(redis_server.url)
        counters = EmbeddedCounters(tmp_path)
        windows: Windows = counters.windows if kind == "node" else SharedWindows(wire)
        await windows.add(SHOP, News(bytes([BOUNCED] * 12)), START, by_bounces)
        await windows.look()
        assert windows.level(SHOP) == 1
        before = windows.marks()[0]
        async for name in _keys(wire):
            await wire.ask("DEL", name)  # as Redis does by its own clock
        await windows.add(SHOP, News(bytes(1)), START + KEEP_SECONDS + 1, by_bounces)
        await windows.look()
        assert windows.level(SHOP) == 0 and windows.marks()[0] > before
        counters.close()
        await wire.close()

    asyncio.run(work())


def test_both_kinds_keep_the_same_window(tmp_path: Path, redis_server: RedisServer) -> None:
    """The same history, to the last bit: bounces told later, complaints, more than a window holds."""
    redis_server.ask("FLUSHALL")
    history = [
        News(bytes([DELIVERED, UNKNOWN, REFUSED] * 400), bytes([BOUNCED] * 5), 2),
        News(b"", bytes([UNKNOWN] * 3)),
        News(bytes(700), b"", 12),
        News(bytes([BOUNCED] * 400), bytes([UNKNOWN])),
    ]

    async def work() -> None:
        wire = wire_to(redis_server.url)
        node, shared = EmbeddedCounters(tmp_path).windows, SharedWindows(wire)
        for news in history:
            here = (await node.add(SHOP, news, START, by_bounces)).window
            there = (await shared.add(SHOP, news, START, by_bounces)).window
            assert here == there and await node.get(SHOP, START) == await shared.get(SHOP, START)
        await wire.close()

    asyncio.run(work())


def test_a_window_survives_a_restart_and_a_table_that_grows(tmp_path: Path) -> None:
    async def work() -> None:
        counters = EmbeddedCounters(tmp_path)
        await counters.windows.add(SHOP, News(bytes([BOUNCED] * 12)), START, by_bounces)
        for number in range(5000):
            counters.hit(f"other-{number}", 600, START)
        counters.close()
        again = EmbeddedCounters(tmp_path)
        assert tally(await again.windows.get(SHOP, START)).bounces == 12 and again.windows.level(SHOP) == 1
        assert again.windows.marks()[0] == 1
        again.close()

    asyncio.run(work())


def test_what_a_lost_answer_makes_us_repeat_is_counted_once(redis_server: RedisServer) -> None:
    redis_server.ask("FLUSHALL")

    async def work() -> None:
        wire = wire_to(redis_server.url)
        assert [await wire.run(SWAP, ["zegel:x"], "", "value", 60_000) for _ in range(2)] == [None, None]
        assert await wire.run(SWAP, ["zegel:x"], "", "other", 60_000) == b"value"
        await wire.close()

    asyncio.run(work())


def test_a_value_that_is_none_of_ours_is_not_believed(redis_server: RedisServer) -> None:
    redis_server.ask("FLUSHALL")

    async def work() -> None:
        wire = wire_to(redis_server.url)
        windows = SharedWindows(wire)
        await windows.add(SHOP, News(bytes(3)), START, by_bounces)
        (key,) = [name async for name in _keys(wire)]
        await wire.ask("SET", key, "nonsense")
        for work in (windows.get(SHOP, START), windows.add(SHOP, News(bytes(1)), START, by_bounces)):
            with pytest.raises(CountersUnavailable):
                await work
        await wire.close()

    asyncio.run(work())


async def _keys(wire: Wire) -> AsyncIterator[bytes]:
    for name in await wire.ask("KEYS", "zegel:*window*"):
        yield name
