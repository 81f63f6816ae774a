"""Files with personal data: for our eyes, and never in place of another."""

from __future__ import annotations

import errno
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def refuse_existing(file: Path) -> None:
    """Raises FileExistsError before anything is asked for; `open_private` would raise it afterwards."""
    if file.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))


def open_private(file: Path) -> IO[str]:
    """A new file that only its owner may read. Raises FileExistsError."""
    return open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="")
