"""A key is replaced while mail that was signed with it is on its way, and no signature fails (DKIM-9)."""

from __future__ import annotations

from typing import Any

import pytest

from relay.dkim import keys, rotation
from relay.dkim.rotation import DAY
from relay.dkim.sign import body_hash, sign
from relay.mail.message import Malformed, Message
from tests.contract.conftest import START, World

HOUR = 3_600.0
RAW = b"From: info@shop.example\r\nTo: ann@dest.example\r\nSubject: Hello\r\n\r\nHello.\r\n"
DOMAIN = "shop.example"


class Zone:
    """A zone that holds what the gateway said is to be published, and nothing that it did not say."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.records: dict[str, str] = {}

    def publish(self) -> None:
        records = self._world.call("dkim.dns", domain=DOMAIN)
        self.records = {record["name"]: record["value"] for record in records}
        assert len(self.records) == len(records), "one record for each name"

    def check(self) -> list[dict[str, Any]]:
        names = self._world.owner.questions("dkim.check", {"domain": DOMAIN})
        seen = {name: [self.records[name]] if name in self.records else [] for name in names}
        found: list[dict[str, Any]] = self._world.call("dkim.check", domain=DOMAIN, seen=seen)
        return found


def signed(world: World) -> bytes:
    message = Message.split(RAW)
    assert not isinstance(message, Malformed)
    signers = world.directory().keys_for(DOMAIN)
    assert signers, "at every moment somebody signs"
    fields = sign(
        list(message.fields), body_hash(b"Hello.\r\n"), signers, now=int(world.now), expire_seconds=14 * 86_400
    )
    return b"".join(field for _, field in fields) + RAW


def verifies(raw: bytes, zone: Zone) -> bool:
    return all(found.good for found in keys.verify_with_dkimpy(raw, zone.records.get))


@pytest.fixture
def zone(world: World) -> Zone:
    world.call("domain.add", tenant="shop", domain=DOMAIN, vouched=True)
    world.call("dkim.add", domain=DOMAIN)
    made = Zone(world)
    made.publish()
    assert made.check()[0]["state"] == "active"
    return made


def test_no_signature_fails_while_a_key_is_replaced(world: World, zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-days from before the rotation to the end; the zone lags by half a day. dkimpy asks the clock for x=."""
    monkeypatch.setattr("dkim.time.time", lambda: world.now)
    sent: list[tuple[float, bytes]] = []
    states = set()
    for half in range(80):
        world.now = START + half * DAY / 2
        if half == 4:
            world.call("dkim.rotate", domain=DOMAIN)
        if half == 8:
            zone.publish()  # four days later somebody finds the time
        if half > 8:
            zone.publish()
        zone.check()
        raw = signed(world)
        assert raw.count(b"DKIM-Signature") == 1
        sent.append((world.now, raw))
        for at, old in sent:
            if world.now - at < 14 * DAY - HOUR:  # as long as a signature is good for (DKIM-7)
                assert verifies(old, zone), (
                    f"signed on day {(at - START) / DAY}, read on day {(world.now - START) / DAY}"
                )
        states.add(tuple(row["state"] for row in world.call("dkim.list", domain=DOMAIN)))
    assert states == {("active",), ("active", "inactive"), ("retired", "active")}
    name = f"g2026a._domainkey.{DOMAIN}"
    assert zone.records[name] == "v=DKIM1; p=", "withdrawn in the end"
    assert b"s=g2026b" in sent[-1][1]


def test_the_record_of_a_retired_key_stays_to_the_day(world: World, zone: Zone) -> None:
    world.call("dkim.rotate", domain=DOMAIN)
    zone.publish()
    world.now += 5 * DAY
    zone.check()
    old = f"g2026a._domainkey.{DOMAIN}"
    keep = rotation.keep_seconds(120.0)
    assert keep == 19 * DAY
    taken_over = world.now
    for world.now, is_there in ((taken_over + keep - 1, True), (taken_over + keep + 1, False)):
        for args in ({}, {"selector": "g2026a"}):
            records = world.call("dkim.dns", domain=DOMAIN, **args)
            (record,) = (record for record in records if record["name"] == old)
            assert (record["value"] != "v=DKIM1; p=") is is_there
            assert record.get("until") == (taken_over + keep if is_there else None)
    world.now = taken_over + 10 * DAY
    (longer,) = (
        record for record in world.call("dkim.dns", domain=DOMAIN, keep_seconds=40 * 86_400) if record["name"] == old
    )
    assert longer["until"] == taken_over + 40 * DAY


def test_the_next_key_is_one_and_its_record_is_looked_at_before_it_signs(world: World, zone: Zone) -> None:
    made = world.call("dkim.rotate", domain=DOMAIN)
    assert world.refused("dkim.rotate", domain=DOMAIN) == "dkim.waiting"
    assert zone.check()[-1]["match"] == "missing"
    zone.records[made["record"]["name"]] = "v=DKIM1; k=rsa; p=AAAA"
    assert zone.check()[-1]["state"] == "inactive"
    assert [key.selector for key in world.directory().keys_for(DOMAIN)] == ["g2026a"]


def row(**changes: Any) -> dict[str, Any]:
    usual = {"domain": DOMAIN, "algorithm": "rsa-sha256", "state": "active", "vouched_by": ""}
    return {**usual, "created_at": 0.0, "activated_at": 10.0, "checked_at": 10.0, **changes}


LOOKS: list[tuple[str, dict[str, Any], float, bool]] = [
    ("active, looked at an hour ago", {}, 10.0 + HOUR, False),
    ("active, a day ago", {}, 10.0 + DAY, True),
    ("active, never, of an hour ago", {"checked_at": None}, HOUR - 1, False),
    ("active, never, older", {"checked_at": None}, HOUR, True),
    ("active, vouched for", {"vouched_by": "operator"}, 10.0 + 9 * DAY, False),
    ("inactive, half an hour ago", {"state": "inactive"}, 10.0 + HOUR / 2, False),
    ("inactive, an hour ago", {"state": "inactive"}, 10.0 + HOUR, True),
    ("inactive, just made", {"state": "inactive", "checked_at": None}, HOUR / 2, False),
    ("inactive, made an hour ago", {"state": "inactive", "checked_at": None}, HOUR, True),
    ("retired", {"state": "retired"}, 10.0 + 9 * DAY, False),
]


@pytest.mark.parametrize(("name", "changes", "now", "is_asked"), LOOKS)
def test_when_dns_is_asked(name: str, changes: dict[str, Any], now: float, is_asked: bool) -> None:
    assert rotation.to_check([row(**changes)], now) == ([DOMAIN] if is_asked else []), name


def test_a_key_is_due_after_half_a_year_until_the_next_one_is_made() -> None:
    old, next_one = row(activated_at=DAY), row(state="inactive", activated_at=None)
    assert rotation.due([old], 182 * DAY) == []
    assert rotation.due([old], 183 * DAY) == [old]
    assert rotation.due([old, next_one], 183 * DAY) == []
    assert rotation.due([old, {**next_one, "algorithm": "ed25519-sha256"}], 183 * DAY) == [old]
    assert rotation.due([row(state="retired", activated_at=DAY)], 183 * DAY) == []
