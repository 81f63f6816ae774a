"""The delivery log: read while it is written, and not ended by one event that cannot be."""

from __future__ import annotations

from pathlib import Path

from relay.observe import metrics
from relay.store import history
from relay.store.history import Event, History


def seal(number: int, data: bytes) -> bytes:
    return bytes(octet ^ 0x5A for octet in data)


async def written(folder: Path, *events: Event) -> History:
    log = History(folder, "0", seal)
    log.start()
    for event in events:
        log.add(event)
    await log.stop()
    return log


async def test_a_file_that_is_just_being_made_holds_nothing_yet(tmp_path: Path) -> None:
    await written(tmp_path, Event(7, 1_767_348_000.0, "accepted", {"tenant": "shop"}, (42,)))
    (tmp_path / "2026-01-01-1.history").touch()
    assert [event.data for event in history.read(tmp_path, [7], seal)] == [{"tenant": "shop"}]
    assert history.find(tmp_path, [42]) == [7]


async def test_an_event_that_is_no_json_is_counted_and_the_others_are_kept(tmp_path: Path) -> None:
    """Text of strangers may hold what no encoding knows; the thread that writes must outlive it."""
    bad = Event(7, 1_767_348_000.0, "refused", {"reply": "\udc80"}, (42,))
    good = Event(8, 1_767_348_000.0, "accepted", {"tenant": "shop"}, (43,))
    before = metrics.RECORDS_LOST.values["delivery_log",]
    log = await written(tmp_path, bad, good)
    assert log.failed == metrics.RECORDS_LOST.values["delivery_log",] - before == 1
    assert [event.id for event in history.read(tmp_path, [7, 8], seal)] == [8]
