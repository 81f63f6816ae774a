"""Erasures followed through by the supervisor: each ends for itself, and a start is no failure (GDPR-8)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.consent.erased import FILE, Erased
from relay.keyring import Keyring
from relay.observe import metrics
from relay.serve import erasures
from relay.serve.erasures import Erasures
from relay.settings.model import Settings
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rig:
    """A supervisor's erasures. `rows` are open; the workers answer `left`."""

    def __init__(self, folder: Path) -> None:
        self.keyring = Keyring.open(folder / "keys", create=True)
        self.clock = FakeClock()
        self.rows: list[dict[str, Any]] = []
        self.left: dict[str, int] = {}
        settings = cast(Settings, SimpleNamespace(server=SimpleNamespace(data_dir=folder)))
        self.erasures = Erasures(settings, self.op, self.ask, lambda: self.keyring, workers=2, clock=self.clock)

    def open(self, number: int, address: str, tenant: int = 1) -> None:
        one = Erased.of(self.keyring, (tenant, f"shop{tenant}"), self.clock.now(), [address])
        self.rows.append({"id": number, **one._asdict()})

    async def op(self, name: str, args: dict[str, Any]) -> Any:
        if name == "erasure.due":
            return list(self.rows)
        assert name == "erasure.done"
        self.rows = [row for row in self.rows if row["id"] != args["id"]]
        return None

    async def ask(self, name: str, args: dict[str, Any]) -> Any:
        assert name == "queue.forget" and [row["id"] for row in args["people"]] == [row["id"] for row in self.rows]
        return self.left

    async def look(self) -> list[int]:
        """Once, some seconds later; which are open then."""
        self.clock.advance(2.0)
        await self.erasures.look()
        return [row["id"] for row in self.rows]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_one_who_is_still_met_keeps_nobody_else_open(rig: Rig) -> None:
    rig.open(1, "ann@example.net")
    rig.open(2, "bob@example.net", tenant=2)
    rig.left = {"workers": 2, "1": 3, "2": 0}
    assert await rig.look() == [1, 2]
    assert await rig.look() == [1, 2]
    assert await rig.look() == [1], "two looks in a row after all was settled"
    rig.left = {"workers": 2, "1": 0}
    assert await rig.look() == [1] and await rig.look() == []


def crashes() -> object:
    return dict(metrics.CRASHES.values)


async def test_workers_that_are_not_up_yet_are_waited_for(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "LOOK_SECONDS", 0.0)
    rig.open(1, "ann@example.net")
    stopping, before = asyncio.Event(), crashes()
    looks = iter([{}, {"workers": 1, "1": 0}, {"workers": 1, "1": 0}, {"workers": 1, "1": 0}])

    async def ask(name: str, args: dict[str, Any]) -> Any:
        rig.clock.advance(5.0)
        answer = next(looks, None)
        if answer is None:
            stopping.set()
        return answer or {"workers": 2, "1": 0}

    rig.erasures._ask = ask
    await rig.erasures.watch(stopping)
    assert rig.rows, "one worker of two says nothing of what the other has"
    assert crashes() == before
    assert (tmp_path / FILE).read_text().count("\n") == 1, "it is on the list before anybody is up"
    assert await rig.look() == []
