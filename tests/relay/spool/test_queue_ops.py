"""What people do to the queue, and what becomes of held mail when its time runs out (PIPE-2)."""

from __future__ import annotations

import asyncio
import email
from typing import Any

import pytest

from relay.delivery.report import Reporter
from relay.mail.message import Message
from relay.serve import held_ops
from relay.serve.channel import OpRefused
from relay.serve.queue_ops import QueueOps
from relay.spool.contract import SpoolUnavailable
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item, encode_id
from relay.spool.segment import LARGE_BYTES
from tests.fakes.queues import PATIENCE_SECONDS, Files, message

pytestmark = pytest.mark.anyio

HOUR = 3600.0


Said = tuple[int, str, dict[str, Any]]


def operations(queue: QueueFiles, log: list[Said] | None = None) -> QueueOps:
    """The commands over `queue`; what they write into the delivery log goes into `log`."""

    def say(number: int, word: str, at: float, **data: Any) -> None:
        assert at == queue.clock.now()
        if log is not None:
            log.append((number, word, data))

    return QueueOps(queue, wake=lambda: None, reporter=Reporter("gw.example", queue.next_id, queue.clock), say=say)


def failing(_: Item) -> asyncio.Future[None]:
    """A record that the disk does not take."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(SpoolUnavailable("full"))
    return future


async def queued(rig: Files, **changes: Any) -> tuple[QueueFiles, QueueOps, Item]:
    queue = await rig.open()
    item = message(queue, **changes)
    await queue.commit(item)
    return queue, operations(queue), item


PLACES = {
    "in memory": {},
    "parked": {"due": 4e9},
    "soon": {"due": 1767225600.0 + 60},
    "held": {"held": "recipients.ask"},
}


@pytest.mark.parametrize("place", PLACES)
async def test_delete_ends_a_message_wherever_it_waits(rig: Files, place: str) -> None:
    queue, ops, item = await queued(rig, **PLACES[place])
    assert await ops.run("queue.delete", {"id": item.queue_id}) == {"id": item.queue_id, "state": "deleted"}
    for which in (queue, await rig.after_power_cut()):
        assert which.take() is None and len(which.backlog) == 0 and not which.held
    assert await ops.run("queue.delete", {"id": item.queue_id}) is None


@pytest.mark.parametrize("place", PLACES)
async def test_retry_and_release_let_a_message_leave_at_once(rig: Files, place: str) -> None:
    queue, ops, item = await queued(rig, **PLACES[place])
    op = "held.release" if place == "held" else "queue.retry"
    answer = await ops.run(op, {"id": item.queue_id})
    incident = answer.pop("incident", None)  # for the owner, see relay.serve.supervisor
    assert answer == {"id": item.queue_id, "state": "ready"}
    assert (incident is not None) is (place == "held") and (incident is None or incident["messages"] == [item.queue_id])
    taken = await rig.take(queue)
    assert taken.id == item.id and taken.raw and taken.raw.endswith(b"hello\r\n")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("way", "kinds"), [("split", ["to_self"]), ("hidden", ["undisclosed"]), ("as_written", [])])
async def test_released_a_message_leaves_as_it_was_chosen(rig: Files, place: str, way: str, kinds: list[str]) -> None:
    """CC-10, CC-8, CC-9: also after a restart."""
    queue, ops, item = await queued(rig, **PLACES[place])
    assert (await ops.run("held.release", {"id": item.queue_id, "way": way}))["state"] == "ready"
    again = await rig.after_power_cut()
    for which in (await rig.take(queue), await rig.take(again)):
        assert [edit.kind for edit in which.edits] == kinds


async def test_a_way_that_is_none_releases_nothing(rig: Files) -> None:
    queue, ops, item = await queued(rig, held="recipients.ask")
    with pytest.raises(OpRefused) as refused:
        await ops.run("held.release", {"id": item.queue_id, "way": "open"})
    assert refused.value.code == "usage" and list(queue.held) == [item.id]


@pytest.mark.parametrize("place", ["in memory", "parked"])
async def test_hold_keeps_a_message_until_it_is_released(rig: Files, place: str) -> None:
    queue, ops, item = await queued(rig, **PLACES[place])
    assert (await ops.run("queue.hold", {"id": item.queue_id}))["state"] == "held"
    again = await rig.after_power_cut()
    assert again.take() is None and list(again.held) == [item.id]
    (row,) = await ops.run("held.list", {})
    assert row["held"] == "queue.held_by_operator"
    await ops.run("held.release", {"id": item.queue_id})
    assert (await rig.take(queue)).id == item.id


async def test_a_message_in_an_attempt_is_left_to_it(rig: Files) -> None:
    queue, ops, item = await queued(rig)
    await rig.take(queue)
    for op in ("queue.retry", "queue.hold", "queue.delete", "held.refuse"):
        with pytest.raises(OpRefused) as refused:
            await ops.run(op, {"id": item.queue_id})
        assert refused.value.code == "busy"


async def test_what_a_person_changes_is_the_newest_state(rig: Files) -> None:
    """Else those who have the mail would get it again."""
    queue, ops, item = await queued(rig, recipients=2)
    taken = await rig.take(queue)
    taken.due = rig.clock.now() + HOUR
    await rig.finish(queue, taken, Fate.DELIVERED, Fate.WAITING)
    await ops.run("queue.hold", {"id": item.queue_id})
    await ops.run("queue.release", {"id": item.queue_id})
    assert (await rig.take(queue)).fates == [Fate.DELIVERED, Fate.WAITING]


async def test_the_delivery_log_tells_what_people_did(rig: Files) -> None:
    """Else `zegel trace` would show a mail that waits, leaves or ends for no reason."""
    log: list[Said] = []
    queue = await rig.open()
    ops, item = operations(queue, log), message(queue, held="recipients.ask")
    await queue.commit(item)
    held, by = {"reason": "queue.held_by_operator"}, {"by": "operator"}
    for op in (
        "queue.retry",
        "held.release",
        "queue.retry",
        "queue.hold",
        "queue.release",
        "queue.hold",
        "held.refuse",
    ):
        await ops.run(op, {"id": item.queue_id})
    ended = {"outcomes": [["ann0@example.net", "failed", "5.7.1", "", ""]]}
    way = {"way": "as_written"}
    told = [("released", {"reason": "recipients.ask"} | way), ("retried", {}), ("held", held), ("released", held | way)]
    told += [("held", held), ("refused", held | ended)]
    of = {
        "tenant": "shop1",
        "mailing": item.mailing,
    }  # each line says whose it is, so that only its own tenant has it deleted early
    assert log == [(item.id, word, by | of | data) for word, data in told]
    other = message(queue)
    await queue.commit(other)
    await ops.run("queue.delete", {"id": other.queue_id})
    gone = {"outcomes": [["ann0@example.net", "deleted", "", "", ""]]}
    assert log[-1] == (other.id, "deleted", by | of | gone)


async def test_the_delivery_log_tells_that_nobody_decided(rig: Files) -> None:
    log: list[Said] = []
    queue = await rig.open()
    ops, item = operations(queue, log), message(queue, held="recipients.ask")
    await queue.commit(item)
    rig.clock.advance(5 * HOUR)
    await ops.expire_held(rig.clock.now(), lambda why: 4 * HOUR)
    assert [(word, data["by"], data["reason"]) for _, word, data in log] == [("refused", "time", "recipients.ask")]


async def test_what_could_not_be_done_is_not_told(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Said] = []
    queue = await rig.open()
    ops, item = operations(queue, log), message(queue)
    await queue.commit(item)
    monkeypatch.setattr(queue, "record", failing)
    for op in ("queue.hold", "queue.retry", "queue.delete", "held.refuse"):
        with pytest.raises(OpRefused):
            await ops.run(op, {"id": item.queue_id})
    assert log == []


async def test_refuse_ends_in_a_report_to_the_sender(rig: Files) -> None:
    queue, ops, item = await queued(rig, held="recipients.ask", body=b"x" * (2 * LARGE_BYTES))
    await ops.run("held.refuse", {"id": item.queue_id})
    (report,) = await rig.drain(queue, 1)
    assert report.meta["from"] == "" and report.meta["about"] == item.queue_id
    assert [recipient.address for recipient in report.recipients] == ["news@sender.example"]
    parsed = Message.split(report.raw or b"")
    assert isinstance(parsed, Message) and b"multipart/report" in (parsed.get(b"content-type") or b"")


async def test_refuse_tells_too_of_those_who_had_it_before(rig: Files) -> None:
    """SMTP-14: held in the middle of a split, with a success that the sender asked to hear of."""
    queue = await rig.open()
    ops, item = operations(queue), message(queue, recipients=2)
    item.meta["rcpt"][0][1] = ["SUCCESS"]
    await queue.commit(item)
    taken = await rig.take(queue)
    taken.state.update(owed=[0], held="suppression.restricted_hold")
    await rig.finish(queue, taken, Fate.DELIVERED, Fate.WAITING)
    await ops.run("held.refuse", {"id": item.queue_id})
    (report,) = await rig.drain(queue, 1)
    assert report.raw.count(b"Action: failed") == report.raw.count(b"Action: relayed") == 1


@pytest.mark.parametrize(("reason", "hours"), [("recipients.ask", 4), ("classification.many_recipients", 72)])
async def test_held_mail_ends_as_a_report_when_its_time_runs_out(rig: Files, reason: str, hours: int) -> None:
    """PIPE-2, with the times of CC-10 and of a review."""
    queue, ops, item = await queued(rig, held=reason)

    def seconds(why: str) -> float:
        return 4 * HOUR if why == "recipients.ask" else 72 * HOUR

    rig.clock.advance(hours * HOUR - 1)
    assert await ops.expire_held(rig.clock.now(), seconds) == 0
    rig.clock.advance(2)
    assert await ops.expire_held(rig.clock.now(), seconds) == 1
    (report,) = await rig.drain(queue, 1)
    assert report.meta["about"] == item.queue_id and not queue.held
    await rig.finish(queue, report)
    assert (await rig.after_power_cut()).take() is None


EXPIRED_NL = "Niemand heeft op tijd gekozen wat er met deze mail moest gebeuren, dus hij is niet verstuurd"
EXPIRED_EN = "Nobody chose in time what should be done with this mail, so it was not sent"
REFUSED_NL = "Uw beheerder heeft besloten deze mail niet te versturen"
REFUSED_EN = "Your administrator decided not to send this mail"
ENDS = {
    ("recipients.ask", "refuse", "nl"): f"In deze mail zien 15 mensen elkaars adres. {REFUSED_NL}. /why/CC-10",
    ("recipients.ask", "expire", "nl"): f"In deze mail zien 15 mensen elkaars adres. {EXPIRED_NL}. /why/CC-10",
    ("recipients.ask", "expire", "en"): f"In this mail 15 people see each other's address. {EXPIRED_EN}. /why/CC-10",
    ("queue.held_by_operator", "refuse", "en"): f"{REFUSED_EN}. /why/PIPE-2",
}


@pytest.mark.parametrize("case", ENDS)
async def test_the_report_of_a_hold_says_what_for_and_how_it_ended(rig: Files, case: tuple[str, str, str]) -> None:
    """PIPE-2: with its numbers, and not that the mail still waits."""
    reason, end, language = case
    queue = await rig.open()
    item = message(queue, held=reason)
    item.meta.update(language=language, held_detail={"addresses": "15"})
    await queue.commit(item)
    ops = operations(queue)
    if end == "refuse":
        await ops.run("held.refuse", {"id": item.queue_id})
    else:
        assert await ops.expire_held(rig.clock.now() + 73 * HOUR, lambda reason: HOUR) == 1
    (report,) = await rig.drain(queue, 1)
    (text, *_) = email.message_from_bytes(report.raw or b"").get_payload()
    assert ENDS[case] in " ".join(text.get_payload(decode=True).decode().split())


async def test_an_operators_hold_counts_from_the_hold(rig: Files) -> None:
    queue, ops, item = await queued(rig, due=4e9)
    rig.clock.advance(100 * HOUR)
    await ops.run("queue.hold", {"id": item.queue_id})
    assert await ops.expire_held(rig.clock.now() + 71 * HOUR, lambda reason: 72 * HOUR) == 0
    assert await ops.expire_held(rig.clock.now() + 73 * HOUR, lambda reason: 72 * HOUR) == 1
    await rig.drain(queue, 1)


async def test_held_mail_is_read_once_not_every_round(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, ops, _ = await queued(rig, held="recipients.ask")
    await ops.expire_held(rig.clock.now(), lambda reason: HOUR)
    monkeypatch.setattr(queue.loader, "open", lambda *_, **__: pytest.fail("read again"))
    await ops.expire_held(rig.clock.now(), lambda reason: HOUR)


@pytest.mark.parametrize("op", ["queue.hold", "queue.retry", "queue.delete", "held.refuse"])
@pytest.mark.parametrize("place", PLACES)
async def test_when_the_disk_fails_it_stays_where_it_was(
    rig: Files, monkeypatch: pytest.MonkeyPatch, op: str, place: str
) -> None:
    queue, ops, item = await queued(rig, **PLACES[place])
    with monkeypatch.context() as patch:
        patch.setattr(queue, "record", failing)
        with pytest.raises(OpRefused) as refused:
            await ops.run(op, {"id": item.queue_id})
    assert refused.value.code == "storage"
    assert not queue.in_flight
    assert (await ops.run("queue.show", {"id": item.queue_id}))["held"] == PLACES[place].get("held", "")
    assert queue.ready + queue.backlog.later + len(queue.held) == (2 if op == "held.refuse" else 1)


async def test_lists_are_narrowed_and_bounded(rig: Files) -> None:
    queue = await rig.open()
    items = [message(queue, tenant=tenant, due=due) for tenant in (1, 2, 3) for due in (0.0, 4e9) for _ in range(4)]
    await asyncio.gather(*map(queue.commit, items))
    ops = operations(queue)
    assert {row["id"] for row in await ops.run("queue.list", {})} == {item.queue_id for item in items}
    assert len(await ops.run("queue.list", {"limit": 5})) == 5
    rows = await ops.run("queue.list", {"tenant": "shop2"})
    assert {row["id"] for row in rows} == {item.queue_id for item in items if item.tenant == 2}
    assert (await ops.run("queue.stats", {}))["waiting"] == 12


@pytest.mark.parametrize("text", ["", "short", "not-a-queue-id", "ZZZZZZZZZZZZZ", "0" * 14])
async def test_what_is_no_queue_id_is_said(rig: Files, text: str) -> None:
    ops = operations(await rig.open())
    with pytest.raises(OpRefused) as refused:
        await ops.run("queue.show", {"id": text})
    assert refused.value.code == "usage"


async def test_an_unknown_id_is_nobodys(rig: Files) -> None:
    ops = operations(await rig.open())
    for op in ("queue.show", "queue.retry", "queue.hold", "queue.release", "queue.delete", "held.refuse"):
        assert await ops.run(op, {"id": encode_id(12345)}) is None


async def test_an_unknown_command_is_refused(rig: Files) -> None:
    with pytest.raises(OpRefused):
        await operations(await rig.open()).run("queue.burn", {})


async def test_what_stays_paused_is_not_touched_when_others_are_released(rig: Files) -> None:
    """At each release and each start the delivery log said of all paused mail that it was released, and the disk got a row."""
    queue = await rig.open()
    stays, goes = message(queue, held="reputation.paused"), message(queue, held="reputation.paused")
    for item in (stays, goes):
        await queue.commit(item)
    log: list[Said] = []
    rows = stays.segment.next_seq
    assert await operations(queue, log).release_paused(lambda item: item.id == stays.id) == 1
    assert [(number, word) for number, word, _ in log] == [(goes.id, "released")]
    assert list(queue.held) == [stays.id] and goes.segment.next_seq == rows + 1
    assert (await rig.take(queue)).id == goes.id


async def test_mail_that_is_paused_again_while_others_are_released_stays(rig: Files) -> None:
    queue, ops, item = await queued(rig, held="reputation.paused")
    asked = iter((False, True))
    assert await ops.release_paused(lambda item: next(asked)) == 0
    assert list(queue.held) == [item.id] and not queue.in_flight


@pytest.mark.parametrize("op", ["held.release", "queue.release"])
async def test_the_time_that_a_person_took_is_no_delay(rig: Files, op: str) -> None:
    """OUT-2: let go after days, it has its whole time on the road before it; also after a restart."""
    queue, ops, item = await queued(rig, held="recipients.ask")
    rig.clock.advance(100 * HOUR)
    await ops.run(op, {"id": item.queue_id})
    for which in (queue, await rig.after_power_cut()):
        assert (await rig.take(which)).began == rig.clock.now()


@pytest.mark.parametrize("held", ["recipients.ask", ""])
@pytest.mark.parametrize("op", ["held.release", "queue.release"])
async def test_what_a_person_lets_go_keeps_its_turn(rig: Files, op: str, held: str) -> None:
    """THROTTLE-1: released, a parked campaign left in one heap, past every limit and the warm-up; also after a restart."""
    turn = rig.clock.now() + HOUR
    queue, ops, item = await queued(rig, held=held, turn=turn)
    await ops.run("queue.hold", {"id": item.queue_id})
    assert await ops.run(op, {"id": item.queue_id}) == {"id": item.queue_id, "state": "parked", "due": turn}
    again = await rig.after_power_cut()
    for which in (queue, again):
        which.tick()
        assert which.take() is None and not which.held
    rig.clock.advance(HOUR + 1)
    for which in (queue, again):
        which.tick()
        assert (await rig.take(which)).began == turn, "its time on the road begins with its turn"


async def test_a_turn_that_is_over_keeps_nobody(rig: Files) -> None:
    queue, ops, item = await queued(rig, held="recipients.ask", turn=rig.clock.now() + HOUR)
    rig.clock.advance(2 * HOUR)
    assert (await ops.run("held.release", {"id": item.queue_id}))["state"] == "ready"
    assert (await rig.take(queue)).began == rig.clock.now()


async def test_who_says_now_means_now(rig: Files) -> None:
    queue, ops, item = await queued(rig, turn=rig.clock.now() + HOUR)
    assert await ops.run("queue.retry", {"id": item.queue_id}) == {"id": item.queue_id, "state": "ready"}
    assert (await rig.take(queue)).id == item.id


async def test_mail_of_a_sender_who_is_paused_no_more_leaves_in_turn(rig: Files) -> None:
    """REP-1: all of it left within a second, whatever the pace."""
    queue = await rig.open()
    turns = [rig.clock.now() + minute * 60 for minute in (0, 1, 2)]
    for turn in turns:
        await queue.commit(message(queue, held="reputation.paused", turn=turn))
    assert await operations(queue).release_paused(lambda item: False) == 3
    for _ in turns:
        assert (await rig.take(queue)).id and queue.take() is None
        rig.clock.advance(61)
        queue.tick()


async def test_trying_again_does_not_begin_the_time_anew(rig: Files) -> None:
    queue, ops, item = await queued(rig, due=4e9)
    rig.clock.advance(HOUR)
    await ops.run("queue.retry", {"id": item.queue_id})
    assert (await rig.take(queue)).began == item.meta["at"]


async def test_held_mail_ends_beside_everything_else_and_a_stop_need_not_wait_for_it(
    rig: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PIPE-2: a campaign of thousands ends in minutes, and the worker's upkeep waited for it."""
    monkeypatch.setattr(held_ops, "EXPIRE_SECONDS", 0.0)
    queue = await rig.open()
    items = [message(queue, held="reputation.paused") for _ in range(30)]
    await asyncio.gather(*(queue.commit(item) for item in items))
    stopping, ended, bugs = asyncio.Event(), [], list[BaseException]()

    def say(number: int, word: str, at: float, **data: Any) -> None:
        ended.append(number)
        if len(ended) == 3:
            stopping.set()

    reporter = Reporter("gw.example", queue.next_id, queue.clock)
    ops = held_ops.HeldOps(queue, wake=lambda: None, reporter=reporter, say=say, hold_seconds=lambda reason: 72 * HOUR)
    rig.clock.advance(72 * HOUR)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ops.watch(stopping, bugs.append)
    assert ended == [item.id for item in items[:3]] and len(queue.held) == 27 and not bugs


async def test_a_disk_that_is_full_keeps_nobody_from_looking_again(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_ops, "EXPIRE_SECONDS", 0.0)
    queue, _, item = await queued(rig, held="recipients.ask")
    stopping, bugs = asyncio.Event(), list[BaseException]()
    reporter = Reporter("gw.example", queue.next_id, queue.clock)
    ops = held_ops.HeldOps(
        queue,
        wake=lambda: None,
        reporter=reporter,
        say=lambda *_, **__: stopping.set(),
        hold_seconds=lambda reason: 1.0,
    )
    rig.clock.advance(2.0)
    with monkeypatch.context() as full:
        full.setattr(queue, "commit", failing)

        def crashed(error: BaseException) -> None:
            bugs.append(error)
            full.undo()

        async with asyncio.timeout(PATIENCE_SECONDS):
            await ops.watch(stopping, crashed)
    assert [type(bug) for bug in bugs] == [SpoolUnavailable] and item.id not in queue.held


async def test_a_bug_with_one_message_hides_it_from_nobody_and_keeps_no_other(rig: Files) -> None:
    """It was in nobody's list until the worker was started again, and no held mail behind it ended."""
    queue = await rig.open()
    bad, good = message(queue, held="recipients.ask"), message(queue, held="recipients.ask")
    for item in (bad, good):
        await queue.commit(item)
    ops = operations(queue)
    report = ops._reporter

    def broken(item: Item, *rest: Any, **how: Any) -> list[Item]:
        if item.id == bad.id:
            raise ZeroDivisionError
        return report(item, *rest, **how)

    ops._reporter = broken  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        await ops.expire_held(rig.clock.now() + 73 * HOUR, lambda reason: 72 * HOUR)
    assert list(queue.held) == [bad.id] and not queue.in_flight
    with pytest.raises(ZeroDivisionError):
        await ops.run("held.refuse", {"id": bad.queue_id})
    assert list(queue.held) == [bad.id] and not queue.in_flight
    with pytest.raises(ZeroDivisionError):
        await ops._change(bad.id, "released", lambda item: str(1 / 0))
    assert list(queue.held) == [bad.id] and not queue.in_flight
    ops._reporter = report
    await ops.run("held.refuse", {"id": bad.queue_id})
    assert not queue.held
