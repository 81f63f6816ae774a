"""The delivery log of a tenant that keeps it for less long than the others."""

from __future__ import annotations

from pathlib import Path

from relay.store.history import Event, History, read, short_hash
from relay.store.thinning import thin

DAY = 86_400.0
BEGIN = 1_790_000_000.0


def keep(number: int, data: bytes) -> bytes:
    return data


async def write(folder: Path, *events: Event) -> None:
    for event in events:  # a file a day
        history = History(folder, "0", keep)
        history.start()
        history.add(event)
        await history.stop()


async def test_what_one_tenant_sent_goes_and_the_rest_stays(tmp_path: Path) -> None:
    who = (short_hash(b"ann@example.net!"),)
    await write(
        tmp_path,
        Event(1, BEGIN, "accepted", {"tenant": "shop"}, who),
        Event(2, BEGIN, "accepted", {"tenant": "kerk"}, who),
        Event(1, BEGIN + DAY, "delivered", {"outcomes": []}),
        Event(2, BEGIN + DAY, "delivered", {"outcomes": []}),
        Event(3, BEGIN + 5 * DAY, "accepted", {"tenant": "shop"}, who),
    )
    done: set[tuple[str, str]] = set()
    assert thin(tmp_path, BEGIN + 3 * DAY, "shop", keep, done) == 2
    assert [event.word for event in read(tmp_path, [1, 2, 3], keep)] == ["accepted", "delivered", "accepted"]
    assert [event.id for event in read(tmp_path, [1, 2, 3], keep)] == [2, 2, 3]
    assert thin(tmp_path, BEGIN + 3 * DAY, "shop", keep, done) == 0 and len(done) == 2
    assert thin(tmp_path, BEGIN + 3 * DAY, "shop", keep, set()) == 0, "after a start it may read them once more"


async def test_a_later_line_goes_though_the_first_is_gone(tmp_path: Path) -> None:
    await write(
        tmp_path,
        Event(1, BEGIN, "accepted", {"tenant": "shop"}),
        Event(1, BEGIN + DAY, "delivered", {"tenant": "shop", "outcomes": []}),
    )
    assert thin(tmp_path, BEGIN + DAY, "shop", keep, set()) == 1
    assert thin(tmp_path, BEGIN + 2 * DAY, "shop", keep, set()) == 1
    assert read(tmp_path, [1], keep) == []


async def test_a_later_line_of_another_tenant_stays(tmp_path: Path) -> None:
    """The day of its first line was read already; the one that says nothing is of an older version."""
    await write(
        tmp_path,
        Event(1, BEGIN, "accepted", {"tenant": "kerk"}),
        Event(1, BEGIN + DAY, "attempted", {"tenant": "kerk", "outcomes": []}),
        Event(1, BEGIN + 2 * DAY, "finished", {"outcomes": []}),
    )
    done: set[tuple[str, str]] = set()
    for days in range(1, 5):
        assert thin(tmp_path, BEGIN + days * DAY, "shop", keep, done) == 0
    assert [event.word for event in read(tmp_path, [1], keep)] == ["accepted", "attempted", "finished"]
