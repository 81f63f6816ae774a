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
from relay.store.uses import FOLDER
from tests.harness.gateway import Gateway, consent_row
from tests.harness.post import NEWS, post
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


def login(gateway: Gateway) -> str:
    with gateway.connect() as client:
        return client.login(*gateway.logins["marketing"])


@pytest.mark.parametrize("lost", [["-wal", "-shm"], ["-shm"]], ids=" and ".join)
def test_who_leaves_after_the_log_was_put_right_gets_no_mail(gateway: Gateway, lost: list[str]) -> None:
    """A worker has two connections and is never without one, so it would read the index that was deleted (UNSUB-20)."""
    people = [f"p{number}@dest.example" for number in range(6)]
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(address) for address in people])
    assert post(gateway, "marketing", [people[0]], NEWS).reply.startswith("250")
    gateway.settle()
    uses = gateway.settings.server.data_dir / FOLDER
    gateway.until(lambda: any(path.stat().st_size for path in uses.rglob("*") if path.is_file()), 5.0, "no use of it")

    for suffix in lost:
        Path(f"{gateway.settings.database_path}{suffix}").unlink()
    log = gateway.folder / "gateway.log"
    gateway.until(lambda: '"store.log_renewed"' in log.read_text(), 5.0, "nobody saw it")
    gateway.until(lambda: ready(gateway)["ready"] is True, 10.0, "it stays down")
    for address in people[1:]:
        assert leave(gateway, address) == 200
        assert post(gateway, "marketing", [address], NEWS).refused[address].startswith("550 5.7.1 [CONSENT-11]")
    gateway.op("credential.revoke", name="marketing")
    gateway.until(lambda: login(gateway).startswith("535"), 5.0, "a revoked login goes on")


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
