"""A damaged database stays barred until it has been found whole, and who looks at it goes on looking (PIPE-3).

A real file with one rotten page under a real owner. A disk that is away is a file that was moved; a moment without
descriptors is a process that has none left.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.keyring import Keyring
from relay.observe import events
from relay.owner import Owner
from relay.serve.channel import OpUnavailable
from relay.serve.ownership import DAMAGED, WRITE_FAILED, Ownership
from relay.settings.model import Settings
from relay.store import StoreUnavailable
from relay.store.connection import check_whole
from tests.harness.gateway import _Places
from tests.harness.limits import no_descriptors

WITHIN_SECONDS = 20.0  # for what must happen by itself; a healthy run needs a hundredth
LEAVES = ("suppression.add", {"tenant": "shop", "address": "ann@dest.example"})


class Shop:
    """An owner of a folder with one tenant, shop; one page of its database went bad while nobody looked."""

    def __init__(self, folder: Path) -> None:
        places = {"hostname": "gw.test", "data_dir": str(folder / "data"), "keys_dir": str(folder / "keys")}
        settings = Settings.model_validate({"server": places})
        with Owner.open(_Places(settings), Keyring.open(settings.server.keys_dir, create=True)) as owner:
            owner.call("tenant.add", {"name": "shop"})
        self.database = settings.database_path
        self.whole = self.database.read_bytes()
        self.rot()
        self.ownership = Ownership(settings)
        self.ownership.take()

    def rot(self) -> None:
        """The page that every suppression is under."""
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            (size,) = db.execute("PRAGMA page_size").fetchone()
            (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name='suppression'").fetchone()
        with self.database.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)

    def put_back(self) -> None:
        self.database.write_bytes(self.whole)

    async def leave(self) -> bool:
        """Whether somebody can leave."""
        try:
            await self.ownership.call(*LEAVES)
        except OpUnavailable:
            return False
        return True

    async def reads(self) -> bool:
        """Whether what is in the database is told."""
        try:
            await self.ownership.call("tenant.list", {})
        except OpUnavailable:
            return False
        return True

    async def looked(self) -> list[str]:
        """What is wrong after another look."""
        await self.ownership._look()
        return await self.ownership.problems()


@pytest.fixture
async def shop(tmp_path: Path) -> Any:
    made = Shop(tmp_path)
    assert not await made.leave()
    assert await made.ownership.problems() == [DAMAGED]
    yield made
    made.ownership.release()


@pytest.fixture
def examinations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each examination so far ended: with a word of its own or with the name of an error."""
    ended: list[str] = []
    real = Owner.examine

    def examine(owner: Owner) -> bytes:
        try:
            mark = real(owner)
        except BaseException as error:
            ended.append("damaged" if getattr(error, "damaged", False) else "not to be had")
            raise
        ended.append("whole")
        return mark

    monkeypatch.setattr(Owner, "examine", examine)
    return ended


async def test_a_damaged_database_is_not_trusted_because_its_disk_was_away(shop: Shop) -> None:
    """A write that fails in another way meanwhile says nothing of the damage; the next that succeeds neither."""
    aside = shop.database.with_name("aside.db")
    shop.database.rename(aside)
    assert not await shop.leave()
    assert await shop.ownership.problems() == [DAMAGED] != [WRITE_FAILED]
    aside.rename(shop.database)
    assert await shop.looked() == [DAMAGED]
    assert not await shop.reads()
    shop.put_back()
    assert await shop.looked() == []
    assert await shop.reads() and await shop.leave()


async def test_what_was_found_damaged_is_examined_again_only_when_it_has_changed(
    shop: Shop, examinations: list[str]
) -> None:
    """To walk a large file takes minutes."""
    for _ in range(3):
        assert await shop.looked() == [DAMAGED]
    assert examinations == ["damaged"]
    shop.database.touch()
    assert await shop.looked() == [DAMAGED]
    assert examinations == ["damaged"] * 2
    shop.put_back()
    assert await shop.looked() == []
    assert examinations == ["damaged", "damaged", "whole"]


async def test_a_database_is_judged_again_after_an_error_of_the_moment(shop: Shop, examinations: list[str]) -> None:
    shop.put_back()
    with no_descriptors():
        assert await shop.looked() == [DAMAGED]
    assert examinations == ["not to be had"]
    assert await shop.looked() == []
    assert await shop.reads() and await shop.leave()


async def test_who_looks_goes_on_looking_after_a_bug(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    real, recovered, stopping = Owner.examine, asyncio.Event(), asyncio.Event()
    bugs = [RuntimeError("a bug")]

    def examine(owner: Owner) -> bytes:
        if bugs:
            raise bugs.pop()
        return real(owner)

    def hear(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        if event["event"] == events.STORE_RECOVERED:
            recovered.set()
        return ""

    monkeypatch.setattr(Owner, "examine", examine)
    monkeypatch.setattr("relay.serve.ownership.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("relay.serve.ownership.log", structlog.wrap_logger(structlog.PrintLogger(), processors=[hear]))
    shop.put_back()
    async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(shop.ownership.watch(stopping))
        await recovered.wait()
        stopping.set()
    assert not bugs
    assert await shop.ownership.problems() == [] and await shop.leave()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "zegel.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(x)")
    yield path


def test_only_the_file_itself_is_called_damaged(database: Path) -> None:
    check_whole(database)
    with no_descriptors(), pytest.raises(StoreUnavailable) as unopened:
        check_whole(database)
    database.write_bytes(b"\xff" * database.stat().st_size)
    with pytest.raises(StoreUnavailable) as overwritten:
        check_whole(database)
    assert [told.value.damaged for told in (unopened, overwritten)] == [False, True]
