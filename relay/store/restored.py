"""The note that this data folder was put back from a backup and nobody has released it yet (design.md, "Keys").

While it lies there the restored queue and all marketing wait: nobody here knows who left, and what was delivered, between
the cut and the restore.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

FILE = "restored.json"
STAGE = ".restore"  # in the data folder, and in that of the keys: a restore that is not over


class Restored(NamedTuple):
    """What is known of a restore. Times are epoch seconds."""

    cut_at: float
    restored_at: float
    messages: int

    @property
    def gap_seconds(self) -> float:
        """How long this gateway's history is unknown."""
        return max(0.0, self.restored_at - self.cut_at)


def read(data_dir: Path) -> Restored | None:
    """The note, or None where nothing waits for a release. An unreadable note is one: nothing may leave because of it."""
    try:
        found = json.loads((data_dir / FILE).read_bytes())
        return Restored(float(found["cut_at"]), float(found["restored_at"]), int(found["messages"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Restored(0.0, 0.0, 0)


def is_waiting(data_dir: Path) -> bool:
    """Whether there is a note; cheap."""
    return (data_dir / FILE).exists()


def write(folder: Path, note: Restored) -> None:
    """Leave the note in `folder`, durable."""
    with (folder / FILE).open("w") as file:
        json.dump(note._asdict(), file)
        file.flush()
        os.fsync(file.fileno())


def remove(data_dir: Path) -> None:
    """The operator has released what waits."""
    (data_dir / FILE).unlink(missing_ok=True)


def is_broken_off(data_dir: Path) -> bool:
    """A restore into this folder was not finished: nothing in it may be used."""
    return (data_dir / STAGE).exists()
