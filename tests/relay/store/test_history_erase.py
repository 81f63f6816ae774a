"""The delivery log without a person who was erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.store.history import Cut, Event, History, erase, find, read, short_hash

ANN = short_hash(b"ann@example.net!")
BEGIN = 1_790_000_000.0


def keep(number: int, data: bytes) -> bytes:
    return data


def without(data: Any) -> Any:
    return {
        name: ["" if one == "ann" else one for one in value] if name == "rcpt" else value
        for name, value in data.items()
    }


async def write(folder: Path, *events: Event) -> None:
    history = History(folder, "0", keep)
    history.start()
    for event in events:
        history.add(event)
    await history.stop()


def go(folder: Path, *, last: bool) -> int:
    return erase(folder, [ANN], ("shop", 9), Cut(without), (keep, keep), last=last)


async def test_a_line_that_is_written_late_is_met_too(tmp_path: Path) -> None:
    accepted = {"tenant": "shop", "rcpt": ["ann", "bob"]}
    await write(tmp_path, Event(1, BEGIN, "accepted", accepted, (ANN,)))
    assert go(tmp_path, last=False) == 1
    await write(tmp_path, Event(1, BEGIN, "delivered", {"rcpt": ["ann"]}))
    assert go(tmp_path, last=False) == 1, "it found something, so it is not over"
    assert go(tmp_path, last=False) == 0
    assert go(tmp_path, last=True) == 0 and find(tmp_path, [ANN]) == []
    assert [event.data["rcpt"] for event in read(tmp_path, [1], keep)] == [["", "bob"], [""]]


async def test_what_another_tenant_sent_stays(tmp_path: Path) -> None:
    await write(
        tmp_path,
        Event(1, BEGIN, "accepted", {"tenant": "shop", "rcpt": ["ann"]}, (ANN,)),
        Event(2, BEGIN, "accepted", {"tenant": "kerk", "rcpt": ["ann"]}, (ANN,)),
    )
    assert go(tmp_path, last=True) == 1
    assert find(tmp_path, [ANN]) == [2] and read(tmp_path, [2], keep)[0].data["rcpt"] == ["ann"]


async def test_what_was_handed_in_later_stays(tmp_path: Path) -> None:
    await write(
        tmp_path,
        Event(9, BEGIN, "accepted", {"tenant": "shop", "rcpt": ["ann"]}, (ANN,)),
        Event(10, BEGIN, "accepted", {"tenant": "shop", "rcpt": ["ann"]}, (ANN,)),
    )
    assert go(tmp_path, last=True) == 1
    assert find(tmp_path, [ANN]) == [10] and read(tmp_path, [10], keep)[0].data["rcpt"] == ["ann"]
