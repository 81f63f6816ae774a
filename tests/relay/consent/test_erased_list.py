"""The list of who was erased: whole lines only, whatever happens to the disk while one is written."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.consent.erased import FILE, Erased, read_list, write_down
from relay.keyring import Keyring


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "keys", create=True)


def erased(keyring: Keyring, address: str) -> Erased:
    return Erased.of(keyring, (1, "shop"), 1.0, [address])


@contextmanager
def room_for(octets: int) -> Iterator[None]:
    """No file grows beyond so many octets: the write that would is cut short, and the next fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_told_and_leaves_the_list_as_it_was(tmp_path: Path, keyring: Keyring) -> None:
    ann, bob, cat = (erased(keyring, f"{name}@dest.example") for name in ("ann", "bob", "cat"))
    write_down(tmp_path, [ann])
    before = (tmp_path / FILE).read_bytes()
    with room_for(len(before) + 100), pytest.raises(OSError, match="too large"):
        write_down(tmp_path, [bob])
    assert (tmp_path / FILE).read_bytes() == before
    write_down(tmp_path, [bob, cat])
    assert list(read_list(tmp_path / FILE)) == [ann, bob, cat]


@pytest.mark.parametrize("lines_before", [0, 1, 300])
@pytest.mark.parametrize("left", [1, 100])
def test_what_a_cut_left_of_a_line_is_gone_with_the_next(
    tmp_path: Path, keyring: Keyring, lines_before: int, left: int
) -> None:
    ann, bob = erased(keyring, "ann@dest.example"), erased(keyring, "bob@dest.example")
    write_down(tmp_path, [ann] * (lines_before + 1))
    whole = (tmp_path / FILE).read_bytes()
    line = len(whole) // (lines_before + 1)
    (tmp_path / FILE).write_bytes(whole[: lines_before * line + left])
    assert list(read_list(tmp_path / FILE)) == [ann] * lines_before
    write_down(tmp_path, [bob])
    assert list(read_list(tmp_path / FILE)) == [ann] * lines_before + [bob]


def test_zeros_that_a_cut_left_are_gone_with_the_next(tmp_path: Path, keyring: Keyring) -> None:
    """Of several lines that were written at once the first block may be lost, and not the second."""
    ann, bob = erased(keyring, "ann@dest.example"), erased(keyring, "bob@dest.example")
    write_down(tmp_path, [ann])
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + bytes(100) + b"and the rest}\n" + whole)
    with pytest.raises(ValueError, match="line 2"):
        list(read_list(tmp_path / FILE))
    write_down(tmp_path, [bob])
    assert list(read_list(tmp_path / FILE)) == [ann, bob]


def test_who_is_among_the_last_is_not_added_again(tmp_path: Path, keyring: Keyring) -> None:
    """The owner writes an erasure down before it answers, and who follows it through cannot know whether it did."""
    ann, bob = erased(keyring, "ann@dest.example"), erased(keyring, "bob@dest.example")
    write_down(tmp_path, [ann, bob])
    write_down(tmp_path, [ann])
    assert list(read_list(tmp_path / FILE)) == [ann, bob]
