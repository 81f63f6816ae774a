"""Events for tenants' tools, as far as the database goes: with the change or not at all, in order, of nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from relay import store
from relay.consent.subject import person_text
from relay.consent.token import TokenKind, make
from relay.keyring import Kind
from relay.mail.address import wide
from relay.owner import webhooks
from relay.owner.hook_events import GIVE_UP_SECONDS, PAUSES, unseal
from relay.owner.webhooks import place_of_secret
from relay.store import schema
from tests.contract.conftest import World

ANN, BOB = "ann@example.net", "bob@example.net"
URL = "https://crm.example.org/zegel"


def add(world: World, name: str = "crm", tenant: str = "shop", **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.call("webhook.add", tenant=tenant, name=name, url=URL, **options)
    return made


def numbers(world: World) -> list[int]:
    return [line["hook"] for line in world.call("webhook.lines")]


def heads(world: World, hook: int = 1) -> list[dict[str, Any]]:
    """What the sender would send now, opened."""
    opened = []
    for row in world.call("webhook.heads", hook=hook):
        plain = unseal(world.keyring, row["event_id"], bytes.fromhex(row["body"]))
        assert plain is not None
        said = json.loads(plain)
        assert said["id"] == row["event_id"]
        opened.append({**said, "row": row["id"]})
    return opened


def take(world: World, hook: int = 1) -> list[dict[str, Any]]:
    """All that is told, one batch after the other, as a tool that always answers gets it."""
    told: list[dict[str, Any]] = []
    while batch := heads(world, hook):
        told += batch
        world.call("webhook.settle", hook=hook, told=[{"id": said["row"]} for said in batch], failed=[])
    return told


def fail(world: World, *rows: int, away: bool = False, hook: int = 1) -> int:
    failed = [{"id": row, "why": "HTTP 500"} for row in rows]
    dead: int = world.call("webhook.settle", hook=hook, told=[], failed=failed, away=away)["dead"]
    return dead


def token(world: World, address: str, subscriber: str = "") -> str:
    digest = world.keyring.subject_hash(person_text(1, wide(address)))
    return make(
        world.keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=digest, subscriber=subscriber
    )


def rows(world: World) -> list[Any]:
    engine = store.open_reader(world.settings.storage.database)
    with engine.connect() as connection:
        found = list(connection.execute(sa.select(schema.webhook_event).order_by(schema.webhook_event.c.id)))
    engine.dispose()
    return found


def leave(world: World, channel: str, subscriber: str = "u-17") -> None:
    world.call("optout", token=token(world, ANN, subscriber), channel=channel)


CHANGES = {
    "one_click": (lambda world: leave(world, "one_click"), "unsubscribed", "newsletter", "one_click", "u-17"),
    "page": (lambda world: leave(world, "page"), "unsubscribed", "newsletter", "page", "u-17"),
    "complaint": (lambda world: leave(world, "complaint"), "complained", "newsletter", "complaint", "u-17"),
    "operator": (
        lambda world: world.call("consent.withdraw", tenant="shop", address=ANN, source="phone call of ann"),
        "unsubscribed",
        "all",
        "operator",
        None,
    ),
    "api": (
        lambda world: world.owner.call("suppression.add", {"tenant": "shop", "address": ANN}, actor="api:form"),
        "unsubscribed",
        "all",
        "api",
        None,
    ),
    "restriction": (
        lambda world: world.call("suppression.add", tenant="shop", address=ANN, reason="restriction"),
        "suppressed",
        "all",
        "operator",
        None,
    ),
    "bounce": (
        lambda world: world.call("suppression.bounced", rows=[{"tenant": "shop", "address": ANN}]),
        "suppressed",
        "all",
        "delivery",
        None,
    ),
    "told complaint": (
        lambda world: world.call(
            "outcome.tell", tenant="shop", items=[{"message": "Q1", "address": ANN, "kind": "complained"}]
        ),
        "complained",
        "all",
        "complaint",
        None,
    ),
    "erasure": (
        lambda world: world.call("consent.erase", tenant="shop", address=ANN),
        "erased",
        "all",
        "operator",
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_way_to_leave_is_told_once_with_the_tools_own_id(world: World, change: str) -> None:
    act, event, scope, channel, subscriber = CHANGES[change]
    add(world)
    world.give()
    act(world)
    act(world)  # nothing changes by saying it again
    told = take(world)
    if event != "erased":  # who asks for erasure twice may have come back between
        assert len(told) == 1
    said = told[0]
    assert (said["event"], said["scope"], said["channel"], said["subscriber"]) == (event, scope, channel, subscriber)
    assert said["purpose"] == (None if scope == "all" else scope)
    assert said["at"] == "2026-01-02T10:00:00Z" and len(bytes.fromhex(said["subject"])) == 16
    assert "address" not in said and not any(word in json.dumps(told) for word in ("ann@", "example.net", "phone call"))


def test_who_comes_back_is_told_too(world: World) -> None:
    add(world)
    asked = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")
    assert take(world) == [], "a stranger's request is no wish of the person"
    world.call("consent.confirm", token=asked["token"], ip="192.0.2.7")
    (said,) = take(world)
    assert (said["event"], said["scope"], said["reason"]) == ("confirmed", "newsletter", "consent")


def test_the_address_is_in_it_only_where_the_tenant_asked_for_it(world: World) -> None:
    """A link holds no address; the ledger does."""
    add(world, "bare")
    add(world, "full", with_address=True)
    world.give()
    leave(world, "one_click")
    (bare,), (full,) = take(world, 1), take(world, 2)
    assert "address" not in bare and full["address"] == ANN and bare["id"] != full["id"]


def test_a_tool_gets_the_events_it_wants_and_of_its_own_tenant_only(world: World) -> None:
    world.call("tenant.add", name="kerk")
    add(world, "erasures", events=["erased"])
    add(world, "all")
    add(world, "crm", tenant="kerk")
    leave(world, "page")
    assert numbers(world) == [2]
    world.call("consent.erase", tenant="shop", address=BOB)
    assert [said["event"] for said in take(world, 1)] == ["erased"]
    assert [said["event"] for said in take(world, 2)] == ["unsubscribed", "erased"]
    assert take(world, 3) == [] and world.call("webhook.dead", tenant="kerk") == []
    assert [hook["name"] for hook in world.call("webhook.list", tenant="kerk")] == ["crm"]


def test_a_refused_change_leaves_no_row(world: World) -> None:
    add(world)
    assert (
        world.refused("consent.withdraw", tenant="shop", address=ANN, purpose="newsletter", reason="x")
        == "args.unknown"
    )
    assert rows(world) == []


def test_nothing_of_a_person_lies_in_clear(world: World) -> None:
    add(world, with_address=True)
    world.call("consent.withdraw", tenant="shop", address=ANN)
    leave(world, "page", "customer-4711")
    stored = b"".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows(world) for value in row
    )
    assert len(rows(world)) == 2 and ANN.encode() not in stored and b"customer-4711" not in stored


def test_a_later_event_of_one_person_waits_for_the_earlier_one(world: World) -> None:
    add(world)
    leave(world, "page")
    leave(world, "complaint")
    world.call("consent.withdraw", tenant="shop", address=BOB)
    first, bob = heads(world)
    assert (first["event"], bob["event"]) == ("unsubscribed", "unsubscribed") and first["subject"] != bob["subject"]
    fail(world, first["row"])
    assert heads(world) == [bob], "the complaint waits, and Bob does not"
    world.now += PAUSES[0]
    assert [said["event"] for said in take(world)] == ["unsubscribed", "unsubscribed", "complained"]


def test_the_order_holds_when_the_hash_key_is_rotated_between(world: World) -> None:
    add(world)
    leave(world, "page")
    world.keyring.rotate(Kind.HASH, now=world.now)
    world.call("consent.withdraw", tenant="shop", address=ANN)
    assert [said["scope"] for said in heads(world)] == ["newsletter"]
    assert [said["scope"] for said in take(world)] == ["newsletter", "all"]


def test_an_erased_person_leaves_one_event_that_says_so(world: World) -> None:
    """GDPR-8, GDPR-25: what waited is gone, dead letters too; the tool still learns by its own id whom to erase."""
    add(world)
    add(world, "other")
    leave(world, "page", "u-17")
    (row,) = heads(world, 2)
    world.now += GIVE_UP_SECONDS
    assert fail(world, row["row"], away=True, hook=2) == 1
    world.call("consent.erase", tenant="shop", address=ANN)
    for hook in (1, 2):
        (said,) = take(world, hook)
        assert (said["event"], said["subscriber"]) == ("erased", "u-17")
    assert rows(world) == [] and world.call("webhook.dead", tenant="shop") == []


@pytest.mark.parametrize("away", [True, False])
def test_an_erasure_that_cannot_be_told_keeps_no_address(world: World, away: bool) -> None:
    """GDPR-8: the dead event still says whom, by the keyed hash, and nobody's address."""
    add(world, with_address=True)
    world.load(world.row(email=ANN))
    world.call("consent.erase", tenant="shop", address=ANN)
    (said,) = heads(world)
    assert (said["event"], said["address"]) == ("erased", ANN)
    for pause in PAUSES if not away else (GIVE_UP_SECONDS,):
        fail(world, *(row["row"] for row in heads(world)), away=away)
        world.now += pause
    assert fail(world, said["row"], away=away) == 1
    world.call("webhook.retry", tenant="shop", name="crm")
    (again,) = heads(world)
    assert (again["id"], again["subject"], again["address"]) == (said["id"], said["subject"], None)


def test_an_event_is_tried_for_three_days_and_then_dead_to_be_seen_and_sent_again(world: World) -> None:
    add(world)
    leave(world, "page")
    began = world.now
    for pause in PAUSES:
        (said,) = heads(world)
        assert fail(world, said["row"]) == 0 and heads(world) == []
        world.now += pause
    assert world.now - began == GIVE_UP_SECONDS > 3 * 86_400
    (said,) = heads(world)
    assert fail(world, said["row"]) == 1
    world.now += 86_400
    assert heads(world) == [] and numbers(world) == []
    (dead,) = world.call("webhook.dead", tenant="shop")
    assert (dead["event"], dead["event_id"], dead["tries"], dead["failure"]) == (
        "unsubscribed", said["id"], len(PAUSES) + 1, "HTTP 500",
    )  # fmt: skip
    assert world.call("webhook.list", tenant="shop")[0]["dead"] == 1
    assert world.call("webhook.retry", tenant="shop", name="crm", event=said["id"])["again"] == 1
    assert [again["id"] for again in take(world)] == [said["id"]]
    assert world.refused("webhook.retry", tenant="shop", name="crm", event=said["id"]) == "webhook.no_event"


def test_of_a_receiver_that_is_away_all_that_is_old_is_given_up_together(world: World) -> None:
    add(world)
    leave(world, "page")
    world.call("consent.withdraw", tenant="shop", address=BOB)
    world.now += GIVE_UP_SECONDS
    world.call("consent.withdraw", tenant="shop", address="young@example.net")
    assert fail(world, heads(world)[0]["row"], away=True) == 2
    assert len(heads(world)) == 1


def test_a_dead_letter_that_was_overtaken_stays_dead(world: World) -> None:
    """Sent again it would undo what the person wanted later."""
    add(world)
    asked = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")
    world.call("consent.confirm", token=asked["token"], ip="192.0.2.7")
    world.now += GIVE_UP_SECONDS
    (said,) = heads(world)
    fail(world, said["row"], away=True)
    world.call("consent.withdraw", tenant="shop", address=ANN)
    assert [later["event"] for later in take(world)] == ["unsubscribed"]
    assert world.call("webhook.dead", tenant="shop")[0]["overtaken"] is True
    assert world.refused("webhook.retry", tenant="shop", name="crm", event=said["id"]) == "webhook.overtaken"
    assert world.call("webhook.retry", tenant="shop", name="crm")["again"] == 0


def test_overtaken_is_known_also_when_the_hash_key_was_rotated_between(world: World) -> None:
    add(world)
    leave(world, "page")
    world.now += GIVE_UP_SECONDS
    assert fail(world, heads(world)[0]["row"], away=True) == 1
    world.keyring.rotate(Kind.HASH, now=world.now)
    world.call("consent.withdraw", tenant="shop", address=ANN)
    take(world)
    assert world.call("webhook.dead", tenant="shop")[0]["overtaken"] is True


def test_what_is_28_days_old_is_forgotten(world: World) -> None:
    add(world)
    leave(world, "page")
    world.now += 27 * 86_400
    assert world.call("retention.run")["webhooks"] == 0
    world.now += 86_400 + 1
    assert world.call("retention.run")["webhooks"] == 1 and rows(world) == []


def test_a_secret_is_shown_once_and_the_one_before_holds_for_a_time(world: World) -> None:
    def secrets() -> list[bytes | None]:
        (line,) = world.call("webhook.lines")
        place = place_of_secret("shop", "crm")
        return [unseal(world.keyring, place, bytes.fromhex(sealed)) for sealed in line["secrets"]]

    first = add(world)["secret"]
    world.call("webhook.test", tenant="shop", name="crm")
    assert secrets() == [first.encode()] and len(first) > 40
    second = world.call("webhook.rotate", tenant="shop", name="crm", hours=2)["secret"]
    assert secrets() == [second.encode(), first.encode()]
    world.now += 2 * 3_600
    assert secrets() == [second.encode()]
    shown = json.dumps([world.call("webhook.list", tenant="shop"), world.call("webhook.dead", tenant="shop")])
    assert first not in shown and second not in shown
    engine = store.open_reader(world.settings.storage.database)
    with engine.connect() as connection:
        kept = repr(list(connection.execute(sa.select(schema.webhook)))) + repr(
            list(connection.execute(sa.select(schema.audit)))
        )
    engine.dispose()
    assert first not in kept and second not in kept and "webhook.rotate" in kept


def test_who_rotates_again_does_not_lose_the_secret_that_the_tool_has(world: World) -> None:
    """An answer that was lost, and the order given again: the tool refused everything, at once."""

    def signing() -> list[str]:
        (line,) = world.call("webhook.lines")
        opened = [unseal(world.keyring, place_of_secret("shop", "crm"), bytes.fromhex(one)) for one in line["secrets"]]
        return [secret.decode() for secret in opened if secret is not None]

    def rotate(hours: int) -> str:
        return str(world.call("webhook.rotate", tenant="shop", name="crm", hours=hours)["secret"])

    first = add(world)["secret"]
    world.call("webhook.test", tenant="shop", name="crm")
    lost, second = rotate(48), rotate(24)
    assert signing() == [second, lost, first]
    (shown,) = world.call("webhook.list", tenant="shop")
    assert shown["before_until"] == world.now + 48 * 3_600
    world.now += 24 * 3_600
    assert signing() == [second, first], "each for the time that was said"
    world.now += 24 * 3_600
    assert signing() == [second]
    many = [rotate(168) for _ in range(9)]
    assert signing() == many[:-6:-1], "a signature has an end"
    last = rotate(0)
    assert signing() == [last], "one that leaked ends at once, and all before it"


def test_a_secret_from_before_there_could_be_several_still_signs(world: World) -> None:
    add(world)
    world.call("webhook.test", tenant="shop", name="crm")
    (line,) = world.call("webhook.lines")
    engine = sa.create_engine(world.settings.storage.database)
    with engine.begin() as connection:
        values = {"secret_before": bytes.fromhex(line["secrets"][0]), "before_until": world.now + 60}
        connection.execute(schema.webhook.update().values(**values))
    engine.dispose()
    assert world.call("webhook.lines")[0]["secrets"] == line["secrets"] * 2
    world.call("webhook.rotate", tenant="shop", name="crm")
    assert len(world.call("webhook.lines")[0]["secrets"]) == 3


def test_what_was_made_once_is_told_again_only_to_who_makes_the_same(world: World) -> None:
    made = add(world)
    assert add(world, once=True) == made
    for other in ({"with_address": True}, {"events": ["erased"]}):
        assert world.refused("webhook.add", tenant="shop", name="crm", url=URL, once=True, **other) == "webhook.exists"
    assert world.refused("webhook.add", tenant="shop", name="crm", url=f"{URL}/x", once=True) == "webhook.exists"
    world.now += 86_401
    assert world.refused("webhook.add", tenant="shop", name="crm", url=URL, once=True) == "webhook.exists"


def test_however_many_are_dead_they_are_sent_again_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """300,000 in one statement kept the one writer, and so every opt-out, waiting for two seconds."""
    monkeypatch.setattr(webhooks, "MOST_AGAIN", 2)
    add(world)
    for number in range(5):
        world.call("suppression.add", tenant="shop", address=f"p{number}@example.net")
    fail(world, *(said["row"] for said in heads(world)))
    assert heads(world) == []
    world.call("webhook.retry", tenant="shop", name="crm")
    assert len(heads(world)) == 2, "the oldest that waited"
    world.now += GIVE_UP_SECONDS
    assert fail(world, heads(world)[0]["row"], away=True) == 5
    for count in (2, 2, 1, 0):
        assert world.call("webhook.retry", tenant="shop", name="crm")["again"] == count
    assert len(take(world)) == 5


def test_a_list_counts_its_own_tenants_events_only(world: World) -> None:
    world.call("tenant.add", name="kerk")
    for tenant in ("shop", "kerk"):
        add(world, tenant=tenant)
        world.call("suppression.add", tenant=tenant, address=ANN)
    world.call("suppression.add", tenant="kerk", address=BOB)
    shown = {name: world.call("webhook.list", tenant=name) for name in ("shop", "kerk")}
    assert {name: [hook["waiting"] for hook in hooks] for name, hooks in shown.items()} == {"shop": [1], "kerk": [2]}
    assert [row["waiting"] for row in world.call("webhook.figures")] == [1, 2]


def test_one_that_is_removed_is_told_nothing_more(world: World) -> None:
    add(world)
    leave(world, "page")
    assert world.call("webhook.remove", tenant="shop", name="crm")["events_deleted"] == 1
    world.call("consent.withdraw", tenant="shop", address=BOB)
    assert rows(world) == [] and world.call("webhook.list", tenant="shop") == []
    assert world.refused("webhook.test", tenant="shop", name="crm") == "webhook.unknown"


@pytest.mark.parametrize(
    "url",
    [
        "http://crm.example.org/", "ftp://crm.example.org/", "https://", "https:///x", "https://user:pw@crm.example.org/",
        "https://crm.example.org/#x", "https://crm.example.org:0/", "https://crm.example.org:99999/", "https://crm.exämple.org/",
        "https://crm.example.org/a b", "https://crm.example.org\\@10.0.0.1/", "javascript:alert(1)", "//crm.example.org",
        "http://10.0.0.1/", "https://[::1/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(world: World, url: str) -> None:
    assert world.refused("webhook.add", tenant="shop", name="crm", url=url) == "webhook.url"


def test_wrong_use_is_refused_with_what_to_do(world: World) -> None:
    add(world)
    assert world.refused("webhook.add", tenant="shop", name="crm", url=URL) == "webhook.exists"
    assert world.refused("webhook.add", tenant="shop", name="x", url=URL, events=["left"]) == "args.choice"
    for name in "abcd":
        add(world, name)
    assert world.refused("webhook.add", tenant="shop", name="x", url=URL) == "webhook.too_many"
    assert world.refused("webhook.rotate", tenant="shop", name="nobody") == "webhook.unknown"
    assert world.refused("webhook.dead", tenant="nobody") == "tenant.unknown"
