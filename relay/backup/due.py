"""Backups whose time is over: they still hold what retention and erasures have taken out of the gateway since (GDPR-12)."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

from relay.backup.sealed import HEADER_BYTES, MAGIC, BadBackup, SealedReader
from relay.backup.take import sync_folder


class Due(NamedTuple):
    """What was found in a folder, by path."""

    deleted: list[Path]
    left: list[
        Path
    ]  # they say that their time is over, and the passphrase does not open them: nobody can say whose they are


def delete_due(folder: Path, passphrase: str, today: str) -> Due:
    """Delete the backups of this passphrase in `folder` that were to be kept until a day before `today` (2026-03-01).

    Only what the passphrase shows to be one of ours is believed. What cannot be read is passed over. Raises OSError.
    """
    found = Due([], [])
    for path in sorted(folder.iterdir()):
        if _says_due(path, today):
            (found.deleted if _is_deleted(path, passphrase, today) else found.left).append(path)
    if found.deleted:
        sync_folder(folder)
    return found


def _says_due(path: Path, today: str) -> bool:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a link leads to somebody else's
            return False
        with path.open("rb") as file:
            line = file.readline(HEADER_BYTES) if file.read(len(MAGIC)) == MAGIC else b""
        header = json.loads(line)
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and _is_over(header, today)


def _is_deleted(path: Path, passphrase: str, today: str) -> bool:
    try:
        with path.open("rb") as file:
            if not _is_over(SealedReader(file, passphrase).header, today):
                return False
        path.unlink()
    except (BadBackup, OSError):
        return False
    return True


def _is_over(header: dict[str, Any], today: str) -> bool:
    until = header.get("delete_after")
    return isinstance(until, str) and "" < until < today
