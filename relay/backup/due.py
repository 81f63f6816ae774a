"""Backups whose time is over: they still hold what retention and erasures have taken out of the gateway since (GDPR-12)."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

from relay.backup.sealed import HEADER_BYTES, MAGIC, BadBackup, SealedReader
from relay.backup.take import sync_folder


class Due(NamedTuple):
    """What was found in a folder.

    `failed`: ours, over, and the system did not let them go, each with why. `left`: they say that their time is over, and the
    passphrase does not open them, so nobody can say whose they are.
    """

    deleted: list[Path]
    failed: list[str]
    left: list[Path]


def delete_due(folder: Path, passphrase: str, today: str) -> Due:
    """Delete the backups of this passphrase in `folder` that were to be kept until a day before `today` (2026-03-01).

    Only what the passphrase shows to be one of ours is believed. What cannot be read is passed over. Raises OSError.
    """
    found = Due([], [], [])
    for path in sorted(folder.iterdir()):
        if _says_due(path, today):
            _delete(path, passphrase, today, found)
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


def _delete(path: Path, passphrase: str, today: str, found: Due) -> None:
    try:
        with path.open("rb") as file:
            is_due = _is_over(SealedReader(file, passphrase).header, today)
    except (BadBackup, OSError):
        is_due = False
    if not is_due:
        found.left.append(path)
        return
    try:
        path.unlink()
        found.deleted.append(path)
    except OSError as error:
        found.failed.append(f"{path}: {error.strerror}")


def _is_over(header: dict[str, Any], today: str) -> bool:
    until = header.get("delete_after")
    return isinstance(until, str) and "" < until < today
