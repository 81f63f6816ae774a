"""What a worker saw on its way to the owner: one call at a time, added up, kept while nobody answers (CC-20)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from relay.observe import metrics
from relay.policy.ruling import TraceEntry
from relay.policy.verdict import Action, Note
from relay.serve import exposures
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.exposures import Exposures
from relay.settings.model import Settings
from relay.spool.item import Item
from tests.fakes.clock import FakeClock

NOTE = Note("incident", "recipients.exposed", 40)


def item(number: int = 1, *, credential: str = "office", purpose: str = "") -> Item:
    meta = {
        "tenant_id": 1, "tenant": "shop", "credential": credential, "stream": "personal", "class": "personal",
        "purpose": purpose, "rcpt": [["ann@example.net", [], ""]], "edits": [], "at": 0.0,
    }  # fmt: skip
    return Item(number, meta, None, due=0.0)


class Owner:
    """Answers when it is let; `failures` are raised first."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self.failures = list(failures)
        self.may_answer = asyncio.Event()
        self.was_called = asyncio.Event()

    async def call(self, op: str, args: dict[str, Any]) -> Any:
        assert op == "incident.seen" and args["tenant_minutes"] == 24 * 60
        self.calls.append(args["rows"])
        self.was_called.set()
        await self.may_answer.wait()
        if self.failures:
            raise self.failures.pop(0)
        return []


class Bench:
    """Exposures over an owner in the hand."""

    def __init__(self, *failures: Exception) -> None:
        self.owner = Owner(*failures)
        self.tasks: list[asyncio.Task[Any]] = []
        self.clock = FakeClock(1_000_000.0)
        self.made = Exposures(Settings(), self.owner.call, self.clock, self._later)

    def _later(self, work: Any) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def see(self, number: int, **changes: Any) -> None:
        self.made.exposed(item(number, **changes), NOTE, Mail())  # type: ignore[arg-type]  # only its message is read

    async def done(self) -> None:
        self.owner.may_answer.set()
        await asyncio.gather(*self.tasks)


class Mail:
    message = None


def played(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 20))  # type: ignore[arg-type]  # a coroutine


def test_what_comes_while_the_owner_works_is_one_row_of_the_next_call() -> None:
    async def play() -> None:
        bench = Bench()
        bench.see(1)
        await bench.owner.was_called.wait()
        for number in range(2, 1_002):
            bench.see(number)
        bench.see(2_000, credential="other")
        await bench.done()
        first, second = bench.owner.calls
        assert [row["times"] for row in first] == [1]
        assert [(row["credential"], row["times"]) for row in second] == [("office", 1_000), ("other", 1)]
        assert len(second[0]["messages"]) == 100 and second[0]["shown"] == 40

    played(play)


def test_while_the_owner_is_away_it_is_kept_and_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "AGAIN_SECONDS", 0.01)

    async def play() -> None:
        bench = Bench(OpUnavailable("owner"), OpRefused("unavailable", "the database cannot be read"))
        bench.see(1)
        await bench.owner.was_called.wait()
        bench.clock.advance(60)
        bench.see(2)
        await bench.done()
        (last,) = bench.owner.calls[-1]
        assert len(bench.owner.calls) == 3 and last["times"] == 2
        assert (last["first_at"], last["last_at"]) == (1_000_000.0, 1_000_060.0), "the clock counts from the first"

    played(play)


def test_what_is_refused_or_late_for_the_end_is_counted_as_lost() -> None:
    async def play() -> None:
        before = lost()
        bench = Bench(OpRefused("args.type", "no"))
        bench.see(1)
        await bench.done()
        assert lost() == before + 1
        ending = Bench(OpUnavailable("owner"))
        ending.see(1)
        ending.made.close()
        await ending.done()
        assert lost() == before + 2 and len(ending.owner.calls) == 1

    played(play)


def lost() -> float:
    return sum(value for labels, value in metrics.RECORDS_LOST.dump() if list(labels) == ["incident"])


def test_very_many_people_go_in_parts() -> None:
    async def play() -> None:
        bench = Bench()
        bench.see(1)
        await bench.owner.was_called.wait()
        row = exposures.row_of(item(2), "exposure", NOTE.reason, 1.0)
        bench.made._add(row, [f"p{number}@example.net" for number in range(1_200)])
        bench.made._add({**row, "credential": "other"}, [f"q{number}@example.net" for number in range(400)])
        await bench.done()
        told = [[(row["credential"], row["times"], len(row["people"])) for row in rows] for rows in bench.owner.calls]
        assert told == [
            [("office", 1, 0)],
            [("office", 1, 500)],
            [("office", 0, 500)],
            [("office", 0, 200), ("other", 1, 300)],
            [("other", 0, 100)],
        ], "nobody who leaves waits long behind one of them"

    played(play)


@pytest.mark.parametrize(
    ("action", "reason", "times"),
    [
        (Action.HOLD, "leaks.bsn_seen", 1),
        (Action.REJECT, "leaks.card", 1),
        (Action.DEFER, "leaks.unavailable", 0),
        (Action.HOLD, "leaks.unchecked", 0),
        (Action.DEFER, "leaks.crashed", 0),
    ],
)
def test_only_what_was_found_is_a_leak(action: Action, reason: str, times: int) -> None:
    """A scan that was not ready started the clock of 72 hours."""
    entry = TraceEntry("leaks", "observe", action, reason)

    async def play() -> None:
        bench = Bench()
        bench.made.leaked(item(), Ruled((entry,)))  # type: ignore[arg-type]  # only its trace is read
        await bench.done()
        assert len(bench.owner.calls) == times

    played(play)


class Ruled(NamedTuple):
    trace: tuple[TraceEntry, ...]
