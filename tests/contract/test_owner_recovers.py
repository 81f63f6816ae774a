"""What the owner is after a commit or a connection failed: as good as before, and nobody is left with an older keyring."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.consent import token as tokens
from relay.consent.lookup import Lookup
from relay.keyring import Keyring, Kind
from relay.owner import OwnerError
from relay.owner.keys import IN_FORCE_AFTER_SECONDS, ROTATED
from relay.store import StoreUnavailable
from relay.store.generation import Generation
from tests.contract.conftest import World
from tests.harness.limits import no_descriptors, no_file_over

BEFORE, AFTER, LATER = "ann@example.net", "bob@example.net", "eve@example.net"


@pytest.fixture
def elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookup]:
    """The reader of another process: it has a keyring of its own and knows what the generation tells."""
    monkeypatch.setattr("relay.consent.lookup.LOOK_SECONDS", 0.0)  # the second until a new key is used passes at once
    generation = Generation.open(world.settings.server.data_dir)
    keyring = Keyring.open(world.keyring.keys_dir, create=False)
    with Lookup(world.settings.storage.database, keyring, now=lambda: world.now, generation=generation) as made:
        yield made
    generation.close()


def rotate_on_a_full_disk(world: World, kind: Kind) -> None:
    """The new key is in its small file; the commit that tells of it fails."""
    log = world.settings.server.data_dir / "zegel.db-wal"
    with no_file_over(log.stat().st_size), pytest.raises(StoreUnavailable):
        world.call("keys.rotate", kind=kind.value)


def numbers(world: World, kind: Kind) -> list[int]:
    return [row["number"] for row in world.call("keys.list") if row["kind"] == kind]


def test_who_left_under_a_key_whose_commit_failed_is_found_by_every_reader(world: World, elsewhere: Lookup) -> None:
    """The owner writes with the new key all the same; a reader without it would mail those who left (UNSUB-20)."""
    world.call("suppression.add", tenant="shop", address=BEFORE)
    assert elsewhere.suppressions(1, [BEFORE])[BEFORE]
    rotate_on_a_full_disk(world, Kind.HASH)
    world.now += 2 * IN_FORCE_AFTER_SECONDS
    world.call("suppression.add", tenant="shop", address=AFTER)
    found = elsewhere.suppressions(1, [BEFORE, AFTER, LATER])
    assert [bool(found[address]) for address in (BEFORE, AFTER, LATER)] == [True, True, False]


@pytest.mark.parametrize("kind", ROTATED)
def test_after_a_failed_rotation_the_next_works_and_older_keys_stay(world: World, kind: Kind) -> None:
    world.call("suppression.add", tenant="shop", address=BEFORE)
    link = tokens.make(world.keyring, tokens.TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=b"s" * 16)
    rotate_on_a_full_disk(world, kind)
    assert numbers(world, kind) == [1, 2]
    assert world.call("keys.rotate", kind=kind.value)["older"] == [1, 2]
    world.now += 2 * IN_FORCE_AFTER_SECONDS
    world.call("suppression.add", tenant="shop", address=AFTER)
    reopened = Keyring.open(world.keyring.keys_dir, create=False)
    assert numbers(world, kind) == [1, 2, 3]
    for keyring in (world.keyring, reopened):
        with Lookup(world.settings.storage.database, keyring, now=lambda: world.now) as lookup:
            assert all(lookup.suppressions(1, [BEFORE, AFTER]).values())
        assert tokens.read(keyring, link) is not None


@pytest.fixture
def unconnected(world: World) -> World:
    """Its database was found whole, and then there was no descriptor left to open it with."""
    mark = world.owner.examine()
    world.owner.set_aside(damaged=True)
    with no_descriptors(), pytest.raises(Exception, match="unable to open"):
        world.owner.take_back(mark)
    assert not world.owner.is_readable
    return world


def test_an_owner_that_could_not_connect_connects_with_its_next_change(unconnected: World) -> None:
    with no_descriptors(), pytest.raises(StoreUnavailable):
        unconnected.call("suppression.add", tenant="shop", address=BEFORE)
    unconnected.call("suppression.add", tenant="shop", address=BEFORE)
    assert unconnected.bars(BEFORE)


def test_an_owner_that_could_not_connect_connects_with_its_next_look(unconnected: World) -> None:
    with no_descriptors(), pytest.raises(StoreUnavailable):
        unconnected.owner.check(write=True)
    unconnected.owner.check(write=True)
    unconnected.owner.take_back()
    assert unconnected.owner.is_readable


def test_an_owner_that_could_not_connect_connects_to_ask_what_dns_is_to_be_asked(unconnected: World) -> None:
    """Before an operation that hangs on DNS is one of many that share a commit, it is looked at by itself."""
    asked = ("dkim.check", {"domain": "shop.example"})
    with no_descriptors(), pytest.raises(StoreUnavailable):
        unconnected.owner.questions(*asked)
    with pytest.raises(OwnerError, match="no such key"):
        unconnected.owner.questions(*asked)


@pytest.mark.parametrize("lost", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids=" and ".join)
def test_a_log_that_was_deleted_under_the_owner_costs_nobody_an_objection(world: World, lost: list[str]) -> None:
    """Commits to a file without a name are gone with the process, and who connects anew reads beside them (UNSUB-20)."""
    database = world.settings.storage.database.removeprefix("sqlite:///")
    world.call("suppression.add", tenant="shop", address=BEFORE)
    for suffix in lost:
        Path(database + suffix).unlink()
    with pytest.raises(StoreUnavailable, match="put right"):
        world.call("suppression.add", tenant="shop", address=AFTER)
    assert world.owner.set_aside(damaged=False), "nobody reads beside it meanwhile"
    begin_anew(world)
    assert not world.owner.keep_log(), "once"
    world.call("suppression.add", tenant="shop", address=AFTER)
    assert left(world, database) == [True, True, False]

    # What is on the disk is all that the next process has, if this one is killed now.
    killed = Path(database).with_name("killed.db")
    for suffix in ("", "-wal"):
        shutil.copyfile(database + suffix, str(killed) + suffix)
    assert left(world, str(killed)) == [True, True, False]


def begin_anew(world: World) -> None:
    assert world.owner.keep_log()
    world.owner.check(write=True)
    world.owner.take_back()


def left(world: World, database: str) -> list[bool]:
    """What a process that begins now knows of the three."""
    with Lookup(f"sqlite:///{database}", world.keyring, now=lambda: world.now) as anew:
        return [bool(found) for found in anew.suppressions(1, [BEFORE, AFTER, LATER]).values()]


def test_who_still_reads_beside_a_deleted_log_is_waited_for(world: World, elsewhere: Lookup) -> None:
    """SQLite gives all connections of one process the same index: a new log needs the last of them to be gone."""
    database = world.settings.storage.database.removeprefix("sqlite:///")
    world.call("suppression.add", tenant="shop", address=BEFORE)
    assert elsewhere.suppressions(1, [BEFORE])[BEFORE]
    Path(database + "-shm").unlink()
    with pytest.raises(StoreUnavailable, match="put right"):
        world.owner.keep_log()
    elsewhere.close()
    begin_anew(world)
    world.call("suppression.add", tenant="shop", address=AFTER)
    assert left(world, database) == [True, True, False]


def test_who_was_there_before_a_new_log_reads_no_more(world: World, elsewhere: Lookup) -> None:
    """Another process may never be without a connection, and would read the old index for ever; it is replaced."""
    database = world.settings.storage.database.removeprefix("sqlite:///")
    Path(database + "-wal").unlink()
    begin_anew(world)
    with pytest.raises(sqlite3.OperationalError):
        elsewhere.suppressions(1, [BEFORE])
    assert world.owner.is_readable
    generation = Generation.open(world.settings.server.data_dir)
    assert generation.is_readable
    generation.close()


def test_a_log_of_somebody_else_is_put_aside_and_not_read(world: World) -> None:
    """One of yesterday, that somebody put back beside the database of today, would undo what was taken since."""
    database = world.settings.storage.database.removeprefix("sqlite:///")
    world.call("suppression.add", tenant="shop", address=BEFORE)
    for suffix in ("-wal", "-shm"):
        shutil.copyfile(database + suffix, database + suffix + ".old")
    world.call("suppression.add", tenant="shop", address=AFTER)
    for suffix in ("-wal", "-shm"):
        Path(database + suffix + ".old").rename(database + suffix)
    with pytest.raises(StoreUnavailable, match="put right"):
        world.call("suppression.add", tenant="shop", address=LATER)
    begin_anew(world)
    assert left(world, database) == [True, True, False]
    assert Path(database + "-wal.not-ours").stat().st_size
