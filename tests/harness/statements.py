"""One memory of compiled statements for all SQLite engines of the tests: each test opens one, and compiled them all anew.

SQLAlchemy keeps a compiled statement by its dialect, which every engine has of its own; for SQLite they are all alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

Key = tuple[Any, ...]


class Shared(dict[Key, Any]):
    """What SQLAlchemy takes for `compiled_cache`; the first part of a key is the dialect."""

    def get(self, key: Key, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Key, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


@contextmanager
def compiled_once() -> Iterator[None]:
    """For as long as it is open, `sqlalchemy.create_engine` makes engines for SQLite that share what they compile."""
    real, shared = sa.create_engine, Shared()

    def create_engine(url: Any, **options: Any) -> sa.Engine:
        if sa.make_url(url).get_backend_name() == "sqlite":
            options["execution_options"] = {**options.get("execution_options", {}), "compiled_cache": shared}
        return real(url, **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(sa, "create_engine", create_engine)
    yield
    patch.undo()
