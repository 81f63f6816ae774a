"""The shared database: schema, migrations, connections, and the counter that tells readers of a change."""

from relay.store.connection import (
    StoreUnavailable,
    check_whole,
    connect_reader,
    open,
    open_reader,
    reading,
    sqlite_path,
)
from relay.store.generation import Generation

__all__ = [
    "Generation",
    "StoreUnavailable",
    "check_whole",
    "connect_reader",
    "open",
    "open_reader",
    "reading",
    "sqlite_path",
]
