"""The scheduler over a real queue, days in a moment: rounds, holds, waits and what the sender hears."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from relay.delivery.hands import Hands
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Deferred, Delivered, Failed, Outcome, Scope
from relay.delivery.pool import PeerState, PoolState
from relay.delivery.render import Links, Signer
from relay.delivery.report import Reporter
from relay.delivery.retry import RetryPlan
from relay.delivery.scheduler import ROUND, Attempt, Scheduler
from relay.observe import metrics
from relay.recheck import GOES, Standing
from relay.serve.overdue import Overdue
from relay.serve.queue_ops import QueueOps
from relay.spool.cipher import Cipher
from relay.spool.files import QueueFiles
from relay.spool.hand import Hand
from relay.spool.item import Item
from tests.fakes.clock import FakeClock

PLAN = RetryPlan()
HOUR = 3600.0
OK = Delivered("2.0.0", "250 ok", "peer.test")
LATER = Deferred("4.3.0", "451 later", "peer.test", 451)
GONE = Failed("5.1.1", "550 nobody", "peer.test", 550)
CUT = Deferred("4.4.2", "connection lost", "peer.test", 0, Scope.HOST)
FULL = Deferred("4.5.3", "452 enough", "peer.test", 452, Scope.EXCESS)
DOWN = PoolState((PeerState("peer.test", "waiting", 0, 3, 5.0, "connect", "refused"),), 0, 0, 0, 0)


class Answers:
    """Recheck with answers set by the test."""

    def __init__(self) -> None:
        self.standing = GOES
        self.fresh = True
        self.asked = 0

    def __call__(self, item: Item, waiting: Sequence[int]) -> Standing:
        self.asked += 1
        return self.standing

    def is_fresh(self, item: Item) -> bool:
        return self.fresh


class Files(QueueFiles):
    """The queue; while it `hangs` the disk has new messages and does not answer."""

    hangs = False
    unanswered: Sequence[asyncio.Future[None]] = ()

    def commit(self, item: Item) -> asyncio.Future[None]:
        if not self.hangs:
            return super().commit(item)
        self.unanswered = (*self.unanswered, asyncio.get_running_loop().create_future())
        return self.unanswered[-1]


class Desk:
    """A queue, its scheduler, and the delivery log of it."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.folder = folder
        self.queue = Files(folder, Cipher({1: bytes(32)}, 1), clock, on_work=lambda: None)
        self.answers = Answers()
        self.log: list[tuple[dict[int, Outcome], bool]] = []
        self.recoded: list[set[str]] = []
        self.waits: list[tuple[str, float]] = []
        self.bugs: list[BaseException] = []
        self.scheduler: Scheduler

    async def open(self) -> None:
        await self.queue.start()
        reporter = Reporter("gw.test", self.queue.next_id, self.clock, public_url="https://gw.test")
        signer = Signer(lambda domain, tenant: (), self.clock.now, lambda item, recipient: Links("", ""))
        hands = Hands(self.answers, reporter, self, self.bugs.append, lambda item: PLAN)
        self.scheduler = Scheduler(self.queue, self.clock, signer, hands)

    def concluded(
        self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, recoded: Collection[str] = ()
    ) -> None:
        self.log.append((dict(outcomes), gave_up))
        self.recoded.append(set(recoded))

    def postponed(self, item: Item, why: str) -> None:
        self.waits.append((why, item.due))

    async def after_power_cut(self) -> Desk:
        """What another machine makes of the disk as it is at this moment."""
        while self.queue.writer.busy:
            await self.queue.writer.drain()
        copy = self.folder.with_name(f"{self.folder.name}-again")
        shutil.copytree(self.folder, copy)
        again = Desk(copy, self.clock)
        await again.open()
        return again

    async def stop(self) -> None:
        for future in self.queue.unanswered:
            future.set_result(None)
        await self.settle()
        await self.queue.stop()
        assert not self.bugs

    async def commit(
        self, recipients: int = 1, *, split: bool = False, notify: Sequence[str] = (), body: str = "Hi\r\n"
    ) -> Item:
        meta = {
            "tenant_id": 1,
            "tenant": "shop",
            "credential": "c",
            "stream": "personal",
            "class": "personal",
            "purpose": "",
            "from": "info@sender.example",
            "utf8": False,
            "domain": "",
            "language": "en",
            "rcpt": [[f"p{number}@dest.example", notify, ""] for number in range(recipients)],
            "edits": [("to_self", "To", "", "CC-8")] if split else [],
            "at": self.clock.now(),
        }
        raw = f"From: info@sender.example\r\n\r\n{body}".encode()
        item = Item(self.queue.next_id(), meta, raw, due=self.clock.now())
        await self.queue.commit(item)
        return item

    async def settle(self) -> None:
        """What was recorded is durable, and stands where it stands."""
        for _ in range(5):
            await self.scheduler.drain()
            await self.queue.writer.drain()
            await asyncio.sleep(0)

    async def wait_for(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.queue.tick()
        await self.queue.loader.idle()

    async def take(self) -> Attempt | None:
        """The next attempt. Where there is none yet it may take a load from the disk, then a report of what that brought."""
        for _ in range(3):
            attempt = self.scheduler.take()
            if attempt is not None:
                return attempt
            await self.queue.loader.idle()
            await self.settle()
        return self.scheduler.take()

    async def take_all(self) -> list[Attempt]:
        taken = []
        while (attempt := self.scheduler.take()) is not None:
            taken.append(attempt)
        return taken


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "queue", FakeClock())
    await made.open()
    yield made
    await made.stop()


def report_of(attempt: Attempt | None) -> str:
    assert attempt is not None and attempt.mail_from == ""
    return (attempt.item.raw or b"").decode()


async def test_copies_leave_in_rounds_and_the_sender_gets_one_report(desk: Desk) -> None:
    await desk.commit(2 * ROUND + 5, split=True)
    sizes = []
    for _ in range(3):
        taken = [attempt for _ in range(ROUND) if (attempt := await desk.take()) is not None]
        sizes.append(len(taken))
        for index, attempt in enumerate(taken):
            attempt.done([GONE if index == 0 else OK])
        await desk.settle()
    assert sizes == [ROUND, ROUND, 6] or sizes == [ROUND, ROUND, 5]
    text = report_of(await desk.take())
    assert text.count("Action: failed") == 3


async def test_a_report_that_fails_is_told_to_the_operator(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """OUT-12: its reader hears nothing more."""
    item = await desk.commit()
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([GONE])
    await desk.settle()
    report, before = await desk.take(), metrics.REPORTS_LOST.values[()]
    assert report is not None
    report.done([GONE])
    await desk.settle()
    assert metrics.REPORTS_LOST.values[()] == before + 1 and await desk.take() is None
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "report.dropped" in line]
    assert [(line["about"], line["queue_id"]) for line in said] == [(item.queue_id, report.item.queue_id)]


@pytest.mark.parametrize(("outcome", "counted"), [(GONE, "lost"), (OK, "told")])
async def test_an_alarm_counts_by_what_became_of_it_and_is_no_lost_report(
    desk: Desk, outcome: Outcome, counted: str
) -> None:
    """A lost report is an alarm; were a lost alarm one as well, there would be a letter for each letter, for ever."""
    before, reports = dict(metrics.ALARMS.values), metrics.REPORTS_LOST.values[()]
    item = await desk.commit()
    item.meta |= {"class": "system", "from": "", "alarm": True}
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([outcome])
    await desk.settle()
    risen = {key: value - before[key] for key, value in metrics.ALARMS.values.items() if value != before[key]}
    assert risen == {("mail", counted): 1}
    assert metrics.REPORTS_LOST.values[()] == reports and await desk.take() is None


async def test_copies_that_were_not_begun_go_back_and_the_delivered_ones_stay_delivered(desk: Desk) -> None:
    item = await desk.commit(ROUND, split=True)
    for _ in range(10):
        attempt = await desk.take()
        assert attempt is not None
        attempt.done([OK])
    await desk.settle()
    assert [fate.name for fate in item.fates].count("DELIVERED") == 10
    left = [attempt for _ in range(ROUND) if (attempt := await desk.take()) is not None]
    assert len(left) == ROUND - 10


async def test_copies_that_waited_are_asked_about_again(desk: Desk) -> None:
    """CONSENT-12."""
    await desk.commit(5, split=True)
    attempt = await desk.take()
    assert attempt is not None
    desk.answers.fresh = False
    assert desk.scheduler.take() is None
    attempt.done([OK])
    desk.answers.fresh, desk.answers.standing = True, Standing([(index, "consent.objected") for index in range(1, 5)])
    await desk.settle()
    text = report_of(await desk.take())
    assert text.count("Action: failed") == 4 and "/why/CONSENT-11" in text


async def test_an_answer_that_never_comes_ends_as_a_report(desk: Desk) -> None:
    """PIPE-3, OUT-2: no store, or a suspended tenant: the mail waits less and less often, and not for ever."""
    await desk.commit()
    desk.answers.standing = Standing(waits="consent.unavailable")
    while desk.clock.now() < FakeClock().now() + PLAN.give_up_seconds + HOUR and not desk.log:
        desk.scheduler.take()
        await desk.settle()
        await desk.wait_for(960.0)
    assert desk.log[-1][1] and desk.answers.asked < 600
    assert desk.waits == [("consent.unavailable", FakeClock().now() + 60)], "told once, not each time"
    desk.answers.standing = GOES
    assert "Action: failed" in report_of(await desk.take())


async def test_what_must_wait_for_a_person_is_held(desk: Desk) -> None:
    item = await desk.commit()
    desk.answers.standing = Standing((), "suppression.restricted_hold")
    assert desk.scheduler.take() is None
    await desk.settle()
    assert list(desk.queue.held) == [item.id] and item.state["held_at"] == desk.clock.now()


async def test_a_host_that_fails_each_time_costs_no_try_but_a_warning_and_an_end(desk: Desk) -> None:
    item = await desk.commit()
    while (attempt := await desk.take()) is not None and attempt.item.id == item.id:
        attempt.done([CUT])
        await desk.settle()
        assert item.state.get("tries", 0) == 0
        await desk.wait_for(0.5 * HOUR)
    assert attempt is not None and "Action: delayed" in report_of(attempt)
    attempt.done([OK])
    await desk.wait_for(PLAN.give_up_seconds)
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([CUT])
    await desk.settle()
    assert "Action: failed" in report_of(await desk.take())


async def test_a_message_at_which_each_session_ends_lets_others_go_first(desk: Desk) -> None:
    """A cut at one recipient, and all mail stood behind it: it had every trial connection, and the host waited ever longer."""
    culprit = await desk.commit()
    for seconds in (5.0, 30.0, 90.0, 270.0, 810.0, 810.0):
        attempt = await desk.take()
        assert attempt is not None and attempt.item.id == culprit.id
        began = desk.clock.now()
        attempt.done([CUT])
        await desk.settle()
        assert attempt.item.due == began + seconds and attempt.item.state.get("tries", 0) == 0
        if attempt.item.state["cuts"] < 5 or seconds < 810.0:
            await desk.wait_for(seconds + 1)
        else:
            break
    other = await desk.commit()
    await desk.wait_for(720.0)  # as long as a host may wait
    attempt = await desk.take()
    assert attempt is not None and attempt.item.id == other.id


@pytest.mark.parametrize("why", [LATER, CUT])
async def test_a_delay_is_told_with_its_end_for_each_recipient(desk: Desk, why: Deferred) -> None:
    """OUT-12, RFC 3464 section 2.3.9: the sender learns how long we go on, by program and by eye."""
    item = await desk.commit(2)
    end = item.meta["at"] + PLAN.give_up_seconds
    while (attempt := await desk.take()) is not None and attempt.item.id == item.id:
        attempt.done([why, why])
        await desk.settle()
        await desk.wait_for(max(0.5 * HOUR, attempt.item.due - desk.clock.now() + 1))
    text = report_of(attempt)
    assert text.count("Action: delayed") == 2
    assert text.count(f"Will-Retry-Until: {format_datetime(datetime.fromtimestamp(end, UTC))}") == 2
    assert text.count(f"keep trying until {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} (UTC)") == 2


async def test_a_peer_that_takes_nobody_has_had_its_try(desk: Desk) -> None:
    item = await desk.commit(3)
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([OK, FULL, FULL])
    await desk.settle()
    attempt = await desk.take()
    assert attempt is not None and len(attempt.recipients) == 2
    attempt.done([FULL, FULL])
    await desk.settle()
    assert item.state["tries"] == 1 and item.due >= desk.clock.now() + 300


@pytest.mark.parametrize("answer", [OK, LATER])
async def test_every_copy_of_a_mail_that_was_kept_long_has_one_try(desk: Desk, answer: Outcome) -> None:
    """A mail that was held, frozen or restored until its time was up, and then let go, reaches all of its readers."""
    everybody = 2 * ROUND + 3
    await desk.commit(everybody, split=True)
    desk.clock.advance(PLAN.give_up_seconds + 1)
    tried: list[str] = []
    while len(tried) < everybody:
        taken = [attempt for _ in range(ROUND) if (attempt := await desk.take()) is not None]
        assert taken and all(attempt.mail_from for attempt in taken), f"{len(tried)} copies were tried"
        for attempt in taken:
            is_cut = not tried and answer is OK  # of one the connection broke, while others were served
            tried += [] if is_cut and attempt is taken[0] else [attempt.recipients[0].address]
            attempt.done([CUT if is_cut and attempt is taken[0] else answer])
        await desk.settle()
        await desk.wait_for(31.0)
    assert len(set(tried)) == everybody
    last = await desk.take()
    assert last is None if answer is OK else report_of(last).count("Action: failed") == everybody


async def test_given_up_in_the_middle_nobody_is_forgotten(desk: Desk) -> None:
    """Copies that were never begun, since no host is there, are in the report as well."""
    await desk.commit(ROUND + 3, split=True)
    desk.clock.advance(PLAN.give_up_seconds + 1)
    for _ in range(ROUND):
        attempt = await desk.take()
        assert attempt is not None
        attempt.done([CUT])
    await desk.settle()
    assert report_of(await desk.take()).count("Action: failed") == ROUND + 3


async def test_while_no_host_is_there_the_sender_still_hears(desk: Desk) -> None:
    """OUT-2: nobody asks for mail then, so that it is looked over from time to time."""
    item = await desk.commit()
    overdue = Overdue(desk.queue, desk.scheduler, desk.clock, plans=lambda item: PLAN, first_seconds=PLAN.warn_seconds)
    assert await overdue.sweep(DOWN) == 0
    desk.clock.advance(PLAN.warn_seconds + 1)
    assert await overdue.sweep(DOWN._replace(peers=(DOWN.peers[0]._replace(failures=0),))) == 0
    assert await overdue.sweep(DOWN) == 1
    await desk.settle()
    text = report_of(await desk.take())
    assert "Action: delayed" in text and "no next server can be reached" in text and DOWN.peers[0].why not in text
    await desk.wait_for(60.0)
    assert await overdue.sweep(DOWN) == 0, "once is enough"
    await desk.wait_for(PLAN.give_up_seconds)
    assert await overdue.sweep(DOWN) >= 1
    await desk.settle()
    assert item.id not in desk.queue.in_flight
    texts = [report_of(await desk.take())]
    assert any("Action: failed" in text for text in texts)


async def test_while_no_host_is_there_who_was_refused_before_is_not_delayed(desk: Desk) -> None:
    """OUT-12: an answer stays an answer."""
    await desk.commit(2)
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([GONE, CUT])
    await desk.settle()
    overdue = Overdue(desk.queue, desk.scheduler, desk.clock, plans=lambda item: PLAN, first_seconds=PLAN.warn_seconds)
    await desk.wait_for(PLAN.warn_seconds + 1)
    assert await overdue.sweep(DOWN) == 1
    await desk.settle()
    text = report_of(await desk.take())
    assert text.count("Action: delayed") == 1 and "Final-Recipient: rfc822; p1@dest.example" in text


async def test_a_success_that_was_asked_for_is_told_by_the_process_that_ends_the_pass(desk: Desk) -> None:
    """SMTP-14: a restart in the middle of a split forgets the outcomes, not that they are owed."""
    await desk.commit(5, split=True, notify=("SUCCESS",))
    for _ in range(3):
        attempt = await desk.take()
        assert attempt is not None
        attempt.done([OK])
    again = await desk.after_power_cut()
    for _ in range(2):
        attempt = await again.take()
        assert attempt is not None and attempt.mail_from
        attempt.done([OK])
    await again.settle()
    text = report_of(await again.take())
    assert text.count("Action: relayed") == 5
    assert text.count("Diagnostic-Code: smtp; 250 ok") == text.count("Last-Attempt-Date") == 2
    again.queue.release(again.queue.in_flight.popitem()[1])
    await again.stop()


@pytest.mark.parametrize("last", [OK, GONE])
async def test_nothing_is_forgotten_before_the_report_of_it_is_durable(desk: Desk, last: Outcome) -> None:
    """PIPE-2: all is said, a row of progress is still on its way to the disk, the report is not on it, the power goes."""
    await desk.commit(4, split=True, notify=("SUCCESS", "FAILURE"))
    attempts = [attempt for _ in range(4) if (attempt := await desk.take()) is not None]
    desk.queue.hangs = True
    for attempt, outcome in zip(attempts, [OK, OK, OK, last], strict=True):
        attempt.done([outcome])
    again = await desk.after_power_cut()
    while (attempt := await again.take()) is not None and attempt.mail_from:
        attempt.done([last] * len(attempt.recipients))
        await again.settle()
    text = report_of(attempt)
    assert text.count("Action: relayed") + text.count("Action: failed") == 4
    assert text.count("Action: failed") == (last is GONE)
    await again.stop()


async def test_nobody_asked_so_nothing_is_owed(desk: Desk) -> None:
    item = await desk.commit(3, split=True)
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([OK])
    assert "owed" not in item.state
    await desk.settle()


async def test_what_a_peer_reports_itself_is_not_owed(desk: Desk) -> None:
    """RFC 3461 section 5.2: a peer with DSN took the duty over."""
    item = await desk.commit(2, split=True, notify=("SUCCESS",))
    for _ in range(2):
        attempt = await desk.take()
        assert attempt is not None
        attempt.done([OK._replace(dsn=True)])
    await desk.settle()
    assert "owed" not in item.state and await desk.take() is None


async def test_each_cause_of_a_wait_is_told(desk: Desk) -> None:
    """PIPE-3, THROTTLE-9: why it waits, and until when; again when the cause is another, or comes back."""
    await desk.commit()
    for why in ("consent.unavailable", "account.suspended", "account.suspended", "", "account.suspended"):
        desk.answers.standing = Standing(waits=why)
        attempt = await desk.take() if not why else desk.scheduler.take()
        assert (attempt is None) == bool(why)
        if attempt is not None:
            attempt.done([LATER])
        await desk.settle()
        await desk.wait_for(960.0)
    assert [why for why, _ in desk.waits] == ["consent.unavailable", "account.suspended", "account.suspended"]


@pytest.mark.parametrize(
    ("takes_8bit", "outcome", "rules"), [(False, OK, {"OUT-9"}), (True, OK, set()), (False, LATER, set())]
)
async def test_what_was_encoded_anew_for_a_peer_is_told(
    desk: Desk, takes_8bit: bool, outcome: Outcome, rules: set[str]
) -> None:
    """OUT-9, MSG-12: only of what was delivered, since the next try may meet another peer."""
    item = await desk.commit(body="caf\u00e9\r\n")
    item.meta["class"] = "system"  # goes without a key
    attempt = await desk.take()
    assert attempt is not None
    copy = attempt.render(Features(eightbitmime=takes_8bit))
    assert isinstance(copy, Rendered) and bytes(copy.body).isascii() is not takes_8bit
    attempt.done([outcome])
    assert desk.recoded == [rules]


@pytest.mark.parametrize("op", ["held.refuse", "queue.delete"])
async def test_who_ends_a_message_between_two_rounds_keeps_what_the_host_said(desk: Desk, op: str) -> None:
    """PIPE-2, OUT-12: its sender reads the host's own answer where there is one, and nothing is kept of the pass."""
    item = await desk.commit(3)
    attempt = await desk.take()
    assert attempt is not None
    attempt.done([OK, GONE, CUT])
    await desk.settle()
    said: list[list[str]] = []
    reporter = Reporter("gw.test", desk.queue.next_id, desk.clock, public_url="https://gw.test")
    ops = QueueOps(
        desk.queue,
        wake=lambda: None,
        reporter=reporter,
        say=lambda number, word, at, **data: said.append([row[0] for row in data["outcomes"]]),
        passes=desk.scheduler.passes,
    )
    await ops.run(op, {"id": item.queue_id})
    assert not desk.scheduler.passes and said == [["p2@dest.example"]]
    if op == "held.refuse":
        text = report_of(await desk.take())
        assert text.count("Action: failed") == 2 and GONE.reply in text
    else:
        assert desk.scheduler.take() is None


async def test_what_is_frozen_stands_still_and_costs_nothing_until_its_sender_is_released(desk: Desk) -> None:
    """THROTTLE-9: not asked about again, not written, in nobody's way; then it leaves, or its sender hears that it does not."""
    items = [await desk.commit() for _ in range(100)]
    desk.answers.standing = Standing(frozen="account.suspended")
    assert await desk.take() is None
    assert desk.queue.backlog.frozen == 100 and desk.answers.asked == 100
    assert [why for why, _ in desk.waits] == ["account.suspended"] * 100
    await desk.wait_for(71 * HOUR)
    assert await desk.take() is None and desk.answers.asked == 100
    assert len({item.id for item in Hand(desk.queue).opened(Hand(desk.queue).places(held=False), "shop")}) == 100
    picked = await Hand(desk.queue).pick(items[0].id)
    assert picked is not None and desk.queue.backlog.frozen == 99
    desk.queue.release(picked)

    desk.answers.standing = GOES
    desk.queue.tick(lambda tenant, login: (tenant, login) != (1, "c"))
    left = {attempt.item.id async for attempt in _all(desk)}
    assert left == {item.id for item in items} and desk.queue.backlog.frozen == 0


async def test_frozen_mail_whose_time_is_over_goes_back(desk: Desk) -> None:
    await desk.commit()
    desk.answers.standing = Standing(frozen="account.suspended")
    assert await desk.take() is None
    desk.answers.standing = Standing([(0, "account.freeze_ended")])
    desk.queue.tick(lambda tenant, login: False)
    await desk.queue.loader.idle()
    assert desk.scheduler.take() is None
    await desk.settle()
    desk.answers.standing = GOES
    text = report_of(await desk.take())
    assert "Action: failed" in text and "/why/THROTTLE-9" in text


async def test_a_freeze_in_the_middle_of_a_message_repeats_nobody(desk: Desk) -> None:
    """Copies that wait for a connection do not leave; those that left are not sent again."""
    item = await desk.commit(5, split=True)
    first = await desk.take()
    assert first is not None
    desk.answers.fresh, desk.answers.standing = False, Standing(frozen="account.suspended")
    assert desk.scheduler.take() is None
    first.done([OK])
    await desk.settle()
    assert await desk.take() is None and desk.queue.backlog.frozen == 1
    desk.answers.fresh, desk.answers.standing = True, GOES
    desk.queue.tick(lambda tenant, login: False)
    left = [attempt.recipients[0].address async for attempt in _all(desk)]
    assert sorted(left) == sorted(recipient.address for recipient in item.recipients[1:])


async def _all(desk: Desk) -> AsyncIterator[Attempt]:
    """Every attempt there is, each delivered."""
    while (attempt := await desk.take()) is not None:
        attempt.done([OK])
        yield attempt
