"""Backups whose time is over go; of what is not surely one of ours, nothing does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from relay.backup import sealed
from relay.backup.due import delete_due
from relay.backup.sealed import MAGIC, SealedWriter

PASSPHRASE = "correct horse battery"
TODAY = "2026-03-08"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "LOG2_N", 10)


def make(path: Path, until: str, passphrase: str = PASSPHRASE) -> Path:
    with path.open("wb") as file:
        writer = SealedWriter(file, passphrase, said={"delete_after": until} if until else {})
        writer.write(b"everything")
        writer.finish()
    return path


def test_those_that_are_past_their_day_go(tmp_path: Path) -> None:
    old = [make(tmp_path / name, until) for name, until in (("a.zegel", "2026-03-07"), ("b", "2025-12-31"))]
    kept = [make(tmp_path / name, until) for name, until in (("c.zegel", TODAY), ("d.zegel", "2026-04-01"), ("e", ""))]
    other = tmp_path / "notes.txt"
    other.write_text('zegel\n{"delete_after": "2025-01-01"}\n')
    (tmp_path / "folder").mkdir()
    found = delete_due(tmp_path, PASSPHRASE, TODAY)
    assert (found.deleted, found.left) == (old, [])
    assert sorted(tmp_path.iterdir()) == sorted([*kept, other, tmp_path / "folder"])


def test_what_the_passphrase_does_not_open_is_named_and_left(tmp_path: Path) -> None:
    foreign = make(tmp_path / "foreign", "2026-01-01", "another one altogether")
    forged = make(tmp_path / "forged", "2026-04-01")
    forged.write_bytes(forged.read_bytes().replace(b"2026-04-01", b"2026-01-01", 1))
    cut = make(tmp_path / "cut", "2026-01-01")
    os.truncate(cut, 120)
    found = delete_due(tmp_path, PASSPHRASE, TODAY)
    assert found.deleted == [] and sorted(found.left) == sorted([foreign, forged])
    assert cut.exists() and forged.exists()


def test_a_link_to_a_backup_elsewhere_is_not_followed(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
    old = make(there / "old", "2026-01-01")
    (here / "link").symlink_to(old)
    (here / "nowhere").symlink_to(there / "missing")
    assert delete_due(here, PASSPHRASE, TODAY) == ([], [], [])
    assert old.exists() and (here / "link").is_symlink()


@pytest.mark.parametrize("log2_n", ["Infinity", "1e1", '"10"', "18", "true", "-1", "null"])
def test_a_planted_head_keeps_none_of_the_others(tmp_path: Path, log2_n: str) -> None:
    planted = tmp_path / "a.zegel"
    header = f'{{"delete_after": "2026-01-01", "kdf": "scrypt", "log2_n": {log2_n}, "r": 8, "p": 1, "salt": "00"}}\n'
    head = MAGIC + header.encode()
    planted.write_bytes(head + hashlib.sha256(head).digest() + bytes(32))
    old = make(tmp_path / "b.zegel", "2026-01-01")
    found = delete_due(tmp_path, PASSPHRASE, TODAY)
    assert (found.deleted, found.left) == ([old], [planted])


def test_what_the_system_keeps_is_told_with_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = make(tmp_path / "a", "2026-01-01"), make(tmp_path / "b", "2026-01-01")
    real = Path.unlink

    def unlink(path: Path, **options: bool) -> None:
        if path == first:
            raise PermissionError(1, "Operation not permitted", str(path))
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    found = delete_due(tmp_path, PASSPHRASE, TODAY)
    assert found == ([other], [f"{first}: Operation not permitted"], [])
