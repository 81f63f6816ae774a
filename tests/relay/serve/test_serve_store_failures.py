"""The shared database fails under a running gateway: nobody is told a lie, and it mends itself where it can (PIPE-3)."""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.keyring import FILE, Keyring
from relay.serve.ownership import DAMAGED, WRITE_FAILED
from tests.harness.gateway import Gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path, workers=1)
    try:
        yield made.start()
    finally:
        made.stop()


def ask(gateway: Gateway, path: str, *, body: bytes | None = None, key: str = "") -> tuple[int, str]:
    """Status and text of a request to the web process."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} if key else {}
    request = urllib.request.Request(f"{gateway.settings.web.public_url}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def leave(gateway: Gateway, address: str) -> int:
    """Status of the one-click opt-out of `address`."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    subject = person_hash(keyring, 1, address)
    token = make(keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=subject)
    return ask(gateway, f"/u/{token}", body=b"List-Unsubscribe=One-Click")[0]


def ready(gateway: Gateway) -> Any:
    return json.loads(ask(gateway, "/readyz")[1])


def test_a_database_that_was_deleted_takes_no_opt_out_and_is_said(gateway: Gateway) -> None:
    """A deleted file takes writes as before, and each of them is gone with the next start."""
    assert leave(gateway, "ann@dest.example") == 200
    database = gateway.settings.database_path
    aside = database.with_name("aside.db")
    database.rename(aside)
    assert leave(gateway, "bob@dest.example") == 503
    assert ready(gateway)["reasons"] == [WRITE_FAILED]
    aside.rename(database)
    assert ready(gateway)["ready"] is True
    assert leave(gateway, "bob@dest.example") == 200


def test_a_damaged_database_is_not_ready_and_the_api_says_try_again(gateway: Gateway) -> None:
    key = gateway.op("apikey.add", tenant="shop", name="form")["secret"]
    query = json.dumps({"email": "ann@dest.example", "purpose": "newsletter"}).encode()
    gateway.until(lambda: ask(gateway, "/api/v1/consents/lookup", body=query, key=key)[0] == 200, 5.0, "no key")
    database = gateway.settings.database_path
    with sqlite3.connect(database) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with database.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(os.urandom(size))
    assert leave(gateway, "ann@dest.example") == 503
    assert ready(gateway) == ready(gateway) == {"ready": False, "reasons": [DAMAGED]}
    status, text = ask(gateway, "/api/v1/consents/lookup", body=query, key=key)
    assert (status, json.loads(text)["status"]) == (503, 503)
    assert "zegel_crashes_total" not in [
        line.partition("{")[0] for line in gateway.op("metrics.text").splitlines() if not line.endswith(" 0.0")
    ]


def test_a_directory_that_cannot_be_read_is_read_when_it_can_again(gateway: Gateway) -> None:
    """A revoked key must end even where a first look at the change failed."""
    key = gateway.op("apikey.add", tenant="shop", name="form")["secret"]
    query = json.dumps({"email": "ann@dest.example", "purpose": "newsletter"}).encode()
    gateway.until(lambda: ask(gateway, "/api/v1/consents/lookup", body=query, key=key)[0] == 200, 5.0, "no key")
    ring = gateway.settings.server.keys_dir / FILE
    aside = ring.with_name("aside")
    ring.rename(aside)
    gateway.op("apikey.revoke", tenant="shop", name="form")
    gateway.until(lambda: len(ready(gateway)["reasons"]) == 2, 5.0, "neither worker nor web process says so")
    aside.rename(ring)
    gateway.until(lambda: ready(gateway)["ready"], 5.0, "still not ready")
    assert ask(gateway, "/api/v1/consents/lookup", body=query, key=key)[0] == 401
