"""The shared database fails under a running gateway: nobody is told a lie, and it mends itself where it can (PIPE-3)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.keyring import FILE
from relay.serve.ownership import DAMAGED, GONE
from tests.harness.gateway import Gateway
from tests.harness.web import ask, leave


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path, workers=1)
    try:
        yield made.start()
    finally:
        made.stop()


def ready(gateway: Gateway) -> Any:
    return json.loads(ask(gateway, "/readyz")[1])


def test_a_database_that_was_deleted_takes_no_opt_out_and_is_said(gateway: Gateway) -> None:
    """A deleted file takes writes as before, and each of them is gone with the next start."""
    assert leave(gateway, "ann@dest.example") == 200
    database = gateway.settings.database_path
    aside = database.with_name("aside.db")
    database.rename(aside)
    assert leave(gateway, "bob@dest.example") == 503
    assert GONE in ready(gateway)["reasons"]
    log = gateway.folder / "gateway.log"
    told = [json.loads(line) for line in log.read_text().splitlines() if '"store.barred"' in line]
    assert [entry["why"] for entry in told] == [GONE], "it said that it cannot be written, which nobody could mend"
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE other(x)")
    other.close()
    assert leave(gateway, "bob@dest.example") == 503
    assert GONE in ready(gateway)["reasons"]
    aside.replace(database)
    # A worker that had a change of the directory to read still says so too, until it has read it.
    gateway.until(lambda: ready(gateway)["ready"] is True, 5.0, "it stays down")
    # The other one took the log of ours with it: what is taken from now on is in one that is there.
    assert leave(gateway, "bob@dest.example") == 200
    gateway.signal(signal.SIGKILL)
    gateway.wait()
    gateway.start()
    kept = gateway.op("suppression.list", tenant="shop")
    assert len(kept) == 2, "what was taken was in a log that was gone with the process"


def test_a_damaged_database_is_not_ready_and_the_api_says_try_again(gateway: Gateway) -> None:
    key = gateway.op("apikey.add", tenant="shop", name="form")["secret"]
    query = json.dumps({"email": "ann@dest.example", "purpose": "newsletter"}).encode()
    gateway.until(lambda: ask(gateway, "/api/v1/consents/lookup", query, key=key)[0] == 200, 5.0, "no key")
    database = gateway.settings.database_path
    with sqlite3.connect(database) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with database.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(os.urandom(size))
    assert leave(gateway, "ann@dest.example") == 503
    assert ready(gateway) == ready(gateway) == {"ready": False, "reasons": [DAMAGED], "notes": []}
    status, text = ask(gateway, "/api/v1/consents/lookup", query, key=key)
    assert (status, json.loads(text)["status"]) == (503, 503)
    assert "zegel_crashes_total" not in [
        line.partition("{")[0] for line in gateway.op("metrics.text").splitlines() if not line.endswith(" 0.0")
    ]


def test_a_directory_that_cannot_be_read_is_read_when_it_can_again(gateway: Gateway) -> None:
    """A revoked key must end even where a first look at the change failed."""
    key = gateway.op("apikey.add", tenant="shop", name="form")["secret"]
    query = json.dumps({"email": "ann@dest.example", "purpose": "newsletter"}).encode()
    gateway.until(lambda: ask(gateway, "/api/v1/consents/lookup", query, key=key)[0] == 200, 5.0, "no key")
    ring = gateway.settings.server.keys_dir / FILE
    aside = ring.with_name("aside")
    ring.rename(aside)
    gateway.op("apikey.revoke", tenant="shop", name="form")
    gateway.until(lambda: len(ready(gateway)["reasons"]) == 2, 5.0, "neither worker nor web process says so")
    aside.rename(ring)
    gateway.until(lambda: ready(gateway)["ready"], 5.0, "still not ready")
    assert ask(gateway, "/api/v1/consents/lookup", query, key=key)[0] == 401
