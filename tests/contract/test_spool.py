"""What every queue promises (relay.spool.contract). A second backend becomes a second parameter of `rig`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.spool.item import Fate
from relay.spool.segment import LARGE_BYTES, Segment
from tests.fakes.queues import Files, files_holding, message

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["files"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Files]:
    made = Files(tmp_path / "queue")
    yield made
    await made.close()


# -- durability (OUT-1) -------------------------------------------------------------------------------------------------


async def test_what_is_committed_survives_a_power_cut(rig: Files) -> None:
    queue = await rig.open()
    sent = [message(queue, b"number %d" % n) for n in range(100)]
    await asyncio.gather(*(queue.commit(item) for item in sent))
    found = await rig.drain(await rig.after_power_cut(), 100)
    assert {item.id: item.raw for item in found} == {item.id: item.raw for item in sent}
    assert found[0].meta == sent[0].meta and found[0].due == sent[0].due


@pytest.mark.parametrize("number", [1, 2, 3, 63, 64, 65, 100, 256, 300])
async def test_a_batch_of_any_size_is_kept_whole(rig: Files, number: int) -> None:
    queue = await rig.open()
    await asyncio.gather(*(queue.commit(message(queue)) for _ in range(number)))
    assert len({item.id for item in await rig.drain(await rig.after_power_cut(), number)}) == number


async def test_a_message_that_is_final_does_not_come_back(rig: Files) -> None:
    queue = await rig.open()
    first, second = message(queue), message(queue)
    await asyncio.gather(queue.commit(first), queue.commit(second))
    await rig.finish(queue, await rig.take(queue))
    (left,) = await rig.drain(await rig.after_power_cut(), 1)
    assert left.id == second.id


async def test_partial_results_are_kept_for_each_recipient(rig: Files) -> None:
    """OUT-10."""
    queue = await rig.open()
    await queue.commit(message(queue, recipients=3))
    item = await rig.take(queue)
    item.state["tries"] = 1
    await rig.finish(queue, item, Fate.DELIVERED, Fate.WAITING, Fate.FAILED)
    again = await rig.take(await rig.after_power_cut())
    assert again.fates == [Fate.DELIVERED, Fate.WAITING, Fate.FAILED]
    assert again.state["tries"] == 1 and again.raw is not None


async def test_the_newest_state_counts(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue))
    for tries in range(1, 6):
        item = await rig.take(queue)
        assert item.state.get("tries", 0) == tries - 1
        item.state["tries"] = tries
        await queue.record(item)
    assert (await rig.take(await rig.after_power_cut())).state == {"tries": 5}


async def test_a_commit_that_is_given_up_is_not_sent(rig: Files) -> None:
    queue = await rig.open()
    future = queue.commit(message(queue))
    future.cancel()
    await queue.commit(kept := message(queue))
    await queue.writer.drain()
    assert [item.id for item in await rig.drain(queue, 1)] == [kept.id]


# -- exactly once -------------------------------------------------------------------------------------------------------


async def test_a_message_is_handed_to_one_attempt_only(rig: Files) -> None:
    queue = await rig.open()
    await asyncio.gather(*(queue.commit(message(queue)) for _ in range(500)))
    assert len({item.id for item in await rig.drain(queue, 500)}) == 500
    assert len(queue.in_flight) == 500


async def test_two_processes_never_have_the_same_message(rig: Files) -> None:
    one, two = await rig.open(), await rig.open()
    await asyncio.gather(*(one.commit(message(one)) for _ in range(20)))
    assert await two.adopt_orphans() == 0
    assert two.take() is None


async def test_released_it_may_leave_at_once(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue))
    item = await rig.take(queue)
    assert queue.take() is None
    queue.release(item)
    assert (await rig.take(queue)).id == item.id


async def test_deferred_it_leaves_when_it_is_due(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue))
    item = await rig.take(queue)
    item.due = rig.clock.now() + 300
    await queue.record(item)
    await rig.pass_time(queue, 299)
    assert queue.take() is None
    await rig.pass_time(queue, 2)
    assert (await rig.take(queue)).id == item.id


async def test_messages_leave_in_the_order_in_which_they_are_due(rig: Files) -> None:
    queue = await rig.open()
    waits = [4000, 100, 130, 70_000, 10, 5000, 400_000, 124, 136]
    sent = {wait: message(queue, due=rig.clock.now() + wait) for wait in waits}
    await asyncio.gather(*map(queue.commit, sent.values()))
    start, left = rig.clock.now(), []
    for wait in sorted(waits):
        await rig.pass_time(queue, start + wait - 1 - rig.clock.now(), step=40_000)
        await queue.loader.idle()
        assert queue.take() is None, f"early, at {wait}"
        await rig.pass_time(queue, 2)
        left.append((await rig.take(queue)).id)
    assert left == [sent[wait].id for wait in sorted(waits)]


async def test_parked_mail_is_not_looked_at_before_its_time(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """THROTTLE-1."""
    queue = await rig.open()
    await asyncio.gather(*(queue.commit(message(queue, due=rig.clock.now() + 7200)) for _ in range(300)))
    loads: list[int] = []
    load = Segment.load
    monkeypatch.setattr(Segment, "load", lambda segment, seq: loads.append(seq) or load(segment, seq))
    await rig.pass_time(queue, 7190)
    assert queue.take() is None
    assert loads == []
    await rig.pass_time(queue, 20)
    await rig.drain(queue, 300)
    assert len(loads) == 300


# -- fairness -----------------------------------------------------------------------------------------------------------


async def test_urgent_mail_goes_first_and_a_campaign_is_not_starved(rig: Files) -> None:
    queue = await rig.open()
    for stream in ("marketing", "personal"):
        await asyncio.gather(*(queue.commit(message(queue, stream=stream)) for _ in range(90)))
    first = [(await rig.take(queue)).rank for _ in range(90)]
    assert Counter(first) == {0: 80, 1: 10}
    assert all(1 in first[at : at + 9] for at in range(81))


async def test_tenants_take_turns(rig: Files) -> None:
    queue = await rig.open()
    for tenant, number in ((1, 300), (2, 5), (3, 5)):
        await asyncio.gather(*(queue.commit(message(queue, tenant=tenant)) for _ in range(number)))
    first = [(await rig.take(queue)).tenant for _ in range(15)]
    assert Counter(first) == {1: 5, 2: 5, 3: 5}


async def test_mail_at_which_sessions_end_and_other_mail_take_turns(rig: Files) -> None:
    """Where one connection at a time is tried, nine messages that end each session kept all later mail waiting."""
    queue = await rig.open()
    for _ in range(9):
        await queue.commit(message(queue))
    culprits = [await rig.take(queue) for _ in range(9)]
    for item in culprits:
        item.state["cuts"] = 1
        await queue.record(item)
    await asyncio.gather(*(queue.commit(message(queue)) for _ in range(9)))
    first = [(await rig.take(queue)).state.get("cuts", 0) for _ in range(8)]
    assert sorted(first) == [0] * 4 + [1] * 4
    again = await rig.after_power_cut()
    first = [(await rig.take(again)).state.get("cuts", 0) for _ in range(8)]
    assert sorted(first) == [0] * 4 + [1] * 4, "also after a restart"


async def test_a_campaign_that_fills_the_memory_keeps_nobody_waiting(
    rig: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """design.md section 3: a campaign of 100,000 never delays somebody's password reset."""
    monkeypatch.setattr("relay.spool.stand.HOT_BYTES", 64 * 1024)
    monkeypatch.setattr("relay.spool.stand.LINE_BYTES", 4 * 1024)
    queue = await rig.open()
    body = b"x" * 1000
    await asyncio.gather(*(queue.commit(message(queue, body)) for _ in range(500)))
    assert queue.hot.bytes <= 96 * 1024 and queue.backlog.ready > 400
    await queue.commit(reset := message(queue, stream="transactional", tenant=2))
    other = [message(queue, body, tenant=3) for _ in range(3)]
    await asyncio.gather(*map(queue.commit, other))
    first = [(await rig.take(queue)).id for _ in range(10)]
    assert first[0] == reset.id
    assert set(first) >= {item.id for item in other}


async def test_urgent_mail_on_disk_is_fetched_past_a_campaign_in_memory(rig: Files) -> None:
    queue = await rig.open()
    await asyncio.gather(*(queue.commit(message(queue)) for _ in range(500)))
    parked = message(queue, stream="transactional", tenant=2, due=rig.clock.now() + 30)
    await queue.commit(parked)
    await rig.pass_time(queue, 31)
    await queue.loader.idle()
    assert (await rig.take(queue)).id == parked.id


async def test_marketing_on_disk_is_fetched_while_urgent_mail_comes(rig: Files) -> None:
    queue = await rig.open()
    for stream in ("marketing", "personal"):
        for _ in range(10):
            await asyncio.gather(*(queue.commit(message(queue, stream=stream)) for _ in range(100)))
    again = await rig.after_power_cut()
    ranks = [(await rig.take(again)).rank for _ in range(180)]
    assert ranks.count(1) >= 10


# -- held ---------------------------------------------------------------------------------------------------------------


async def test_held_mail_does_not_leave_and_is_held_after_a_restart(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(held := message(queue, held="recipients.ask"))
    assert queue.take() is None and list(queue.held) == [held.id]
    again = await rig.after_power_cut()
    assert again.take() is None and list(again.held) == [held.id]


# -- other processes ----------------------------------------------------------------------------------------------------


async def test_another_process_adopts_what_one_leaves(rig: Files) -> None:
    one, two = await rig.open(), await rig.open()
    sent = [message(one, b"%d" % n, stream="personal", tenant=n % 3) for n in range(50)]
    await asyncio.gather(*map(one.commit, sent))
    await rig.finish(one, gone := await rig.take(one))
    await rig.stop(one)
    assert await two.adopt_orphans() == 49
    found = await rig.drain(two, 49)
    assert {item.id: item.raw for item in found} == {item.id: item.raw for item in sent if item.id != gone.id}


async def test_parked_mail_is_adopted_with_its_time(rig: Files) -> None:
    one = await rig.open()
    await one.commit(message(one, due=rig.clock.now() + 500))
    await rig.stop(one)
    two = await rig.open()
    assert two.take() is None and two.backlog.later == 1
    await rig.pass_time(two, 501)
    await rig.take(two)


async def test_ids_of_two_processes_never_meet(rig: Files) -> None:
    one, two = await rig.open(), await rig.open()
    ids = [queue.next_id() for _ in range(5000) for queue in (one, two)]
    assert len(set(ids)) == len(ids)


# -- large bodies -------------------------------------------------------------------------------------------------------


async def test_a_large_body_survives_and_leaves_the_disk_when_it_is_final(rig: Files) -> None:
    queue = await rig.open()
    body = b"large " * (LARGE_BYTES // 3)
    await queue.commit(sent := message(queue, body))
    again = await rig.after_power_cut()
    item = await rig.take(again)
    assert item.raw == sent.raw
    await rig.finish(again, item)
    await rig.pass_time(again, 60)
    assert not list(again.folder.glob("*.bodies/*"))


async def test_a_deferred_large_body_is_read_again(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(sent := message(queue, b"x" * (LARGE_BYTES * 2)))
    raw, item = sent.raw, await rig.take(queue)
    item.due = rig.clock.now() + 60
    await queue.record(item)
    await rig.pass_time(queue, 62)
    assert (await rig.take(queue)).raw == raw


@pytest.mark.parametrize("restarted", [False, True])
async def test_large_bodies_that_are_being_sent_leave_room_for_others(
    rig: Files, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """A slow next hop: two large bodies are under way, the third waits on disk, and other people's mail goes on."""
    body = b"x" * (LARGE_BYTES * 2)
    monkeypatch.setattr("relay.spool.stand.LARGE_BUDGET_BYTES", 5 * LARGE_BYTES)
    queue = await rig.open()
    large = [message(queue, body) for _ in range(5)]
    for item in large:
        await queue.commit(item)
    await queue.commit(small := message(queue, tenant=2))
    if restarted:
        queue = await rig.after_power_cut()
    first = [await rig.take(queue) for _ in range(3)]
    assert {item.id for item in first} == {small.id, large[0].id, large[1].id}
    await queue.loader.idle()
    assert queue.take() is None
    for item, wanted in zip([item for item in first if item.id != small.id], large[2:4], strict=True):
        await rig.finish(queue, item)
        assert (await rig.take(queue)).id == wanted.id
        await queue.loader.idle()
        assert queue.take() is None


async def test_a_body_larger_than_the_memory_for_them_goes_alone(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.spool.stand.LARGE_BUDGET_BYTES", LARGE_BYTES)
    queue = await rig.open()
    sent = [message(queue, b"x" * (LARGE_BYTES * 2), stream=stream) for stream in ("marketing", "transactional")]
    for item in sent:
        await queue.commit(item)
    one = await rig.take(queue)
    await queue.loader.idle()
    assert queue.take() is None
    queue.release(one)
    two = await rig.take(queue)
    await rig.finish(queue, two)
    three = await rig.take(queue)
    assert {two.id, three.id} == {item.id for item in sent}


async def test_small_and_large_mail_of_others_is_not_kept_out_by_ever_new_large_mail(
    rig: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tenant's large mail always replaced by the next: another's larger one, and the small mail behind it, still go."""
    monkeypatch.setattr("relay.spool.stand.LARGE_BUDGET_BYTES", 5 * LARGE_BYTES)
    queue = await rig.open()
    under_way = []
    for _ in range(3):
        await queue.commit(message(queue, b"x" * (LARGE_BYTES + LARGE_BYTES // 4), tenant=2))
        under_way.append(await rig.take(queue))
    await queue.commit(large := message(queue, b"x" * (LARGE_BYTES * 4), tenant=1))
    await queue.commit(small := message(queue, tenant=1))
    taken: list[int] = []
    for _ in range(12):
        await queue.commit(message(queue, b"x" * (LARGE_BYTES + LARGE_BYTES // 4), tenant=2))
        await queue.loader.idle()
        while (item := queue.take()) is not None:
            under_way.append(item)
            taken.append(item.id)
            await queue.loader.idle()
        await rig.finish(queue, under_way.pop(0))
    assert large.id in taken and small.id in taken
    assert len(taken) >= 8, "and the others go on"


# -- privacy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, LARGE_BYTES * 2])
async def test_nothing_readable_lies_on_the_disk(rig: Files, size: int) -> None:
    """GDPR-19."""
    queue = await rig.open()
    item = message(queue, b"BODY-MARKER".ljust(size, b"."))
    await queue.commit(item)
    for marker in (b"BODY-MARKER", b"ann0@example.net", b"news@sender.example"):
        assert files_holding(rig.folder, marker) == []
