"""Asked again directly before an attempt, over the real store: who may not get it any more, and why a mail waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.counters.embedded import EmbeddedCounters
from relay.counters.ring import News
from relay.keyring import Kind
from relay.policy.catalogue import Catalogue
from relay.policy.pipeline import Pipeline
from relay.recheck import GOES, Recheck, Standing, Terms
from relay.reputation.book import Book, place_of
from relay.reputation.judge import Bounds, Level
from relay.spool.item import Item
from relay.store.generation import Generation
from tests.contract.conftest import World
from tests.fakes.clock import FakeClock


class Before:
    """A recheck over a world, with a newsletter to ann and bob."""

    def __init__(self, world: World, policies: dict[str, object] | None = None) -> None:
        self.world = world
        self.counters = EmbeddedCounters(world.settings.server.data_dir)
        self.lookup = world.lookup()
        self.generation = Generation.open(world.settings.server.data_dir)
        self.clock = FakeClock(world.now)
        pipeline = Pipeline(Catalogue.load(policies or {}))
        terms = Terms(72.0, Book(self.counters.windows, Bounds()))
        self.recheck = Recheck(pipeline, self.lookup, self.generation, world.directory, self.clock, terms)
        meta = {"tenant_id": 1, "tenant": "shop", "credential": "c", "stream": "marketing", "class": "commercial"}
        meta |= {"purpose": "newsletter", "confirm": False, "from": "news@shop.example", "at": world.now}
        meta |= {"domain": "shop.example"}
        meta["rcpt"] = [["ann@example.net", (), ""], ["bob@example.net", (), ""]]
        self.item = Item(1, meta, None, due=world.now)

    def ask(self) -> Standing:
        found = self.recheck(self.item, [0, 1])
        return found._replace(gone=tuple(found.gone))

    def pause(self, scope: str, subject: str) -> None:
        place = place_of(1, scope, subject)
        self.counters.windows.put(place, News(bytes(1)), self.world.now, lambda counted, level: Level.PAUSED)

    def close(self) -> None:
        self.counters.close()
        self.lookup.close()
        self.generation.close()


@pytest.fixture
def before(world: World) -> Iterator[Before]:
    world.give()
    world.give(email="bob@example.net")
    made = Before(world)
    yield made
    made.close()


def test_what_may_leave_goes_and_is_not_asked_about_again(before: Before) -> None:
    assert before.ask() == GOES and before.recheck.is_fresh(before.item)
    before.lookup.close()
    assert before.ask() == GOES, "nothing has changed since"


def test_who_left_meanwhile_gets_nothing(before: Before) -> None:
    """CONSENT-12, UNSUB-9."""
    before.world.call("consent.withdraw", tenant="shop", address="bob@example.net", purpose="newsletter")
    assert [index for index, _ in before.ask().gone] == [1]


def test_what_was_deferred_at_nine_is_not_delivered_at_ten_after_an_opt_out_at_half_past(before: Before) -> None:
    """CONSENT-12, UNSUB-9: by the link alone, which knows no address, and with a new hash key since the mail was made."""
    world = before.world
    ann, bob = (person_hash(world.keyring, 1, address) for address in ("ann@example.net", "bob@example.net"))
    links = [
        make(world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=subject)
        for subject in (ann, bob)
    ]
    assert before.ask() == GOES  # 09:00, and the next hop says 451
    world.keyring.rotate(Kind.HASH, now=world.now)
    world.now += 1_800
    world.call("optout", token=links[1], channel="one_click")  # 09:30
    world.now += 1_800
    before.clock.advance(3_600)
    standing = before.ask()  # 10:00
    assert [index for index, _ in standing.gone] == [1] and not standing.held


@pytest.mark.parametrize("op", ["tenant", "credential"])
def test_mail_of_who_is_suspended_is_frozen_for_three_days(before: Before, op: str) -> None:
    """THROTTLE-9: kept 72 hours from the suspension, then its sender gets it back; released, it goes."""
    name = {"tenant": "shop", "credential": "c"}[op]
    before.world.call("credential.add", tenant="shop", stream="marketing", name="c")
    before.world.call(f"{op}.suspend", name=name, reason="spam")
    assert before.ask() == Standing(frozen="account.suspended")
    assert not before.recheck.is_fresh(before.item) and before.recheck.is_frozen(1, "c")
    assert before.recheck.is_frozen(1, "other") is (op == "tenant")
    before.clock.advance(72 * 3600.0 - 1)
    assert before.ask().frozen
    before.clock.advance(1)
    assert before.ask().gone == ((0, "account.freeze_ended"), (1, "account.freeze_ended"))
    assert not before.recheck.is_frozen(1, "c")
    before.world.call(f"{op}.resume", name=name)
    assert before.ask() == GOES


def test_a_confirmation_of_who_is_suspended_is_frozen_and_a_letter_to_him_is_not(before: Before) -> None:
    before.world.call("tenant.suspend", name="shop")
    before.item.meta |= {"class": "system", "confirm": True}
    assert before.ask().frozen
    before.item.meta |= {"purpose": "", "credential": "", "confirm": False}
    assert before.ask() == GOES


@pytest.mark.parametrize(
    ("scope", "subject"), [("credential", "c"), ("stream", "marketing"), ("domain", "shop.example"), ("tenant", "")]
)
def test_mail_of_who_is_paused_is_held_for_a_person(before: Before, scope: str, subject: str) -> None:
    """REP-1: also what is queued already, and the copies of a round that have not begun."""
    assert before.ask() == GOES and before.recheck.is_fresh(before.item)
    before.pause(scope, subject)
    assert not before.recheck.is_fresh(before.item)
    assert before.ask() == Standing(held="reputation.paused")
    before.item.state["released"] = "reputation.paused"
    assert before.ask() == GOES, "a person has let this one go"


def test_other_mail_is_not_held_back_for_the_domain_or_the_tenant(before: Before) -> None:
    """REP-1: a campaign stops no password reset."""
    for scope, subject in (("domain", "shop.example"), ("tenant", ""), ("stream", "marketing")):
        before.pause(scope, subject)
    before.item.meta |= {"stream": "transactional", "class": "transactional", "credential": "t", "purpose": ""}
    assert before.ask() == GOES
    before.pause("stream", "transactional")
    assert before.ask() == Standing(held="reputation.paused")


def test_where_reputation_is_only_looked_at_nothing_is_held(before: Before) -> None:
    before.pause("stream", "marketing")
    before.world.call("policy.mode", tenant="shop", policy="reputation", mode="observe")
    assert before.ask() == GOES


def test_a_store_that_cannot_be_read_waits_and_is_asked_again(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIPE-3: an answer that was not had must not count as one."""

    def broken(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(before.lookup, "consents", broken)
    for _ in range(2):
        assert before.ask() == Standing(waits="consent.unavailable")
    assert not before.recheck.is_fresh(before.item)
