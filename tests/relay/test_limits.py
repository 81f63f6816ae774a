"""From settings to charges, over two weeks in a moment (THROTTLE-3)."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from policies.throttle import Settings
from relay.counters.contract import DAY, WARM_UP
from relay.counters.embedded import EmbeddedCounters
from relay.counters.known import marks_of
from relay.limits import charges
from relay.mail.envelope import (
    Account,
    Credential,
    Domain,
    Envelope,
    Recipient,
    SessionInfo,
    Stream,
    Submission,
    Tenant,
)
from relay.mail.message import Message
from tests.fakes.clock import START
from tests.harness.timing import rounds

SETTINGS = Settings()
MINUTELY = [f"{scope}_messages_per_minute" for scope in ("transactional", "stream", "tenant", "domain", "client")]
MINUTELY += ["transactional_recipients_per_day", "tenant_recipients_per_day"]


def mail(
    now: float, *, login_at: float = START, domain_at: float = 0.0, rcpt: int = 1, stream: str = "marketing"
) -> Submission:
    tenant = Tenant(7, "shop", domains={"shop.example": Domain("shop.example", verified=True, created_at=domain_at)})
    login = "news" if stream == "marketing" else stream
    credential = Credential(login, login, "shop", Stream(stream), created_at=login_at)
    everyone = tuple(Recipient(f"p{number}@x.example") for number in range(rcpt))
    message = Message.split(b"From: info@news.shop.example\r\n\r\nHi\r\n")
    assert isinstance(message, Message)
    return Submission(Account(tenant, credential), Envelope("", everyone), SessionInfo(""), now, message)


def warm_ups(made: Submission, settings: Settings = SETTINGS) -> list[tuple[str, int]]:
    return [(limit.scope, limit.amount) for limit, _ in charges(made, settings) if limit.name == WARM_UP]


def test_who_is_new_warms_up_and_who_is_not_pays_nothing_for_it() -> None:
    assert warm_ups(mail(START)) == [("credential", 50)]
    assert warm_ups(mail(START, domain_at=START - 5)) == [("credential", 50), ("domain", 50)], "also under a subdomain"
    assert warm_ups(mail(START + 10 * DAY)) == [("credential", 50)] and not warm_ups(mail(START + 11 * DAY))
    assert not warm_ups(mail(START + 8 * DAY, stream="personal")), "10,000 a day is reached sooner"
    assert not warm_ups(mail(START, login_at=0.0)) and not warm_ups(mail(START), Settings(warmup_recipients=0))
    assert warm_ups(mail(START), replace(SETTINGS, warmup_recipients=500)) == [("credential", 500)]


def test_names_under_a_domain_are_counted_with_it() -> None:
    """THROTTLE-1, THROTTLE-3: they are made up at will, and each would have limits and a warm-up of its own."""
    settings = replace(SETTINGS, domain_messages_per_minute=2, domain_recipients_per_day=600)

    def keys(sender: str) -> list[str]:
        message = Message.split(f"From: info@{sender}\r\n\r\nHi\r\n".encode())
        assert isinstance(message, Message)
        made = replace(mail(START, domain_at=START), message=message)
        return [limit.key for limit, _ in charges(made, settings) if limit.scope == "domain"]

    assert (
        keys("r1.shop.example")
        == keys("a.b.shop.example")
        == keys("shop.example")
        == ["d:shop.example"] * 2 + ["w:shop.example"]
    )
    assert keys("othershop.example") == ["d:othershop.example"] * 2, "none of his: it is only like one"


def test_two_weeks_of_a_new_customer(tmp_path: Path) -> None:
    """He tries 100,000 every day; what leaves doubles each day, the rest waits or is told to wait."""
    counters = EmbeddedCounters(tmp_path)
    leaves: Counter[int] = Counter()
    for day in range(14):
        now = START + day * DAY + 1
        for _ in range(300):
            asked = charges(mail(now, rcpt=10), SETTINGS)
            allowance = counters.take(asked, now, park=True, max_parked=1_000)
            if allowance.granted:
                leaves[int((max(allowance.due, now) - START) // DAY)] += 10
    counters.close()
    assert [leaves[day] for day in range(6)] == pytest.approx([50, 100, 200, 400, 800, 1600])
    assert leaves[8] == 3_000, "later his own pace is the smaller one"


@pytest.mark.parametrize("age_days", [400, 1])
def test_all_limits_and_signs_of_a_message_cost_little(
    tmp_path: Path, age_days: int, record_property: Callable[[str, object], None]
) -> None:
    """Under 60 microseconds of CPU, embedded."""
    counters = EmbeddedCounters(tmp_path)
    wide = replace(SETTINGS, warmup_recipients=20_000, **dict.fromkeys(MINUTELY, 10**9))
    now = START + age_days * DAY
    one = mail(now, login_at=START, domain_at=START, stream="transactional")
    keys = [f"{{t7}}text:{number}:1" for number in range(3)]
    messages, best = 100, float("inf")

    def marks(asked: Submission) -> bytes:
        return marks_of((recipient.address for recipient in asked.recipients), b"k" * 32)

    gc.disable()
    try:
        for timed in rounds(60e-6 * messages, time.process_time, number=70):
            with timed:
                for _ in range(messages):
                    assert counters.take(charges(one, wide, marks=marks), now, park=True).granted
                    counters.hits(keys, DAY, now)
            best = min(best, timed.seconds / messages)
    finally:
        gc.enable()
        counters.close()
    figure = f"{len(charges(one, wide, marks=marks))} limits and signs: {best * 1e6:.1f} us"
    sys.stdout.write(f"{figure}\n")
    record_property("figures", figure)


def test_a_campaign_that_waits_for_its_days_holds_up_no_other_mail_of_the_domain(tmp_path: Path) -> None:
    """THROTTLE-3: a password reset leaves at once beside a newsletter that has reserved the domain's first four days."""
    counters = EmbeddedCounters(tmp_path)
    now = START + 60.0

    def waits(stream: str, rcpt: int) -> float:
        asked = charges(mail(now, login_at=0.0, domain_at=START, rcpt=rcpt, stream=stream), SETTINGS)
        allowance = counters.take(asked, now, park=True, max_parked=10_000)
        assert allowance.granted
        return max(0.0, allowance.due - now)

    campaign = [waits("marketing", 25) for _ in range(30)]
    assert campaign[1] == 0.0 and [int((wait + 60) // DAY) for wait in (campaign[2], campaign[-1])] == [1, 3]
    assert [waits("transactional", 1) for _ in range(50)] == [0.0] * 50
    assert waits("transactional", 1) > 3600, "what is new begins with few, in each stream"
    assert waits("personal", 1) == 0.0
    counters.close()


def test_the_warm_up_of_a_domain_goes_on_with_what_was_counted_by_its_name_alone() -> None:
    """As all streams were counted before: campaigns go on with it, so that no domain begins anew with an upgrade."""
    keys = {
        stream: [limit.key for limit, _ in charges(mail(START, login_at=0.0, domain_at=START, stream=stream), SETTINGS)]
        for stream in ("marketing", "transactional", "personal")
    }
    warm = {stream: next(key for key in found if key.startswith("w:")) for stream, found in keys.items()}
    assert warm["marketing"] == "w:shop.example" and len(set(warm.values())) == 3
