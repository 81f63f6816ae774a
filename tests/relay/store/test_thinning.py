"""The delivery log of a tenant that keeps it for less long than the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.store.history import Event, History, find, read, short_hash
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
    assert thin(tmp_path, {"shop": BEGIN + 3 * DAY}, keep) == 2
    assert [event.word for event in read(tmp_path, [1, 2, 3], keep)] == ["accepted", "delivered", "accepted"]
    assert [event.id for event in read(tmp_path, [1, 2, 3], keep)] == [2, 2, 3]
    assert thin(tmp_path, {"shop": BEGIN + 3 * DAY}, keep) == 0


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41b", "a b"])
async def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """What SQLite takes for the end of a path hid the log from who reads it, and from who deletes it (GDPR-13)."""
    folder = tmp_path / name
    folder.mkdir()
    who = (short_hash(b"ann@example.net!"),)
    await write(folder, *(Event(at, BEGIN, "accepted", {"tenant": of}, who) for at, of in enumerate(("shop", "kerk"))))
    assert thin(folder, {"shop": BEGIN + DAY}, keep) == 1
    assert [event.id for event in read(folder, [0, 1], keep)] == [1]
    assert [path.name for path in tmp_path.iterdir()] == [name], "it wrote beside it"


async def test_a_day_is_opened_once_whoever_asks_and_when(tmp_path: Path) -> None:
    """Not again at each start, and not for each tenant."""
    opened: list[int] = []

    def unseal(number: int, data: bytes) -> bytes:
        opened.append(number)
        return data

    who = (short_hash(b"ann@example.net!"),)
    await write(
        tmp_path,
        *(Event(at, BEGIN, "accepted", {"tenant": name}, who) for at, name in enumerate(("shop", "kerk", "bank"))),
        Event(9, BEGIN + DAY, "accepted", {"tenant": "shop"}, who),
    )
    assert thin(tmp_path, {"shop": BEGIN + DAY, "kerk": BEGIN - DAY}, unseal) == 1 and sorted(opened) == [0, 1, 2]
    assert thin(tmp_path, {"shop": BEGIN + DAY, "kerk": BEGIN + DAY}, unseal) == 1 and len(opened) == 3
    assert [event.id for event in read(tmp_path, range(10), keep)] == [2, 9]
    assert thin(tmp_path, {"shop": BEGIN + 2 * DAY}, unseal) == 1 and opened[3:] == [9]
    assert [event.id for event in read(tmp_path, range(10), keep)] == [2]
    assert find(tmp_path, who) == [2]


async def test_a_later_line_goes_though_the_first_is_gone(tmp_path: Path) -> None:
    await write(
        tmp_path,
        Event(1, BEGIN, "accepted", {"tenant": "shop"}),
        Event(1, BEGIN + DAY, "delivered", {"tenant": "shop", "outcomes": []}),
    )
    assert thin(tmp_path, {"shop": BEGIN + DAY}, keep) == 1
    assert thin(tmp_path, {"shop": BEGIN + 2 * DAY}, keep) == 1
    assert read(tmp_path, [1], keep) == []


async def test_a_later_line_of_another_tenant_stays(tmp_path: Path) -> None:
    """The day of its first line was read already; the one that says nothing is of an older version."""
    await write(
        tmp_path,
        Event(1, BEGIN, "accepted", {"tenant": "kerk"}),
        Event(1, BEGIN + DAY, "attempted", {"tenant": "kerk", "outcomes": []}),
        Event(1, BEGIN + 2 * DAY, "finished", {"outcomes": []}),
    )
    for days in range(1, 5):
        assert thin(tmp_path, {"shop": BEGIN + days * DAY}, keep) == 0
    assert [event.word for event in read(tmp_path, [1], keep)] == ["accepted", "attempted", "finished"]
