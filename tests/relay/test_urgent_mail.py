"""Mail that somebody waits for goes before campaigns, at the limits that the product comes with (docs/decisions/015)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from policies.throttle import Settings
from relay.counters.contract import AT_ONCE, IN_LINE, MINUTE, Counters, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.remote import RedisCounters
from relay.counters.slots import SlottedCounters
from relay.limits import PACE, Who, charges, for_people, limits_of, parks
from relay.mail.envelope import (
    NO_OWN_LIMITS,
    Account,
    Credential,
    Envelope,
    OwnLimits,
    Recipient,
    SessionInfo,
    Submission,
    Tenant,
)
from relay.mail.envelope import Stream as Kind
from relay.mail.message import Message
from relay.policy.facts import Allowance
from tests.fakes.clock import START
from tests.harness.counters import Driven
from tests.harness.redis import RedisServer

SETTINGS = Settings(sudden_times=0)
TENANTS = {"shop": 7, "rival": 8}
HERE, THERE = "192.0.2.1", "198.51.100.9"
SHARED = "shared.example"
LOT = 60  # newsletters that are charged in one call, for the sake of time


class Sender(NamedTuple):
    tenant: str
    stream: Kind
    client: str = HERE
    domain: str = ""  # "": one of the tenant's own
    login: str = ""


def mail(sender: Sender, now: float, own: OwnLimits = NO_OWN_LIMITS) -> Submission:
    name = sender.login or f"{sender.tenant}-{sender.stream}"
    tenant = Tenant(TENANTS[sender.tenant], sender.tenant, limits=own)
    login = Credential(name, name, sender.tenant, sender.stream)
    message = Message.split(f"From: info@{sender.domain or sender.tenant + '.example'}\r\n\r\nHi\r\n".encode())
    assert isinstance(message, Message)
    envelope = Envelope("", (Recipient("ann@example.net"),))
    return Submission(Account(tenant, login), envelope, SessionInfo(sender.client), now, message)


@pytest.fixture(params=["embedded", "redis", "slots"])
def counters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counters]:
    made: EmbeddedCounters | Driven
    if request.param == "embedded":
        made = EmbeddedCounters(tmp_path)
    else:
        server: RedisServer = request.getfixturevalue("empty_redis")
        made = Driven(server.url, RedisCounters if request.param == "redis" else SlottedCounters)
    yield made
    made.close()


def send(counters: Counters, sender: Sender, now: float, own: OwnLimits = NO_OWN_LIMITS) -> Allowance:
    """As intake charges it: mail of programs is parked, a person is told."""
    made = mail(sender, now, own)
    park, most = parks(made, SETTINGS)
    return counters.take(charges(made, SETTINGS), now, park=park, max_parked=most)


def campaign(counters: Counters, number: int, now: float) -> None:
    costs = [(limit, LOT * cost) for limit, cost in charges(mail(Sender("shop", Kind.MARKETING), now), SETTINGS)]
    told = [counters.take(costs, now, park=True) for _ in range(number // LOT)]
    assert all(one.granted for one in told) and told[-1].due > now + 60, "parked, with the last in minutes"


URGENT = [
    Sender("rival", Kind.TRANSACTIONAL),
    Sender("shop", Kind.TRANSACTIONAL, THERE),
    Sender("rival", Kind.PERSONAL),
    Sender("shop", Kind.PERSONAL),
    Sender("rival", Kind.TRANSACTIONAL, THERE, "shop.example"),
]


def test_no_campaign_stands_before_a_password_code_or_a_letter(counters: Counters) -> None:
    """12,000 newsletters in a moment, of which the last leaves in 19 minutes: of nobody else does a mail wait."""
    campaign(counters, 12_000, START)
    for sender in URGENT:
        said = send(counters, sender, START)
        assert (said.granted, said.due, said.limit) == (True, 0.0, ""), sender


def test_what_waits_for_a_limit_of_its_own_stands_in_nobodys_way(counters: Counters) -> None:
    """A stolen login hands in 12,000 in a moment, over its own pace: who shares its tenant, address or domain does not wait."""
    thief = Sender("shop", Kind.TRANSACTIONAL, domain=SHARED, login="stolen")
    costs = [(limit, LOT * cost) for limit, cost in charges(mail(thief, START), SETTINGS)]
    told = [counters.take(costs, START, park=True) for _ in range(12_000 // LOT)]
    assert all(one.granted for one in told), "its mail is parked"
    assert (told[-1].limit, told[-1].scope) == (PACE, "credential")
    assert told[-1].due == pytest.approx(START + (12_000 - 600) / 10, abs=0.1), "and leaves at the login's pace"
    for sender in (*URGENT, *(one._replace(domain=SHARED) for one in URGENT)):
        said = send(counters, sender, START)
        assert (said.granted, said.due, said.limit) == (True, 0.0, ""), sender
    late = send(counters, thief, START)
    assert (late.limit, late.scope) == (PACE, "credential"), "for itself it does"


@pytest.mark.parametrize("is_stream_limited", [True, False])
def test_a_tenant_whose_logins_are_over_its_pace_stands_in_no_others_way(
    counters: Counters, is_stream_limited: bool
) -> None:
    """Four logins, each within its own 600 a minute: what waits for the pace of their stream or tenant is not the address's."""
    less = {"stream_messages_per_minute": 0, "tenant_messages_per_minute": 1200}
    settings = SETTINGS if is_stream_limited else Settings(sudden_times=0, **less)
    scopes = set()
    for _ in range(600 // LOT):
        for login in range(4):
            sender = Sender("shop", Kind.TRANSACTIONAL, domain=SHARED, login=f"app{login}")
            costs = [(limit, LOT * cost) for limit, cost in charges(mail(sender, START), settings)]
            told = counters.take(costs, START, park=True)
            assert told.granted
            scopes.add(told.scope)
    assert scopes == {"", "stream" if is_stream_limited else "tenant"}
    for sender in (Sender("rival", Kind.TRANSACTIONAL, domain=SHARED), Sender("rival", Kind.PERSONAL)):
        said = send(counters, sender, START)
        assert (said.granted, said.due) == (True, 0.0), sender


def test_the_line_is_asked_for_where_no_limit_of_the_tenant_is_a_pair(counters: Counters) -> None:
    """In a cluster the slot of the tenant knows that the message waits, and the address's has to hear of it."""
    settings = Settings(
        sudden_times=0, transactional_messages_per_minute=60, stream_messages_per_minute=0, tenant_messages_per_minute=0
    )
    for _ in range(12_000 // LOT):
        costs = [(limit, LOT * cost) for limit, cost in charges(mail(URGENT[1]._replace(client=HERE), START), settings)]
        assert counters.take(costs, START, park=True).granted
    assert counters.take(charges(mail(URGENT[0], START), settings), START, park=True).due == 0.0


def test_what_waits_for_a_limit_of_its_own_passes_the_limit_once_more_at_most(counters: Counters) -> None:
    """Ten logins of a tenant hand in twice their own pace of 60: of the tenant's 180 there are two lines, each kept to."""
    settings = Settings(sudden_times=0, transactional_messages_per_minute=60, tenant_messages_per_minute=180)
    lines: list[list[float]] = [[], []]
    for half in (0, 1):
        for number in range(600):
            made = mail(Sender("shop", Kind.TRANSACTIONAL, THERE, login=f"app{number % 10}"), START)
            told = counters.take(charges(made, settings), START, park=True)
            assert told.granted
            lines[half].append(max(told.due, START))
    for line in lines:
        assert most_at_once(line, 180) <= 180 + 10, "ten logins have their turn at the same moment"
        assert max(line) == pytest.approx(START + (600 - 180) / 3, abs=1)


def test_what_was_charged_in_line_is_given_back(counters: Counters) -> None:
    made = charges(mail(Sender("shop", Kind.TRANSACTIONAL), START), SETTINGS)
    at_once = [limit for limit, _ in made if limit.since == AT_ONCE]
    in_line = [limit for limit, _ in made if limit.since == IN_LINE]
    for asked, charged, spared in (([(limit, 600) for limit, _ in made], at_once, in_line), (made, in_line, at_once)):
        before = [counters.used(limit, START) for limit in (*at_once, *in_line)]
        told = counters.take(asked, START, park=True)
        assert told.granted
        after = [counters.used(limit, START) for limit in (*at_once, *in_line)]
        assert after != before
        counters.give_back(asked, START, told)
        assert [counters.used(limit, START) for limit in (*at_once, *in_line)] == before
        told = counters.take(asked, START, park=True)
        assert {counters.used(limit, START) for limit in charged} == {asked[0][1]}
        assert [counters.used(limit, START) for limit in spared] == ([0] * 4 if asked is not made else [600] * 4)


def test_a_campaign_waits_for_urgent_mail_that_came_before(counters: Counters) -> None:
    logins = [("app", 600), ("crm", 600), *((f"ann{number}", 30) for number in range(20))]
    for login, most in logins:
        sender = Sender("shop", Kind.TRANSACTIONAL if most > 30 else Kind.PERSONAL, THERE, login=login)
        for cost in (most // 2, most // 2):
            costs = [(limit, cost) for limit, _ in charges(mail(sender, START), SETTINGS)]
            said = counters.take(costs, START, park=False)
            assert said.granted, said
    waits = send(counters, Sender("shop", Kind.MARKETING), START)
    assert (waits.granted, waits.limit, waits.scope) == (True, PACE, "tenant") and waits.due > START


def most_at_once(moments: list[float], amount: int) -> float:
    """What passed in any span of time beyond `amount` a minute."""
    ordered = sorted(moments)
    most = low = 0.0
    for number, at in enumerate(ordered):
        filled = number - (at - START) * amount / MINUTE
        low = min(low, filled)
        most = max(most, filled + 1 - low)
    return most


@pytest.mark.parametrize("scope", ["tenant", "domain", "client"])
def test_urgent_mail_alone_keeps_to_the_limit_and_its_burst(counters: Counters, scope: str) -> None:
    """So do campaigns alone, and both together where neither stood parked before the other came."""
    own = OwnLimits({("tenant", "", PACE): 60}) if scope == "tenant" else NO_OWN_LIMITS
    settings = Settings(sudden_times=0, **{f"{scope}_{PACE}": 60})
    for stream in (Kind.TRANSACTIONAL, Kind.MARKETING):
        left: list[float] = []
        for second in range(30):
            for turn in range(12):
                sender = Sender(("shop", "rival")[turn % 2 if scope != "tenant" else 0], stream, HERE, SHARED)
                sender = sender._replace(login=f"{sender.tenant}-{stream}-{turn // 2}")
                made = mail(sender, START + second, own)
                told = counters.take(charges(made, settings), START + second, park=True)
                left += [max(told.due, START + second)] if told.granted else []
        assert len(left) == 360 and max(left) > START + 290, "what is more leaves at 60 a minute"
        assert most_at_once(left, 60) <= 60.001, stream
        counters.reset(*(each for limit in paces(settings, own) for each in limit))


def paces(settings: Settings, own: OwnLimits) -> list[tuple[Limit, ...]]:
    """All that these mails were charged to in messages a minute."""
    found = []
    for tenant, number in TENANTS.items():
        for stream in Kind:
            who = Who(f"{tenant}-{stream}", number, stream, SHARED, HERE)
            found.append(limits_of(settings, who, own)[0])
    return found


def test_what_an_operator_set_holds_for_both(counters: Counters) -> None:
    own = OwnLimits({("tenant", "", PACE): 3})
    for stream in (Kind.MARKETING, Kind.TRANSACTIONAL):
        told = [send(counters, Sender("shop", stream), START, own) for _ in range(4)]
        assert [one.due > START for one in told] == [False] * 3 + [True], stream
        assert (told[3].limit, told[3].scope, told[3].allowed) == (PACE, "tenant", 3)


def test_a_campaign_pays_for_no_more_limits_than_before() -> None:
    for stream, most in ((Kind.MARKETING, 5), (Kind.PERSONAL, 8), (Kind.TRANSACTIONAL, 13)):
        found = limits_of(SETTINGS, Who("news", 7, stream, "shop.example", HERE), NO_OWN_LIMITS)[0]
        assert len(found) == most, stream
        people = [limit for limit in map(for_people, found) if limit is not None]
        campaigns = limits_of(SETTINGS, Who("news", 7, Kind.MARKETING, "shop.example", HERE), NO_OWN_LIMITS)[0]
        assert people[1].name == PACE and people[2:] == list(campaigns[2:]), (
            "people see one limit, whatever it is asked for"
        )
