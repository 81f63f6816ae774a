"""New SQLite databases of tests, whose schema the migrations made once: every step of them in each new file costs 0.2 s of CPU.

Such a file is what the migrations make of an empty one. A file that holds anything, and every other kind of database, is brought
up to date by the program itself, and so is what another process makes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from relay.store import connection, migrate


@contextmanager
def made_once() -> Iterator[None]:
    """For as long as it is open, `migrate.upgrade` fills a new file with a copy."""
    real, made = migrate.upgrade, list[bytes]()

    def upgrade(engine: Engine) -> None:
        name = engine.url.database
        if engine.url.get_backend_name() == "sqlite" and name and is_new(Path(name)):
            Path(name).write_bytes(schema(real, made))
        else:
            real(engine)

    patch = pytest.MonkeyPatch()
    patch.setattr(migrate, "upgrade", upgrade)
    yield
    patch.undo()


def is_new(path: Path) -> bool:
    """Made for its owner a moment ago, and nobody has written anything."""
    return path.exists() and not path.stat().st_size and not path.with_name(f"{path.name}-wal").exists()


def schema(real: Callable[[Engine], None], made: list[bytes]) -> bytes:
    """The file that `real` makes, the first time; from there on what was `made`."""
    if not made:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrate, "upgrade", real)
            connection.open(Path(folder) / "zegel.db").dispose()
            made.append((Path(folder) / "zegel.db").read_bytes())
    return made[0]
