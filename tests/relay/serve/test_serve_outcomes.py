"""Outcomes beside the road of a message: what is counted when, and what waits while something is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from relay.counters.embedded import EmbeddedCounters
from relay.counters.remote_windows import SharedWindows
from relay.counters.ring import tally
from relay.counters.windows import Windows
from relay.delivery.outcome import Deferred, Delivered, Failed, Outcome, Stage, judge
from relay.delivery.replies import ReplyReader
from relay.mail.envelope import Tenant
from relay.reputation.book import Book, place_of
from relay.reputation.judge import Bounds
from relay.serve.channel import OpUnavailable
from relay.serve.outcomes import Outcomes
from relay.spool.item import Item
from tests.fakes.clock import START, FakeClock
from tests.harness.counters import wire_to
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer

GOOD = Delivered("2.0.0", "250 ok", "mx.example.net")
NOBODY = Failed("5.1.1", "550 5.1.1 user unknown", "mx.example.net", 550)
OURS = Failed("5.7.1", "suppression.bounced", "")
LATER = Deferred("4.4.1", "451 later", "mx.example.net", 451)
SHOP = Tenant(7, "shop", legal_name="Tuinhuis BV", contact="post@shop.example", language="nl")


class World:
    """`asked` holds what the owner and the workers were asked; while `away`, nobody answers."""

    def __init__(self, windows: Windows, tenant: Tenant = SHOP) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.away = False
        self.book = Book(windows, Bounds())
        self.outcomes = Outcomes(
            self.book, self._call, FakeClock(), tenant=lambda number: tenant, house=("gw.test", "https://gw.test")
        )

    async def _call(self, op: str, args: dict[str, Any]) -> Any:
        if self.away:
            raise OpUnavailable(op)
        self.asked.append((op, args))
        return {}

    def of(self, op: str) -> list[dict[str, Any]]:
        return [args for name, args in self.asked if name == op]

    def saw(self, *outcomes: Outcome, stream: str = "marketing", mail_class: str = "commercial", **how: bool) -> None:
        meta = {
            "tenant_id": 7, "tenant": "shop", "credential": f"shop-{stream}", "stream": stream, "class": mail_class,
            "domain": "news.shop.example", "from": "info@shop.example",
            "rcpt": [[f"p{n}@list.example", [], ""] for n in range(len(outcomes))],
        }  # fmt: skip
        item = Item(1, meta, b"", due=0.0)
        self.outcomes.saw(item, dict(enumerate(outcomes)), gave_up=how.get("gave_up", False))

    async def counted(self, scope: str = "stream", subject: str = "marketing") -> tuple[int, int, int]:
        found = tally(await self.book.windows.get(place_of(7, scope, subject), START))
        return found.deliveries, found.bounces, found.refusals


def test_what_has_ended_is_counted_for_everybody_whose_mail_it_was(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(EmbeddedCounters(tmp_path).windows)
        world.saw(GOOD, NOBODY, OURS, LATER)
        world.saw(LATER, gave_up=True)
        world.saw(NOBODY, mail_class="system")
        await world.outcomes.flush()
        places = (("stream", "marketing"), ("credential", "shop-marketing"), ("domain", "shop.example"), ("tenant", ""))
        for scope, subject in places:
            assert await world.counted(scope, subject) == (3, 1, 1), scope
        assert world.of("suppression.bounced") == [{"rows": [{"tenant": "shop", "address": "p1@list.example"}]}]

    asyncio.run(play())


def test_what_a_host_says_of_the_sender_suppresses_no_recipient(tmp_path: Path) -> None:
    """`550 5.1.0 Sender mailbox does not exist` at MAIL: no recipient was named yet (FB-3, REP-3)."""

    async def play() -> None:
        world = World(EmbeddedCounters(tmp_path).windows)
        (reply,) = ReplyReader().feed(b"550 5.1.1 User unknown\r\n")
        world.saw(*(judge(reply, "mx.example", stage) for stage in (Stage.MAIL, Stage.MAIL, Stage.RCPT)))
        await world.outcomes.flush()
        assert await world.counted() == (3, 1, 2)
        assert world.of("suppression.bounced") == [{"rows": [{"tenant": "shop", "address": "p2@list.example"}]}]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("said", "dead"),
    [
        ("550 5.1.1 <info@shop.example>: User unknown", 0),
        ("550 5.1.0 Could not verify sender: user not found", 0),
        ("550 MAIL FROM: <info@shop.example>: user does not exist", 0),
        ("550 5.1.1 <p0@list.example>: User unknown (mail of INFO@shop.example)", 1),
        ("550 5.1.1 <p0@list.example>: User unknown", 1),
    ],
)
def test_nor_does_it_where_the_host_says_it_at_rcpt(tmp_path: Path, said: str, dead: int) -> None:
    """Postfix puts off what it says of the sender to there (smtpd_delay_reject)."""

    async def play() -> None:
        world = World(EmbeddedCounters(tmp_path).windows)
        (reply,) = ReplyReader().feed(said.encode() + b"\r\n")
        world.saw(judge(reply, "mx.example", Stage.RCPT))
        await world.outcomes.flush()
        assert len(world.of("suppression.bounced")) == dead

    asyncio.run(play())


def test_a_letter_of_a_person_suppresses_nobody(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(EmbeddedCounters(tmp_path).windows)
        world.saw(NOBODY, stream="personal", mail_class="personal")
        await world.outcomes.flush()
        assert await world.counted("stream", "personal") == (1, 1, 0)
        assert world.asked == []

    asyncio.run(play())


@pytest.mark.parametrize(
    ("language", "subject", "words"),
    [
        ("nl", "Uw mail is stilgezet", "stroom marketing: stilgezet (THROTTLE-8)"),
        ("en", "Your mail is paused", "stream marketing: paused (THROTTLE-8)"),
    ],
)
def test_the_contact_is_told_once_of_all_that_is_worse(tmp_path: Path, language: str, subject: str, words: str) -> None:
    async def play() -> None:
        tenant = Tenant(7, "shop", contact="post@shop.example", language=language)
        world = World(EmbeddedCounters(tmp_path).windows, tenant)
        for _ in range(3):
            for _ in range(16):
                world.saw(NOBODY)
            await world.outcomes.flush()
        (letter,) = world.of("worker.submit")
        assert letter["recipient"] == "post@shop.example"
        message = message_from_string(letter["raw"])
        assert message["Subject"] == subject and message["Auto-Submitted"] == "auto-generated"
        text = letter["raw"]
        assert words in text and "https://gw.test/why/THROTTLE-8" in text
        assert "p0@list.example" not in text and "{" not in text

    asyncio.run(play())


def test_who_has_no_contact_gets_no_letter(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(EmbeddedCounters(tmp_path).windows, Tenant(7, "shop"))
        for _ in range(16):
            world.saw(NOBODY)
        await world.outcomes.flush()
        assert world.of("worker.submit") == []

    asyncio.run(play())


def test_letters_and_suppressions_wait_for_the_owner(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(EmbeddedCounters(tmp_path).windows)
        world.away = True
        for _ in range(16):
            world.saw(NOBODY)
        for _ in range(3):
            await world.outcomes.flush()
        assert await world.counted() == (16, 16, 0), "counted once all the same"
        world.away = False
        await world.outcomes.flush()
        assert len(world.of("worker.submit")) == 1
        assert sum(len(args["rows"]) for args in world.of("suppression.bounced")) == 16

    asyncio.run(play())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", free_ports(1)[0], "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


def test_outcomes_wait_for_redis_and_are_counted_once(redis: RedisServer) -> None:
    async def play() -> None:
        wire = wire_to(redis.url, 2.0)
        world = World(SharedWindows(wire))
        world.saw(GOOD, NOBODY)
        await world.outcomes.flush()
        redis.kill()
        for _ in range(3):
            world.saw(GOOD)
            await world.outcomes.flush()
        redis.start()
        world.saw(NOBODY)
        await world.outcomes.flush()
        assert await world.counted() == (6, 2, 0)
        await wire.close()

    asyncio.run(play())
