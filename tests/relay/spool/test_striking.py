"""The queue without people who were erased: bounded steps that keep their progress, and each person for himself (GDPR-8)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.consent.erased import GRACE_SECONDS, Erased
from relay.delivery.passes import Passes
from relay.keyring import Keyring
from relay.serve.striking import Striking
from relay.spool.cipher import Cipher
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item, last_id, time_of
from relay.spool.sweep import SLICE_ROWS
from tests.fakes.queues import Files, message

pytestmark = pytest.mark.anyio

ANN, BOB = "ann@example.net", "bob@example.net"


class Rig:
    """One process with its queue. `people` are erased now, by number."""

    def __init__(self, files: Files, queue: QueueFiles, keys: Path) -> None:
        self.files, self.queue = files, queue
        self.keyring = Keyring.open(keys, create=True)
        self.said: list[tuple[int, str]] = []
        self.people: list[dict[str, Any]] = []
        self.striking = Striking(queue, Passes(), self.say, self.keyring)

    def say(self, number: int, word: str, at: float, **data: Any) -> None:
        self.said.append((number, word))

    async def mail(self, *addresses: str, tenant: int = 1, due: float | None = None) -> Item:
        item = message(self.queue, tenant=tenant, **({} if due is None else {"due": due}))
        item.meta["rcpt"] = [[address, ["FAILURE"], ""] for address in addresses]
        item.fates = [Fate.WAITING] * len(addresses)
        await self.queue.commit(item)
        return item

    def erase(self, *addresses: str, tenant: int = 1) -> None:
        for address in addresses:
            one = Erased.of(self.keyring, (tenant, f"shop{tenant}"), self.files.clock.now(), [address])
            self.people.append({"id": len(self.people) + 1, **one._asdict()})

    async def look(self) -> list[int]:
        """What is left of each of them."""
        answer = await self.striking.run({"people": self.people})
        assert answer.pop("workers") == 1
        return [answer[str(row["id"])] for row in self.people]

    async def end(self, looks: int = 9) -> int:
        """Until nothing is left; how many looks that took."""
        for count in range(1, looks + 1):
            if not any(await self.look()):
                return count
            await self.files.pass_time(self.queue, 1.0, step=1.0)
        raise AssertionError(f"still {await self.look()} after {looks} looks")


@pytest.fixture
async def erasing(rig: Files, tmp_path: Path) -> Rig:
    return Rig(rig, await rig.open(), tmp_path / "keys")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Ids of rows that were decrypted."""
    seen: list[int] = []
    real = Cipher.open

    def counted(cipher: Cipher, number: int, blob: bytes) -> bytes:
        seen.append(number)
        return real(cipher, number, blob)

    monkeypatch.setattr(Cipher, "open", counted)
    yield seen


async def test_a_large_queue_is_opened_once_over_many_calls(
    erasing: Rig, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5 * SLICE_ROWS):
        await erasing.mail(f"n{number}@example.net", due=4e9)
    hers = await erasing.mail(ANN, due=4e9)
    clock = erasing.files.clock

    def monotonic() -> float:
        clock.advance(0.3)  # each look at it
        return clock.now()

    monkeypatch.setattr(clock, "monotonic", monotonic)
    erasing.erase(ANN)
    opened.clear()
    first = await erasing.look()
    assert first == [1] and len(opened) == 3 * SLICE_ROWS, "a call ends before all of it was opened"
    count = await erasing.end(looks=40)
    assert count > 2 and (hers.id, "dropped") in erasing.said
    assert len(opened) < 5 * SLICE_ROWS + 20, "what was opened in one call is not opened in the next"
    erasing.erase(BOB)
    opened.clear()
    await erasing.end(looks=40)
    assert 5 * SLICE_ROWS <= len(opened) < 5 * SLICE_ROWS + 20, "a new erasure costs one search"


async def test_many_who_come_together_cost_one_search(erasing: Rig, opened: list[int]) -> None:
    for number in range(100):
        await erasing.mail(f"n{number}@example.net", due=4e9)
    erasing.erase(*(f"n{number}@example.net" for number in range(50)))
    opened.clear()
    await erasing.end()
    assert [word for _, word in erasing.said] == ["dropped"] * 50
    assert len(opened) < 100 + 3 * 50, "the queue once, and what is theirs"


async def test_who_is_not_over_keeps_nobody_else_open(erasing: Rig) -> None:
    await erasing.mail(ANN)
    under_way = await erasing.files.take(erasing.queue)
    erasing.erase(ANN)
    erasing.erase(ANN, tenant=2)
    erasing.erase(BOB)
    for _ in range(3):
        left = await erasing.look()
    assert left == [1, 0, 0]
    await erasing.files.finish(erasing.queue, under_way)
    await erasing.end()


async def test_mail_from_after_the_erasure_goes_its_way(erasing: Rig) -> None:
    before = await erasing.mail(ANN, due=4e9)
    erasing.erase(ANN)
    erasing.files.clock.advance(GRACE_SECONDS)
    late = await erasing.mail(ANN, due=4e9)
    erasing.files.clock.advance(0.002)
    after = await erasing.mail(ANN)
    await erasing.end()
    assert [number for number, _ in erasing.said] == [before.id, late.id]
    assert (await erasing.files.take(erasing.queue)).id == after.id


async def test_it_is_over_when_the_row_has_left_the_file(erasing: Rig) -> None:
    """What an attempt had in hand is final later than what waited; both have a purge of their own."""
    waiting = await erasing.mail(ANN, due=4e9)
    await erasing.mail(BOB, due=4e9)
    await erasing.mail(ANN)
    under_way = await erasing.files.take(erasing.queue)
    erasing.erase(ANN)
    assert await erasing.look() == [2]
    await erasing.files.finish(erasing.queue, under_way)
    assert await erasing.look() == [2], "final, and in the file"
    await erasing.end()
    for segment in erasing.queue.shelf.segments.values():
        assert segment.newest_of([waiting.id, under_way.id]) == {}
    assert len(erasing.queue.backlog) == 1, "Bob's"


async def test_mail_to_several_stays_for_the_others(erasing: Rig) -> None:
    both = await erasing.mail(ANN, BOB, due=4e9)
    erasing.erase(ANN)
    await erasing.end()
    assert erasing.said == [(both.id, "dropped")]
    erasing.files.clock.advance(4e9)
    found = await erasing.files.take(await erasing.files.after_power_cut())
    assert (found.id, found.fates) == (both.id, [Fate.FAILED, Fate.WAITING])


async def test_adopted_files_are_looked_through_as_well(erasing: Rig) -> None:
    other = await erasing.files.open()
    item = message(other, due=4e9)
    item.meta["rcpt"] = [[ANN, ["FAILURE"], ""]]
    await other.commit(item)
    erasing.erase(ANN)
    assert await erasing.look() == [0], "another process has it"
    await erasing.files.stop(other)
    await erasing.end()
    assert erasing.said == [(item.id, "dropped")]


def test_the_last_id_of_a_moment() -> None:
    for moment in (1_790_000_000.0, 1_790_000_000.25):
        assert time_of(last_id(moment)) == moment and time_of(last_id(moment) + 1) > moment
