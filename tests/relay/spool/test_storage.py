"""A full, read-only or failing disk: senders hear 4xx, nothing is lost, and it goes on by itself when the disk does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.spool.contract import SpoolUnavailable
from relay.spool.files import QueueFiles
from relay.spool.item import Item
from relay.spool.segment import LARGE_BYTES, Segment
from tests.fakes.queues import Files, is_root, message

pytestmark = pytest.mark.anyio

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB of its own."""
    if not is_root():
        pytest.skip("a small disk needs the superuser to mount it")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def no_file_grows() -> Iterator[None]:
    """The kernel refuses every write past 0 octets, as a full disk does, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """No file can be made in it or removed; those in it can be written."""
    if is_root():
        if subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
            pytest.skip("this file system knows no immutable folders, and the superuser heeds no permissions")
        try:
            yield
        finally:
            subprocess.run(["chattr", "-i", str(folder)], check=True)
    else:
        folder.chmod(0o500)
        try:
            yield
        finally:
            folder.chmod(0o700)


async def commit_all(queue: QueueFiles, items: list[Item]) -> list[Item]:
    """Those that were accepted; the others failed as they should."""
    results = await asyncio.gather(*map(queue.commit, items), return_exceptions=True)
    assert all(result is None or isinstance(result, SpoolUnavailable) for result in results), results
    return [item for item, result in zip(items, results, strict=True) if result is None]


async def recover(rig: Files, queue: QueueFiles) -> None:
    """The upkeep of a few seconds."""
    await rig.pass_time(queue, 5, step=0.25)


async def test_a_failing_disk_is_said_and_probed(rig: Files) -> None:
    queue = await rig.open()
    kept = await commit_all(queue, [message(queue) for _ in range(5)])
    with no_file_grows():
        assert await commit_all(queue, [message(queue) for _ in range(5)]) == []
        assert queue.pressure() == "queue.unavailable"
        await recover(rig, queue)
        assert queue.pressure(), "the probe failed as well"
        assert len(list(rig.folder.glob("*.queue"))) == 1, "and left nothing behind"
    await recover(rig, queue)
    assert queue.pressure() is None
    kept += await commit_all(queue, [message(queue) for _ in range(5)])
    assert len(kept) == 10
    for which in (queue, await rig.after_power_cut()):
        assert {item.id for item in await rig.drain(which, 10)} == {item.id for item in kept}


@pytest.mark.parametrize("size", [100, LARGE_BYTES + 1])
async def test_a_start_on_a_full_disk(rig: Files, size: int) -> None:
    """No queue file can be made: what lies there goes out, new mail waits, and it recovers by itself."""
    before = await rig.open()
    kept = await commit_all(before, [message(before) for _ in range(5)])
    folder = rig.folder
    rig.folder = folder.with_name("cut")
    shutil.copytree(folder, rig.folder)
    rig.clock.advance(1)
    with unwritable(rig.folder):
        queue = await rig.open()
        assert queue.pressure() == "queue.unavailable"
        assert await commit_all(queue, [message(queue, b"x" * size) for _ in range(3)]) == []
        taken = await rig.drain(queue, 5)
        assert {item.id for item in taken} == {item.id for item in kept}
        await recover(rig, queue)
        assert queue.pressure(), "the probe failed as well"
    await recover(rig, queue)
    assert queue.pressure() is None
    new = await commit_all(queue, [message(queue, b"x" * size) for _ in range(3)])
    assert {item.id for item in await rig.drain(queue, 3)} == {item.id for item in new}
    await rig.stop(queue)


async def test_a_new_queue_file_never_takes_the_place_of_another(rig: Files) -> None:
    """As a clock that went back would have it."""
    path = rig.folder / "other.queue"
    path.parent.mkdir()
    path.write_bytes(b"somebody's mail")
    with pytest.raises(FileExistsError):
        Segment.create(path, 7)
    assert path.read_bytes() == b"somebody's mail"


async def test_a_start_on_a_full_disk_that_stays_full_ends_well(rig: Files) -> None:
    before = await rig.open()
    await rig.stop(before)
    with unwritable(rig.folder):
        queue = await rig.open()
        await rig.stop(queue)
        assert queue.pressure() == "queue.unavailable"


async def test_without_new_mail_it_recovers_too(rig: Files) -> None:
    queue = await rig.open()
    with no_file_grows():
        await commit_all(queue, [message(queue)])
    await recover(rig, queue)
    assert queue.pressure() is None and queue.take() is None


async def test_outcomes_wait_for_the_disk_and_are_not_forgotten(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue))
    item = await rig.take(queue)
    with no_file_grows():
        with pytest.raises(SpoolUnavailable):
            await rig.finish(queue, item)
        assert list(queue.in_flight) == [item.id], "nobody else may try it"
    await rig.finish(queue, item)
    assert (await rig.after_power_cut()).take() is None


@pytest.mark.parametrize("size", [20_000, 3 * LARGE_BYTES])
async def test_a_full_disk(rig: Files, small_disk: Path, size: int) -> None:
    rig.folder = small_disk / "queue"
    queue = await rig.open()
    kept: list[Item] = []
    for _ in range(40):
        kept += await commit_all(queue, [message(queue, os.urandom(size // 2).hex().encode()) for _ in range(10)])
    assert 5 < len(kept) < 400 and queue.pressure()
    again_taken = [await rig.take(queue) for _ in range(len(kept))]
    assert {item.id for item in again_taken} == {item.id for item in kept}
    ballast_gone(small_disk)
    for item in again_taken[: len(kept) // 2]:
        await rig.finish(queue, item)
    await rig.pass_time(queue, 30)
    assert len(await commit_all(queue, [message(queue)])) == 1
    left = {item.id for item in again_taken[len(kept) // 2 :]}
    rig.folder = small_disk / "queue"
    copy = await rig_copy(rig, small_disk)
    assert {item.id for item in [await rig.take(copy) for _ in range(len(left) + 1)]} > left


def ballast_gone(disk: Path) -> None:
    """Somebody makes room."""
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


async def rig_copy(rig: Files, disk: Path) -> QueueFiles:
    subprocess.run(["cp", "-r", str(disk / "queue"), str(disk / "copy")], check=True)
    return await rig.open(disk / "copy")


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A file system that the kernel makes read-only when it finds an error in it, as most servers have."""
    if not is_root() or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs the superuser and mkfs.ext4")
    image, place = tmp_path / "image", tmp_path / "ext4"
    image.write_bytes(b"")
    os.truncate(image, 32 * MEGABYTE)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount = ["mount", "-o", "loop,errors=remount-ro", str(image), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no loop device can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def find_an_error(place: Path) -> None:
    device = subprocess.run(["findmnt", "-no", "SOURCE", str(place)], capture_output=True, text=True, check=True).stdout
    trigger = Path("/sys/fs/ext4") / Path(device.strip()).name / "trigger_fs_error"
    if not trigger.exists():
        pytest.skip("this kernel does not let a test break a file system")
    trigger.write_text("1")


def repair(place: Path) -> None:
    """What an operator does: unmount, check, mount."""
    image = place.with_name("image")
    subprocess.run(["umount", "-l", str(place)], check=True)
    checked = subprocess.run(["e2fsck", "-fy", str(image)], capture_output=True, check=False)
    assert checked.returncode < 4, checked.stdout
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)


async def test_a_disk_that_becomes_read_only(rig: Files, ext4: Path) -> None:
    rig.folder = ext4 / "queue"
    queue = await rig.open()
    kept = await commit_all(queue, [message(queue) for _ in range(5)])
    find_an_error(ext4)
    assert await commit_all(queue, [message(queue) for _ in range(3)]) == []
    await recover(rig, queue)
    assert queue.pressure(), "a probe took a read-only disk for a good one"
    with pytest.raises(SpoolUnavailable):
        await rig.finish(queue, await rig.take(queue))
    await rig.stop(queue)
    repair(ext4)
    after = await rig.open()
    assert {item.id for item in await rig.drain(after, 5)} == {item.id for item in kept}
    await rig.stop(after)


async def test_a_folder_that_may_not_be_written(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current file takes mail on; a new one cannot be made, which must fail nothing that is durable."""
    monkeypatch.setattr("relay.spool.files.SEGMENT_BYTES", 10_000)
    queue = await rig.open()
    with unwritable(rig.folder):
        kept = await commit_all(queue, [message(queue, b"x" * 3000) for _ in range(20)])
        kept += await commit_all(queue, [message(queue, b"x" * 3000) for _ in range(20)])
    await recover(rig, queue)
    kept += await commit_all(queue, [message(queue)])
    ids = [item.id for item in await rig.drain(queue, len(kept))]
    assert sorted(ids) == sorted(item.id for item in kept) and len(kept) == 41


async def test_a_segment_that_cannot_be_made_fails_nothing(rig: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was appended is durable: to say otherwise would send it twice."""
    monkeypatch.setattr("relay.spool.files.SEGMENT_BYTES", 1)
    queue = await rig.open()

    def refuse(path: Path, number: int) -> Segment:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "create", refuse)
        assert len(await commit_all(queue, [message(queue) for _ in range(10)])) == 10
    assert len(await commit_all(queue, [message(queue) for _ in range(10)])) == 10
    assert len(await rig.drain(queue, 20)) == 20


async def test_a_bug_in_the_writer_fails_the_batch_and_not_the_thread(
    rig: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await rig.open()
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "append", lambda segment, rows: 1 / 0)
        assert await commit_all(queue, [message(queue) for _ in range(3)]) == []
    assert len(await commit_all(queue, [message(queue) for _ in range(3)])) == 3


async def test_a_failing_old_file_does_not_stop_new_mail(rig: Files) -> None:
    queue = await rig.open()
    await queue.commit(message(queue))
    item = await rig.take(queue)
    old = queue.shelf.current
    await rig.pass_time(queue, 1)
    queue.shelf.current = await asyncio.to_thread(queue.shelf.create)

    def broken(rows: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    old.append = broken  # type: ignore[method-assign]
    with pytest.raises(SpoolUnavailable):
        await rig.finish(queue, item)
    assert queue.pressure() is None
    assert len(await commit_all(queue, [message(queue)])) == 1
    del old.append


async def test_low_space_stops_new_mail_only(rig: Files) -> None:
    rig.min_free_bytes = 1 << 60
    queue = await rig.open()
    assert queue.pressure() == "queue.full"
    await queue.commit(message(queue))
    await rig.finish(queue, *await rig.drain(queue, 1))
    queue.storage._min_free = 1
    queue.tick()
    assert queue.pressure() is None


async def test_a_large_body_that_cannot_be_written_leaves_nothing(rig: Files) -> None:
    queue = await rig.open()
    with no_file_grows():
        assert await commit_all(queue, [message(queue, b"x" * MEGABYTE)]) == []
    await recover(rig, queue)
    await rig.pass_time(queue, 60)
    assert not list(rig.folder.glob("*.bodies/*")) and queue.shelf.current.live == 0
    assert len(await commit_all(queue, [message(queue, b"x" * MEGABYTE)])) == 1
