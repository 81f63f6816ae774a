"""Somebody who is erased is found in the delivery log under every +part, in files of before too (CONSENT-16, GDPR-8)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from relay.consent.erased import GONE, Erased
from relay.keyring import Keyring
from relay.owner.forgetting import HISTORY, forget_files
from relay.spool.cipher import Cipher
from relay.store.history import PERSON, TRACE, Event, History, find, read, short_hash
from relay.trace import who, who_any

NOW = 1_790_000_000.0
PIET, ORDERS, OTHER = "piet@example.net", "Piet+orders@example.net", "piet+other@example.org"
LINES = ((1, "shop", ORDERS), (2, "shop", PIET), (3, "shop", OTHER), (4, "kerk", ORDERS))


async def log(folder: Path, keyring: Keyring, cipher: Cipher, *, old: bool) -> None:
    """Mail of two tenants; `old`: as a version wrote it that knew a line by its spelling alone."""
    history = History(folder, "0", cipher.seal)
    history.start()
    for number, tenant, address in LINES:
        hashes = who(keyring, [address], f"<{number}+x@example.net>")
        data = {"tenant": tenant, "rcpt": [address], "from": ""}
        history.add(Event(number, NOW, "accepted", data, hashes))
        history.add(Event(number, NOW, "delivered", {"rcpt": [address]}))
    await history.stop()
    if old:
        for path in folder.glob("*.history"):
            with closing(sqlite3.connect(path)) as db, db:
                people = [short_hash(keyring.subject_hash(PERSON + f"piet@example.{end}")) for end in ("net", "org")]
                assert db.execute(f"DELETE FROM who WHERE hash IN ({people[0]}, {people[1]})").rowcount == 3
                db.execute("PRAGMA user_version=0")


@pytest.mark.parametrize("old", [False, True], ids=["as it is written now", "as it was written before"])
@pytest.mark.parametrize("address", [PIET, ORDERS])
async def test_every_spelling_goes(tmp_path: Path, old: bool, address: str) -> None:
    keyring = Keyring.open(tmp_path / "keys", create=True)
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    folder = tmp_path / HISTORY
    await log(folder, keyring, cipher, old=old)
    one = Erased.of(keyring, (1, "shop"), NOW, [address])
    assert forget_files(tmp_path, keyring, [one], last=False) == [4]
    events = {number: read(folder, [number], cipher.open) for number, *_ in LINES}
    shown = {number: {text for event in lines for text in event.data["rcpt"]} for number, lines in events.items()}
    assert shown == {1: {GONE}, 2: {GONE}, 3: {OTHER}, 4: {ORDERS}}, "nobody else, and towards nobody else"
    assert forget_files(tmp_path, keyring, [one], last=True) == [0]
    assert find(folder, who_any(keyring, "piet+orders@example.net")) == [4], "no hash leads to his mail any more"
    assert find(folder, who_any(keyring, PIET)) == []
    assert find(folder, who_any(keyring, "<1+x@example.net>")) == [1], "the mail stays, without him"


def test_an_address_without_a_part_costs_one_hash(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys", create=True)
    assert len(who(keyring, [PIET], "<a+b@example.net>")) == 2 and len(who(keyring, [ORDERS])) == 2
    assert short_hash(keyring.subject_hash(TRACE + "piet+orders@example.net")) in who(keyring, [ORDERS])
