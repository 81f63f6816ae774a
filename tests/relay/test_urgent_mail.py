"""Mail that somebody waits for goes before campaigns, at the limits that the product comes with (docs/decisions/015)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from policies.throttle import Settings
from relay.counters.contract import MINUTE, Counters, Limit
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
LOT = 20  # newsletters that are charged in one call, for the sake of time


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
    for stream, most in ((Kind.MARKETING, 5), (Kind.PERSONAL, 8), (Kind.TRANSACTIONAL, 8)):
        found = limits_of(SETTINGS, Who("news", 7, stream, "shop.example", HERE), NO_OWN_LIMITS)[0]
        assert len(found) == most, stream
        people = [limit for limit in map(for_people, found) if limit is not None]
        campaigns = limits_of(SETTINGS, Who("news", 7, Kind.MARKETING, "shop.example", HERE), NO_OWN_LIMITS)[0]
        assert people[2:] == list(campaigns[2:]), "people see one limit, whatever it is asked for"
