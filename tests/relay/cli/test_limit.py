"""`zegel limit`: who may send how much, what is used of it, which limit bites whom; beside a gateway and alone."""

from __future__ import annotations

import base64
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.throttle import Settings
from relay.cli.client import whoever
from relay.cli.demo_setup import config_text
from relay.counters.contract import DAY, IN_LINE, MINUTE, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.directory import Directory
from relay.keyring import Keyring
from relay.limits import Who, bite_key, limits_of, signs_of
from relay.mail.envelope import NO_OWN_LIMITS, Account
from tests.harness.gateway import Gateway
from tests.harness.post import letter, outsiders, post
from tests.relay.cli.conftest import Zegel

PERSON = Who("shop-personal", 1, "personal")


def row(zegel: Zegel, *words: str) -> dict[str, Any]:
    """The one row that `limit show` has for these words."""
    rows = zegel.ask("limit", "show", "shop", *words)
    assert len(rows) == 1, rows
    found: dict[str, Any] = rows[0]
    return found


def account(folder: Path, name: str) -> Account:
    """A login as the gateway knows it, with when it was made."""
    directory = Directory.load(folder / "data" / "zegel.db", Keyring.open(folder / "keys", create=False))
    tenant = directory.tenant("shop")
    assert tenant is not None
    return Account(tenant, next(each for each in directory.credentials_of(tenant) if each.name == name))


def audited(folder: Path) -> list[str]:
    with sqlite3.connect(f"file:{folder}/data/zegel.db?mode=ro", uri=True) as database:
        return [name for (name,) in database.execute("SELECT op FROM audit ORDER BY id")]


def test_every_limit_of_a_tenant_is_shown_with_who_set_it(shop: Zegel) -> None:
    rows = shop.ask("limit", "show", "shop")
    assert [(each["scope"], each["subject"]) for each in rows if each["name"] == "messages_per_minute"] == [
        ("credential", "shop-newsletter"),
        ("credential", "shop-personal"),
        ("credential", "shop-transactional"),
        ("stream", "marketing"),
        ("stream", "personal"),
        ("stream", "transactional"),
        ("tenant", "shop"),
        ("domain", "shop.example"),
    ], "in the order of docs/limits.md, in which the first of equals is named"
    person = row(shop, "messages_per_minute", "--credential", "shop-personal")
    assert person == {
        "scope": "credential", "subject": "shop-personal", "name": "messages_per_minute", "streams": ["personal"],
        "allowed": 30, "used": 0, "left": 30, "frees_at": None, "set_by": "config", "bites_24h": 0,
    }  # fmt: skip
    assert "shop-personal" in shop("limit", "show", "shop").out


@pytest.mark.parametrize(
    ("narrowed", "words"),
    [
        ((), ("tenant", "shop")),
        (("--credential", "shop-personal"), ("credential", "shop-personal")),
        (("--stream", "marketing"), ("stream", "marketing")),
        (("--domain", "shop.example"), ("domain", "shop.example")),
    ],
)
def test_what_an_operator_sets_holds_for_that_one_until_it_is_taken_back(
    shop: Zegel, narrowed: tuple[str, ...], words: tuple[str, str]
) -> None:
    before = shop.ask("limit", "show", "shop")
    done = shop.ask("limit", "set", "shop", "messages_per_minute", "7", *narrowed)
    assert done == {
        "tenant": "shop", "scope": words[0], "subject": words[1], "name": "messages_per_minute", "value": 7, "waiting": 0,
    }  # fmt: skip
    after = shop.ask("limit", "show", "shop")
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [(each["scope"], each["subject"], each["allowed"], each["set_by"]) for each in changed] == [
        (*words, 7, "operator")
    ]
    shop.ask("limit", "set", "shop", "messages_per_minute", "default", *narrowed)
    assert shop.ask("limit", "show", "shop") == before


def test_who_sets_a_limit_hears_what_it_has_parked(shop: Zegel, tmp_path: Path) -> None:
    """It keeps its turn; what comes next goes by the new limit."""
    who = Who("shop-newsletter", 1, "marketing")
    pace, day = (limits[0] for limits in limits_of(Settings(), who, NO_OWN_LIMITS))
    counters, now = EmbeddedCounters(tmp_path / "data"), time.time()
    slow, few = pace._replace(amount=1, burst=1), day._replace(amount=5)
    narrowed = ("--credential", "shop-newsletter")
    shop.ask("limit", "set", "shop", "messages_per_minute", "1", *narrowed)
    shop.ask("limit", "set", "shop", "recipients_per_day", "5", *narrowed)
    for _ in range(100):
        assert counters.take([(slow, 1)], now, park=True).granted
    for _ in range(3):
        assert counters.take([(few, 4)], now, park=True).granted
    said = shop("limit", "set", "shop", "messages_per_minute", "600", *narrowed).out
    assert "(messages: 99)" in said and "zegel queue retry" in said, said
    assert row(shop, "messages_per_minute", *narrowed)["left"] >= 500
    assert shop.ask("limit", "set", "shop", "recipients_per_day", "default", *narrowed)["waiting"] == 8
    assert shop.ask("limit", "set", "shop", "messages_per_minute", "default", *narrowed)["waiting"] == 0
    assert shop.ask("limit", "set", "shop", "recipients_per_message", "5")["waiting"] == 0
    assert "parked" not in shop("limit", "set", "shop", "messages_per_minute", "600", "--stream", "marketing").out
    counters.close()


def test_no_limit_is_a_limit_that_is_not_there(shop: Zegel) -> None:
    shop.ask("limit", "set", "shop", "recipients_per_day", "0")
    assert [each["scope"] for each in shop.ask("limit", "show", "shop", "recipients_per_day")] == ["credential"] * 3


def test_what_bites_is_seen_and_lifted_and_written_down(shop: Zegel, tmp_path: Path) -> None:
    counters = EmbeddedCounters(tmp_path / "data")
    now = time.time()
    pace = limits_of(Settings(), PERSON, NO_OWN_LIMITS)[0][0]
    assert counters.take([(pace, 30)], now, park=False).granted
    for _ in range(3):
        assert not counters.take([(pace, 1)], now, park=False).granted
        counters.hit(bite_key("credential", "messages_per_minute", PERSON), DAY, now)
    shown = row(shop, "messages_per_minute", "--credential", "shop-personal")
    assert 25 <= shown["used"] <= 30 and shown["bites_24h"] == 3
    assert shown["left"] == 30 - shown["used"]
    assert row(shop, "recipients_per_day", "--credential", "shop-personal")["bites_24h"] == 0
    lifted = shop.ask("limit", "reset", "shop", "--credential", "shop-personal")
    assert (lifted["subject"], lifted["limits"]) == ("shop-personal", 4), "its warm-up with them"
    assert row(shop, "messages_per_minute", "--credential", "shop-personal")["used"] == 0
    assert counters.take([(pace, 30)], time.time(), park=False).granted, "and the workers see it"
    assert audited(tmp_path)[-1] == "limit.reset"
    last = shop.ask("audit", "shop")[0]
    assert (last["op"], last["tenant"], last["detail"]["subject"]) == ("limit.reset", "shop", "shop-personal")
    assert last["actor"] == f"operator:{whoever()}", "who did it, not only that an operator did"
    line = next(line for line in shop("audit", "shop").out.splitlines() if "limit.reset" in line)
    assert whoever() in line and "subject=shop-personal" in line
    assert shop("audit", "nobody").code == 1
    for words, whose in (((), "--tenant shop"), (("--credential", "shop-personal"), "--credential shop-personal")):
        told = shop("limit", "reset", "shop", *words).out
        assert f"zegel queue retry {whose} --parked" in told, "what is parked keeps its turn"
    counters.close()


def test_a_pace_of_all_mail_is_one_row_and_lifted_for_urgent_mail_too(shop: Zegel, tmp_path: Path) -> None:
    """Urgent mail asks a bucket of its own and counts in that of all mail: people see the one."""
    counters = EmbeddedCounters(tmp_path / "data")
    shop.ask("limit", "set", "shop", "messages_per_minute", "5")
    tenant = account(tmp_path, "shop-personal").tenant
    paces = [limit for limit in limits_of(Settings(), PERSON, tenant.limits)[0] if limit.scope == "tenant"]
    now = time.time()
    assert counters.take([(limit, 5) for limit in paces], now, park=False).granted
    refused = counters.take([(limit, 1) for limit in paces], now, park=False)
    assert (refused.granted, refused.limit, refused.scope, refused.allowed) == (
        False,
        "messages_per_minute",
        "tenant",
        5,
    )
    shown = [each for each in shop.ask("limit", "show", "shop", "messages_per_minute") if each["scope"] == "tenant"]
    assert len(shown) == 1 and sorted(shown[0]["streams"]) == ["marketing", "personal", "transactional"]
    assert (shown[0]["allowed"], shown[0]["set_by"]) == (5, "operator") and 3 <= shown[0]["used"] <= 5
    lifted = shop.ask("limit", "reset", "shop", "messages_per_minute")
    assert lifted["limits"] == len(shop.ask("limit", "show", "shop", "messages_per_minute"))
    assert all(counters.used(limit, time.time()) == 0 for limit in paces)
    assert counters.take([(limit, 5) for limit in paces], time.time(), park=False).granted
    counters.close()


def test_the_pace_of_an_address_is_shown_and_lifted_where_it_is_named(shop: Zegel, tmp_path: Path) -> None:
    """Which addresses mail comes from is not kept. Of IPv6 it is the line's."""
    counters = EmbeddedCounters(tmp_path / "data")
    who = PERSON._replace(client="2001:db8:0:7::/64")
    paces = [limit for limit in limits_of(Settings(), who, NO_OWN_LIMITS)[0] if limit.scope == "client"]
    assert counters.take([(limit, 1800) for limit in paces], time.time(), park=False).granted
    shop.ask("tenant", "add", "rival")
    rival = account(tmp_path, "shop-personal").tenant.id + 1
    settings, other = Settings(), who._replace(tenant=rival, stream="transactional")
    line = next(one for one in limits_of(settings, other, NO_OWN_LIMITS)[0][::-1] if one.since == IN_LINE)
    assert line.scope == "client" and counters.take([(line, 9)], time.time(), park=True).granted
    at = ("--client", "2001:db8:0:7::25")
    (shown,) = shop.ask("limit", "show", "shop", "messages_per_minute", *at)
    assert (shown["scope"], shown["subject"], shown["allowed"]) == ("client", "2001:db8:0:7::/64", 1800)
    assert 1000 < shown["used"] <= 1800
    assert shop.ask("limit", "reset", "shop", *at)["subject"] == "2001:db8:0:7::/64"
    assert counters.used(paces[0], time.time()) == 0
    assert counters.used(line, time.time()) == 0, "nor does the line of another tenant stand"
    assert shop.ask("limit", "show", "shop", *at)[0]["used"] == 0
    assert "client" not in {each["scope"] for each in shop.ask("limit", "show", "shop")}
    counters.close()


def test_a_warm_up_is_seen_and_lifted(shop: Zegel, tmp_path: Path) -> None:
    counters = EmbeddedCounters(tmp_path / "data")
    words = ("warmup_recipients_per_day", "--credential", "shop-personal")
    before = row(shop, *words)
    assert (before["allowed"], before["left"], before["frees_at"], before["set_by"]) == (50, 50, None, "config")
    now = time.time()
    made = next(
        limit
        for limit in signs_of(Settings(), account(tmp_path, "shop-personal"), "", now)
        if limit.name == "warmup_recipients_per_day"
    )
    assert counters.take([(made, 50)], now, park=False).granted
    counters.hit(bite_key("credential", made.name, PERSON), DAY, now)
    shown = row(shop, *words)
    assert (shown["used"], shown["left"], shown["bites_24h"]) == (50, 0, 1)
    assert made.since + DAY - 1 < shown["frees_at"] < made.since + DAY + 1
    shop.ask("limit", "reset", "shop", *words)
    assert row(shop, *words)["left"] == 50 and counters.take([(made, 50)], time.time(), park=False).granted
    counters.close()


def test_the_warm_up_of_a_domain_is_shown_by_stream_and_lifted_in_all(shop: Zegel, tmp_path: Path) -> None:
    """A parked campaign holds up no password reset, and each stream's bites are its own."""
    counters = EmbeddedCounters(tmp_path / "data")
    words = ("warmup_recipients_per_day", "--domain", "shop.example")
    now = time.time()
    made = account(tmp_path, "shop-newsletter")
    campaign = next(limit for limit in signs_of(Settings(), made, "shop.example", now) if limit.scope == "domain")
    assert counters.take([(campaign, 50)], now, park=True).granted
    counters.hit(bite_key("domain", campaign.name, Who.at(made, "shop.example")), DAY, now)
    shown = {tuple(each["streams"]): each for each in shop.ask("limit", "show", "shop", *words)}
    assert {each["subject"] for each in shown.values()} == {"shop.example"}
    assert {stream: (each["left"], each["bites_24h"]) for (stream,), each in shown.items()} == {
        "marketing": (0, 1),
        "personal": (50, 0),
        "transactional": (50, 0),
    }
    assert "transactional" in shop("limit", "show", "shop", *words).out, "people see which row is whose"
    assert shop.ask("limit", "reset", "shop", *words)["limits"] == 3
    assert [each["left"] for each in shop.ask("limit", "show", "shop", *words)] == [50] * 3
    counters.close()


def test_what_is_sudden_is_lifted_by_name_only(shop: Zegel, tmp_path: Path) -> None:
    counters = EmbeddedCounters(tmp_path / "data")
    now = time.time()
    made = next(
        limit
        for limit in signs_of(Settings(), account(tmp_path, "shop-personal"), "", now)
        if limit.name == "sudden_change"
    )
    assert not counters.take([(made, 1)], now - 20 * DAY, park=False).sudden
    assert counters.take([(made, 250)], now, park=False).sudden
    shown = row(shop, "sudden_change", "--credential", "shop-personal")
    assert (shown["used"], shown["allowed"], shown["left"], shown["frees_at"]) == (250, None, None, None)
    shop.ask("limit", "reset", "shop", "--credential", "shop-personal")
    assert counters.take([(made, 1)], now, park=False).sudden, "nobody asked to forget what it sent for two weeks"
    lifted = shop.ask("limit", "reset", "shop", "sudden_change", "--credential", "shop-personal")
    assert lifted["limits"] == 1 and not counters.take([(made, 250)], now, park=False).sudden
    assert audited(tmp_path)[-1] == "limit.reset"
    counters.close()


def test_what_is_set_for_the_door_is_shown(shop: Zegel) -> None:
    assert shop.ask("limit", "show", "shop", "connections_per_address") == []
    shop.ask("limit", "set", "shop", "connections_per_address", "2", "--stream", "personal")
    shown = row(shop, "connections_per_address")
    assert (shown["scope"], shown["subject"], shown["allowed"]) == ("stream", "personal", 2)
    assert (shown["set_by"], shown["used"], shown["left"]) == ("operator", None, None)
    assert "connections_per_address" in shop("limit", "show", "shop").out


FIRST_TIME = "first_time_recipients_per_day"


def test_recipients_of_the_first_time_are_limited_by_login_for_the_narrowest_that_is_set(shop: Zegel) -> None:
    def shown() -> dict[str, tuple[int, str]]:
        rows = shop.ask("limit", "show", "shop", FIRST_TIME)
        assert all(each["scope"] == "credential" and each["used"] == 0 for each in rows)
        return {each["subject"]: (each["allowed"], each["set_by"]) for each in rows}

    assert shown() == {"shop-personal": (2_000, "config"), "shop-transactional": (50_000, "config")}
    shop.ask("limit", "set", "shop", FIRST_TIME, "40")
    assert shown() == {"shop-personal": (40, "operator"), "shop-transactional": (40, "operator")}
    shop.ask("limit", "set", "shop", FIRST_TIME, "300", "--stream", "transactional")
    shop.ask("limit", "set", "shop", FIRST_TIME, "0", "--credential", "shop-personal")
    assert shown() == {"shop-transactional": (300, "operator")}, "0 is no limit"
    assert shop.ask("limit", "reset", "shop", FIRST_TIME)["limits"] == 1


def test_a_full_limit_says_when_it_frees(shop: Zegel, tmp_path: Path) -> None:
    counters = EmbeddedCounters(tmp_path / "data")
    shop.ask("limit", "set", "shop", "recipients_per_day", "5", "--stream", "personal")
    daily = next(
        each
        for each in limits_of(Settings(stream_recipients_per_day=5), PERSON, NO_OWN_LIMITS)[1]
        if each.scope == "stream"
    )
    now = time.time()
    assert counters.take([(daily, 5)], now, park=False).granted
    shown = row(shop, "recipients_per_day", "--stream", "personal")
    assert (shown["used"], shown["left"], shown["set_by"]) == (5, 0, "operator")
    assert now + 23 * 3600 - 1 < shown["frees_at"] <= now + 24 * 3600 + 1
    counters.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "shop", "messages_per_minute", "many"), 2, "no number"),
        (("set", "shop", "messages_per_minute", "5", "--stream", "personal", "--domain", "shop.example"), 2, "one of"),
        (("set", "shop", "messages_per_minute", "5", "--credential", "nobody"), 1, "no such credential"),
        (("set", "shop", "messages_per_minute", "5", "--domain", "other.example"), 1, "no such domain"),
        (("set", "shop", "recipients_per_message", "5", "--domain", "shop.example"), 1, "leave --domain out"),
        (("set", "shop", "recipients_per_message", "0"), 2, "from 1"),
        (("set", "shop", FIRST_TIME, "5", "--domain", "shop.example"), 1, "leave --domain out"),
        (("set", "shop", FIRST_TIME, "5", "--stream", "marketing"), 1, "consents"),
        (("set", "shop", "speed", "5"), 2, "speed"),
        (("set", "nobody", "messages_per_minute", "5"), 1, "no tenant"),
        (("show", "nobody"), 1, "no tenant"),
        (("reset", "nobody"), 1, "no tenant"),
        (("reset", "shop", "recipients_per_day", "--stream", "personal"), 1, "no limit holds"),
        (("show", "shop", "--credential", "nobody"), 1, "no such credential"),
        (("show", "shop", "--domain", "other.example"), 1, "no such domain"),
        (("reset", "shop", "--credential", "nobody"), 1, "no such credential"),
    ],
)
def test_what_cannot_be_says_why(shop: Zegel, words: tuple[str, ...], code: int, said: str) -> None:
    answer = shop("limit", *words)
    assert answer.code == code, answer
    assert said in answer.err


def test_a_domain_is_found_however_it_is_written(shop: Zegel, tmp_path: Path) -> None:
    shop.ask("limit", "set", "shop", "messages_per_minute", "7", "--domain", "SHOP.example")
    assert row(shop, "messages_per_minute", "--domain", "Shop.Example")["allowed"] == 7
    assert shop.ask("limit", "reset", "shop", "messages_per_minute", "--domain", "SHOP.example")["limits"]


def test_what_is_not_lifted_is_not_written_down_as_lifted(shop: Zegel, tmp_path: Path) -> None:
    assert shop("limit", "reset", "shop", "first_time_recipients_per_day", "--stream", "marketing").code == 1
    assert "limit.reset" not in audited(tmp_path)


# -- beside a running gateway, with two workers -------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(
        tmp_path_factory.mktemp("limited"), delivery={"mode": "capture", "smarthosts": [], "tls": "required"}
    )
    yield made.start()
    made.stop()


@pytest.fixture
def running(gateway: Gateway) -> Iterator[Zegel]:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    zegel = Zegel(config)
    yield zegel
    for each in gateway.op("limit.list", tenant="shop"):
        narrowed = [] if each["scope"] == "tenant" else [f"--{each['scope']}", each["subject"]]
        zegel.ask("limit", "set", "shop", each["name"], "default", *narrowed)


def _all(is_so: Callable[[], bool]) -> bool:
    """Whichever worker answers: of eight connections each of the two has some."""
    return all(is_so() for _ in range(8))


def send(gateway: Gateway, recipients: int = 1) -> str:
    return post(gateway, "personal", outsiders(recipients), letter("To: p0@party0.example", "Subject: Hallo")).reply


def test_a_limit_holds_within_two_seconds_in_every_worker_and_is_lifted_at_once(
    gateway: Gateway, running: Zegel
) -> None:
    running.ask("limit", "set", "shop", "messages_per_minute", "2", "--credential", "personal")
    gateway.within(lambda: _all(lambda: send(gateway).startswith("450 4.7.28")), 2.0, "not in force within two seconds")
    shown = row(running, "messages_per_minute", "--credential", "personal")
    assert (shown["allowed"], shown["left"]) == (2, 0) and shown["bites_24h"] >= 2
    running.ask("limit", "reset", "shop", "--credential", "personal")
    assert send(gateway).startswith("250")


def test_a_limit_that_is_raised_takes_up_what_the_old_one_parked(gateway: Gateway, running: Zegel) -> None:
    """A hundred mails at one a minute: what comes next waited for 99 minutes, whatever the new limit was."""
    counters, now = EmbeddedCounters(gateway.settings.server.data_dir), time.time()
    slow = Limit("messages_per_minute", "credential", f"c:{gateway.logins['transactional'][0]}", 1, MINUTE, 1)
    assert all(counters.take([(slow, 1)], now, park=True).granted for _ in range(100))
    counters.close()
    running.ask("limit", "set", "shop", "messages_per_minute", "600", "--credential", "transactional")
    shown = row(running, "messages_per_minute", "--credential", "transactional")
    assert 0 < shown["used"] <= 100 and shown["left"] == 600 - shown["used"]
    code = letter("To: p0@party0.example", "Subject: Uw code", body="Uw code is 271828.")
    answer = post(gateway, "transactional", outsiders(1), code)

    def events() -> list[str]:
        return [event["event"] for told in running("trace", answer.queue_id, "--json").json for event in told["events"]]

    gateway.until(lambda: "finished" in events(), 5.0, "it is parked")


def test_an_account_may_have_its_own_number_of_recipients(gateway: Gateway, running: Zegel) -> None:
    running.ask("limit", "set", "shop", "recipients_per_message", "2", "--stream", "personal")
    running.ask("limit", "set", "shop", "recipients_per_message", "9")

    def third() -> str:
        with gateway.connect() as client:
            client.login(*gateway.logins["personal"])
            client.ask("MAIL FROM:<info@sender.example>")
            return [client.ask(f"RCPT TO:<p{n}@party.example>") for n in range(3)][2]

    def is_strictest() -> bool:
        reply = third()
        return reply.startswith("452 4.5.3 [THROTTLE-1]") and "no more than 2." in reply

    gateway.within(lambda: _all(is_strictest), 2.0, "not in force within two seconds")


def test_a_login_may_have_its_own_patience_with_wrong_passwords(gateway: Gateway, running: Zegel) -> None:
    running.ask("limit", "set", "shop", "failed_logins_per_10_minutes", "2", "--credential", "transactional")
    name, password = gateway.logins["transactional"]
    time_of_change = time.monotonic()
    gateway.until(lambda: time.monotonic() - time_of_change > 0.6, 2.0, "the directory is read four times a second")
    assert [_login(gateway, name, "wrong", "203.0.113.7")[:3] for _ in range(2)] == ["535"] * 2
    assert _login(gateway, name, password, "203.0.113.7").startswith("454 4.7.0 [THROTTLE-10]")
    assert _login(gateway, name, password, "203.0.113.8").startswith("235")
    other, secret = gateway.logins["personal"]
    assert _login(gateway, other, secret, "203.0.113.7").startswith("235"), "the address as a whole may fail more often"


def test_an_account_may_have_its_own_number_of_connections(gateway: Gateway, running: Zegel) -> None:
    running.ask("limit", "set", "shop", "connections_per_address", "1", "--credential", "personal")
    name, password = gateway.logins["personal"]
    with gateway.connect("proxy", address="203.0.113.9") as first:
        first.reply()
        gateway.until(
            lambda: _login(gateway, name, password, "203.0.113.9").startswith("454 4.7.0 [SMTP-11]"),
            2.0,
            "not in force",
        )
        assert _login(gateway, name, password, "203.0.113.10").startswith("235")
    gateway.until(lambda: _login(gateway, name, password, "203.0.113.9").startswith("235"), 5.0, "still counted")


def _login(gateway: Gateway, name: str, password: str, address: str) -> str:
    with gateway.connect("proxy", address=address) as client:
        client.reply()
        client.send(b"EHLO client.test\r\n")
        client.reply()
        client.send(b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()) + b"\r\n")
        return str(client.reply())
