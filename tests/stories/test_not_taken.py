"""A mail that we put off by our own fault has cost its sender nothing: not its recipients, nor its text, nor a confirmation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.counters.many_nodes import ManyNodes
from relay.gather import Counted
from relay.mail.address import parse_path
from relay.mail.envelope import Envelope, Recipient, SessionInfo, Submission
from relay.smtp.front import Transaction
from relay.smtp.syntax import MailCommand
from relay.spool.contract import SpoolUnavailable
from relay.spool.item import Item
from relay.spool.segment import LARGE_BYTES
from tests.fakes.clock import START
from tests.stories.world import World

FORWARDED = (
    "Beste klant,\r\n\r\ndeze week krijgt u 20% korting op alle planten in de winkel. Bestel snel op https://shop.example/actie,\r\n"
    "want de aanbieding geldt zolang de voorraad strekt. Onze medewerkers geven graag uitleg over grond en water, en wie\r\n"
    "snel is krijgt er een mooie gieter bij. Nieuw in de winkel: tulpen, nu voor maar 4,95 euro.\r\n"
    "Geen mail meer? Afmelden: https://shop.example/afmelden/8812\r\n"
)
CONFIRM = "U vroeg om onze nieuwsbrief. Bevestig het hier: https://shop.example/confirm/1\r\n"


class Broken:
    """A queue whose disk fails while `fails` is set; it is the real one otherwise."""

    def __init__(self, world: World) -> None:
        self._queue = world.queue
        self.fails = False
        self.failing: set[int] = set()  # these only, and all others wait
        self.waiting: dict[int, asyncio.Future[None]] = {}
        self.refused: list[int] = []  # each as often as it stands there
        self.is_left = False  # the client goes in the moment in which its mail is durable

    @property
    def cancelled(self) -> list[int]:
        return [number for number, future in self.waiting.items() if future.cancelled()]

    def next_id(self) -> int:
        return self._queue.next_id()

    def pressure(self) -> None:
        return None

    def commit(self, item: Item) -> asyncio.Future[None]:
        if item.id in self.refused:
            self.refused.remove(item.id)
            return self._failed()
        if not self.fails and not self.failing:
            done, task = self._queue.commit(item), asyncio.current_task()
            if self.is_left and task is not None:
                done.add_done_callback(lambda _, gone=task: gone.cancel() and None)
            return done
        return self._answered(item)

    def _answered(self, item: Item) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failing and item.id not in self.failing:
            self.waiting[item.id] = future
            return future
        return self._failed()

    def _failed(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(SpoolUnavailable("no room"))
        return future


@pytest.fixture(params=["embedded", "redis"])
async def world(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[World]:
    counters = "embedded" if request.param == "embedded" else request.getfixturevalue("redis")
    made = await World(folder, START, counters).open()
    made.intake.queue = made.intake.owed.queue = Broken(made)
    yield made
    await made.close()


async def send(world: World, login: str, to: str, text: str = "Tot morgen.\r\n", head: str = "") -> str:
    """Both codes of the reply to the end of data, or of the one before that refuses."""
    desk, account = world.desk, world.account(login)
    sender, reader = parse_path("info@shop.example"), parse_path(to)
    assert not isinstance(sender, str) and not isinstance(reader, str)
    transaction = Transaction(account, SessionInfo("192.0.2.1", "client.test", "TLSv1.3"), MailCommand(sender))
    refusal = desk.mail(transaction) or desk.recipient(transaction, reader, Recipient(to))
    if refusal is not None:
        return " ".join(refusal.split()[:2])
    transaction.add(reader, Recipient(to))
    fields = f"From: Tuinhuis BV <info@shop.example>\r\nTo: {to}\r\nDate: Mon, 02 Jun 2025 10:00:00 +0000\r\n{head}"
    reply = await desk.message(transaction, f"{fields}Subject: Bericht\r\n\r\n{text}".encode())
    if isinstance(world.shared, ManyNodes):  # what is given back is on its way to Redis
        await asyncio.gather(*world.shared._giving)
    return " ".join(reply.split()[:2])


def broken(world: World) -> Broken:
    queue = world.intake.queue
    assert isinstance(queue, Broken)
    return queue


async def test_tries_that_our_disk_stopped_are_no_campaign(world: World) -> None:
    """CLASS-9 counts what an account sends. Twenty tries of one forwarded mail made it bulk, and it was refused for good."""
    broken(world).fails = True
    for _ in range(25):
        assert await send(world, "office", "bob@example.net", FORWARDED) == "451 4.3.0"
    broken(world).fails = False
    assert await send(world, "office", "bob@example.net", FORWARDED) == "250 2.0.0"


async def test_tries_that_our_disk_stopped_are_not_charged(world: World) -> None:
    """THROTTLE-1: refused mail costs nothing. Four tries of a letter took the day of its login."""
    world.owner.call("limit.set", {"tenant": "shop", "name": "recipients_per_day", "value": 3, "credential": "office"})
    broken(world).fails = True
    for _ in range(8):
        assert await send(world, "office", "bob@example.net") == "451 4.3.0"
    broken(world).fails = False
    replies = [await send(world, "office", "bob@example.net") for _ in range(4)]
    assert replies == ["250 2.0.0"] * 3 + ["450 4.7.28"], replies


async def test_who_goes_when_his_mail_has_become_durable_pays_for_it(world: World) -> None:
    """It leaves, though he never heard its 250: it counts, and its delivery log says that it was taken."""
    world.owner.call("limit.set", {"tenant": "shop", "name": "recipients_per_day", "value": 3, "credential": "office"})
    broken(world).is_left = True
    for number in range(3):
        going = asyncio.ensure_future(send(world, "office", f"bob{number}@example.net"))
        await asyncio.wait([going])
        assert going.cancelled()
    broken(world).is_left = False
    assert await send(world, "office", "bob@example.net") == "450 4.7.28"
    await world.deliver()
    assert world.delivered["office"] == 3


async def test_what_would_have_waited_for_its_turn_gives_back_the_turn(world: World) -> None:
    world.owner.call("limit.set", {"tenant": "shop", "name": "messages_per_minute", "value": 2, "credential": "app"})
    for _ in range(2):
        assert await send(world, "app", "bob@example.net") == "250 2.0.0"
    broken(world).fails = True
    for _ in range(8):
        assert await send(world, "app", "bob@example.net") == "451 4.3.0"
    broken(world).fails = False
    assert await send(world, "app", "bob@example.net") == "250 2.0.0"
    await world.pass_to(START + 61.0)
    assert world.delivered["app"] == 3, "as if nothing had been tried between"


async def test_a_confirmation_that_our_disk_stopped_may_be_sent_again(world: World) -> None:
    """CLASS-7 takes two in a day. Two failed commits, and the person never heard of the newsletter that he had asked for."""
    world.owner.call("consent.request", {"tenant": "shop", "address": "new@example.net", "purpose": "newsletter"})
    head = "X-Zegel-Class: confirm\r\n"
    broken(world).fails = True
    for _ in range(5):
        assert await send(world, "news", "new@example.net", CONFIRM, head) == "451 4.3.0"
    broken(world).fails = False
    replies = [await send(world, "news", "new@example.net", CONFIRM, head) for _ in range(3)]
    assert replies[:2] == ["250 2.0.0"] * 2 and replies[2].startswith("5"), replies


async def test_no_report_of_a_mail_that_was_not_taken_leaves(world: World) -> None:
    """PIPE-1: who was dropped is reported with the mail. The report went first, and each try of a failing mail sent it again."""
    queue = broken(world)
    meta = {"tenant_id": 1, "stream": "personal", "class": "personal", "rcpt": []}
    mail, report = (Item(queue.next_id(), dict(meta), b"", due=0.0) for _ in range(2))
    queue.failing = {mail.id}
    sent = Submission(world.account("office"), Envelope("", ()), SessionInfo("192.0.2.1"), START)
    with pytest.raises(SpoolUnavailable):
        await world.intake._committed(Counted(mail.id, sent), mail, report)
    assert queue.cancelled == [report.id]


async def test_a_large_mail_that_is_durable_is_taken_and_its_report_is_owed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its body has a file of its own, so the report may fail alone. A 451 then doubled the mail at each try."""
    monkeypatch.setattr("relay.owed.WAITS_SECONDS", (0.0,))
    queue = broken(world)
    sent = Submission(world.account("office"), Envelope("", ()), SessionInfo("192.0.2.1"), START)
    meta = {"tenant_id": 1, "stream": "personal", "class": "personal", "rcpt": []}
    mail, report = (Item(queue.next_id(), dict(meta), b"x" * size, due=START + 60) for size in (LARGE_BYTES + 1, 10))
    queue.refused = [report.id] * 3
    counted = Counted(mail.id, sent)
    await world.intake._kept(counted, mail, [report])
    assert counted.is_kept and len(world.queue.backlog) == 1
    await asyncio.gather(*world.intake.owed._tasks)
    assert not queue.refused and len(world.queue.backlog) == 2, "the report stands in the queue as well"


async def owing(world: World, refused: int) -> Item:
    """A report of a large mail, which finds no room `refused` times, and is owed for half a minute then."""
    queue = broken(world)
    sent = Submission(world.account("office"), Envelope("", ()), SessionInfo("192.0.2.1"), START)
    meta = {"tenant_id": 1, "stream": "personal", "class": "personal", "rcpt": []}
    mail, report = (Item(queue.next_id(), dict(meta), b"x" * size, due=START + 60) for size in (LARGE_BYTES + 1, 10))
    queue.refused = [report.id] * refused
    await world.intake._kept(Counted(mail.id, sent), mail, [report])
    return report


async def test_who_leaves_writes_the_report_that_is_owed_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.owed.WAITS_SECONDS", (30.0,))
    await owing(world, 1)
    assert len(world.queue.backlog) == 1
    await world.intake.owed.drain(10.0)
    assert not world.intake.owed._tasks and len(world.queue.backlog) == 2


async def test_a_report_that_finds_no_room_to_the_last_keeps_nobody_from_leaving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.owed.WAITS_SECONDS", (30.0,))
    report = await owing(world, 2)
    with capture_logs() as told:
        await world.intake.owed.drain(10.0)
    assert not world.intake.owed._tasks and len(world.queue.backlog) == 1
    assert [line["queue_id"] for line in told] == [report.queue_id], "whoever looks for it finds whose it was"


async def test_a_report_whose_client_goes_is_written_once(world: World) -> None:
    queue = broken(world)
    sent = Submission(world.account("office"), Envelope("", ()), SessionInfo("192.0.2.1"), START)
    meta = {"tenant_id": 1, "stream": "personal", "class": "personal", "rcpt": []}
    mail, report = (Item(queue.next_id(), dict(meta), b"x" * size, due=START + 60) for size in (LARGE_BYTES + 1, 10))
    keeping = asyncio.ensure_future(world.intake._kept(Counted(mail.id, sent), mail, [report]))
    while len(world.queue.backlog) < 1:
        await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await world.intake.owed.drain(10.0)
    assert len(world.queue.backlog) == 2, "both, and no second report"
    assert queue.next_id() > report.id
