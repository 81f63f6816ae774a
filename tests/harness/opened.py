"""Everything that lies in a data folder, as who has the keys can read it."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from relay import store
from relay.consent.ledger import Ledger
from relay.consent.suppression import suppression
from relay.keyring import Keyring
from relay.owner import hook_events
from relay.owner.objections import ADDRESS
from relay.spool.cipher import Cipher, CorruptRow
from relay.store import schema
from relay.store.outbox import Outbox


def opened(data_dir: Path, keys_dir: Path) -> dict[str, bytes]:
    """By place, as `opened ledger` or `history/2026-01-02-0.history`, what can be read there; of each file its octets too."""
    keyring = Keyring.open(keys_dir, create=False)
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    found: dict[str, bytes] = {}
    for path in _files(data_dir):
        with contextlib.suppress(FileNotFoundError):  # a queue file whose mail is over goes while we look
            found |= _opened_file(path, str(path.relative_to(data_dir)), keyring, cipher)
    return found | _database(data_dir / "zegel.db", keyring, cipher)


def _opened_file(path: Path, name: str, keyring: Keyring, cipher: Cipher) -> dict[str, bytes]:
    found = {name: path.read_bytes()}
    if path.suffix == ".history":
        found[f"opened {name}"] = _rows(path, "SELECT id, data FROM event", cipher)
    elif path.suffix == ".queue":
        found[f"opened {name}"] = _rows(path, "SELECT id, data FROM log WHERE data IS NOT NULL", cipher)
    elif path.parent.suffix == ".bodies":
        found[f"opened {name}"] = cipher.open(int(path.name, 16), path.read_bytes())
    elif path.name == "outbox.db":
        found["opened outbox"] = _outbox(path, keyring)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path


def _rows(path: Path, query: str, cipher: Cipher) -> bytes:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            return b"\n".join(cipher.open(number, data) for number, data in db.execute(query))
        except sqlite3.OperationalError:  # it is just being made, or just going
            return b""


def _outbox(path: Path, keyring: Keyring) -> bytes:
    with contextlib.closing(Outbox(path, keyring)) as outbox:
        entries = [outbox.entry(stored.id) for stored in outbox.entries(limit=1000)]
    return b"\n".join(repr(entry).encode() for entry in entries)


def _database(path: Path, keyring: Keyring, cipher: Cipher) -> dict[str, bytes]:
    """What is sealed in the shared database; the rest of it is in the octets of its file."""
    ledger = Ledger(keyring)
    engine = store.open_reader(f"sqlite:///{path}")
    said: dict[str, list[Any]] = {"ledger": [], "suppression": [], "webhooks": [], "answers": []}
    with engine.connect() as db:
        for row in db.execute(schema.subject.select()):
            for past in ledger.history(db, row.tenant_id, [row.hash]):
                said["ledger"] += [dict(past.personal or {}), dict(past.evidence or {}), dict(past.clear)]
        for row in db.execute(suppression.select().where(suppression.c.sealed.is_not(None))):
            said["suppression"].append(dict(ledger.unseal(ledger.by_id(db, row.subject_id), ADDRESS, row.sealed) or {}))
        for row in db.execute(schema.webhook_event.select()):
            said["webhooks"].append((hook_events.unseal(keyring, row.event_id, row.body) or b"").decode())
        for row in db.execute(schema.idempotency.select().where(schema.idempotency.c.answer.is_not(None))):
            with contextlib.suppress(CorruptRow):
                said["answers"].append(
                    zlib.decompress(cipher.open(int.from_bytes(row.key[:8], "big"), row.answer)).decode()
                )
    engine.dispose()
    return {f"opened {name}": orjson.dumps(values) for name, values in said.items()}
