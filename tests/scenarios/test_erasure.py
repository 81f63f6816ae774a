"""Somebody who is known everywhere is erased: the address is nowhere any more, and mail to it stays refused (GDPR-8)."""

from __future__ import annotations

import json
import sqlite3
import sys
import tomllib
import urllib.request
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from relay import store
from relay.backup import take
from relay.consent.erased import FILE as LIST
from relay.consent.erased import Erased, write_down
from relay.keyring import Keyring
from relay.store.history import TRACE, short_hash
from tests.harness.gateway import MESSAGE, Gateway, consent_row
from tests.harness.opened import opened
from tests.harness.post import letter, mail, post
from tests.harness.web import ask
from tests.scenarios.conftest import Start, try_again
from tests.scenarios.test_backup import command, elsewhere, passphrase

INJECT = {"unsubscribe": {"missing": "inject"}}
ANN, PLUS, BOB = "ann@dest.example", "Ann+news@dest.example", "bob@dest.example"
NEWS = letter("To: list@dest.example", "Subject: News", body="News. Unsubscribe: {unsubscribe}")

__all__ = ["elsewhere", "passphrase"]  # fixtures


def places(gateway: Gateway) -> set[str]:
    """Where she can be read by who has the keys; the kinds of place alone, files have names of the day."""
    settings = gateway.settings.server
    found = opened(settings.data_dir, settings.keys_dir)
    named = [name for name, text in found.items() if b"ann@dest" in text.lower() or b"ann+news@dest" in text.lower()]
    return {name.partition("/")[0] for name in named}


def everywhere(gateway: Gateway, hop: Any) -> None:
    """She gets mail, mail waits for her and is held, she left, a tool is to hear of it, a program asked about her."""
    key = str(gateway.op("apikey.add", tenant="shop", name="crm")["secret"])
    gateway.op("webhook.add", tenant="shop", name="crm", url="https://crm.shop.example/events", with_address=True)
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(ANN), consent_row(PLUS), consent_row(BOB)])
    gateway.until(lambda: ask(gateway, "/api/v1/held", key=key)[0] == 200, 10.0, "no key")
    for address in (ANN, PLUS, BOB):
        assert mail(gateway, "transactional", address, letter(f"To: {address}")).startswith("250")
        assert mail(gateway, "marketing", address, NEWS).startswith("250")
    post(
        gateway,
        "personal",
        [ANN, BOB],
        letter(f"To: {ANN}, {BOB}", "Subject: both", "Message-ID: <both@sender.example>"),
    )
    gateway.settle()
    hop.down()
    for address in (ANN, PLUS, BOB):
        assert mail(gateway, "transactional", address, letter(f"To: {address}")).startswith("250")
    held = post(gateway, "transactional", [ANN], MESSAGE + b"x" * 200_000 + b"\r\n").queue_id
    gateway.until(lambda: gateway.attempt("queue.hold", id=held), 10.0, "it is being tried all the time")
    body = json.dumps({"email": ANN, "reason": "bounce"}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "Idempotency-Key": "k-1"}
    request = urllib.request.Request(f"{gateway.settings.web.public_url}/api/v1/suppressions", body, headers)
    with urllib.request.urlopen(request, timeout=20.0) as answer:
        assert answer.status == 200
    gateway.op("consent.withdraw", tenant="shop", address=PLUS, purpose="newsletter")


def test_who_is_erased_is_in_no_table_file_or_queue(start: Start) -> None:
    gateway, hop = start(workers=2, policies=INJECT)
    everywhere(gateway, hop)
    kinds = {
        "opened history",
        "opened queue",
        "opened ledger",
        "opened suppression",
        "opened webhooks",
    }
    gateway.until(lambda: kinds <= places(gateway), 10.0, "she is not known everywhere, so nothing is shown below")
    gateway.until(lambda: threads_that_show(gateway, ANN) == 1, 10.0, "nobody remembers whom the letter showed")
    gateway.op("consent.erase", tenant="shop", address="ANN@dest.example")
    gateway.until(lambda: not gateway.op("erasure.due"), 60.0, "the files do not forget her")
    assert places(gateway) <= {"opened webhooks"}, "the tool that keeps her must be told whom to erase"
    gateway.op("webhook.remove", tenant="shop", name="crm")
    assert places(gateway) == set()
    assert threads_that_show(gateway, ANN) == 0 and threads_that_show(gateway, BOB) == 1
    assert (gateway.settings.server.data_dir / LIST).read_text().count("\n") >= 1
    gateway.until(
        lambda: gateway.metric("zegel_erased_copies_total") == 3.0, 10.0, "two that waited, one that was held"
    )
    assert unmapped(gateway.settings.server.data_dir) == set(), "a kind of file without an entry in the data map"
    run = 'zegel_retention_run_timestamp_seconds{kind="audit"}'
    gateway.until(lambda: gateway.metric(run) > 0, 30.0, "the hourly job did not run at the start")
    # Bob is as he was, and she stays away.
    assert [row["recipient_count"] for row in gateway.op("queue.list")] == [1]
    assert trace_of(gateway, BOB) and not trace_of(gateway, ANN)
    reply = mail(gateway, "marketing", ANN, NEWS)
    assert (reply.startswith("550") and "UNSUB-13" in reply) or "CONSENT" in reply
    rows = [consent_row("ann+list@dest.example")]
    assert gateway.op("consent.import_rows", tenant="shop", rows=rows)["refused"], "a bought list brings her back"
    hop.arrived.clear()
    hop.up()
    gateway.until(lambda: try_again(gateway) or gateway.queued() == 0, 20.0, "what waits does not leave")  # type: ignore[func-returns-value]
    assert [line for message in hop.arrived for line in message.rcpt if "ann" in line.lower()] == []


def test_captured_mail_forgets_her_too(start: Start) -> None:
    gateway, _ = start(workers=1, delivery={"mode": "capture"})
    for address in (ANN, BOB):
        assert mail(gateway, "transactional", address, letter(f"To: {address}")).startswith("250")
    post(gateway, "personal", [BOB], letter(f"To: {ANN}, {BOB}", "Subject: both"))
    gateway.settle()
    outbox = gateway.settings.server.data_dir / "outbox.db"
    gateway.until(lambda: "opened outbox" in places(gateway), 10.0, "nothing was captured")
    gateway.op("consent.erase", tenant="shop", address=ANN)
    gateway.until(lambda: not gateway.op("erasure.due"), 60.0, "the files do not forget her")
    assert places(gateway) == set()
    with closing(sqlite3.connect(outbox)) as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone()[0] == 1, "Bob's own stays"


def test_who_was_erased_does_not_come_back_with_a_backup(
    start: Start, elsewhere: Any, passphrase: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, hop = start(workers=1, policies=INJECT)
    everywhere(gateway, hop)
    waiting = gateway.queued()
    monkeypatch.setattr(take, "KEEP_DAYS", -2)
    made = command(gateway).ask("backup", tmp_path / "monday")
    assert made["delete_after"] < take.day(made["cut_at"])
    gateway.op("consent.erase", tenant="shop", address=ANN)
    gateway.until(lambda: not gateway.op("erasure.due"), 60.0, "the files do not forget her")
    gateway.op("webhook.remove", tenant="shop", name="crm")
    erased = gateway.settings.server.data_dir / LIST
    assert ANN.encode() not in erased.read_bytes(), "the list names nobody"
    gateway.stop()

    plain = elsewhere(gateway, hop)
    said = command(plain)("restore", tmp_path / "monday").out
    assert "--erased" in said, "the operator is told what is missing"
    assert f"was to be deleted after {made['delete_after']}" in said
    assert "opened ledger" in places(plain) and "opened queue" in places(plain), "else nothing is shown below"
    other = elsewhere(gateway, hop)
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    earlier = Erased.of(keyring, (1, "shop"), 1.0, ["carl@dest.example"])
    write_down(gateway.settings.server.data_dir, [earlier])
    (tmp_path / "bad").write_text("ann\n")
    bad = command(other)("restore", tmp_path / "monday", "--erased", tmp_path / "bad")
    assert bad.code == 1 and "line 1" in bad.err and "nothing was restored" in bad.err
    back = command(other).ask("restore", tmp_path / "monday", "--erased", erased)
    assert back["erased"] == 1
    assert (other.settings.server.data_dir / LIST).read_bytes() == erased.read_bytes(), (
        "never shorter than it was given"
    )
    assert places(other) <= {"opened webhooks"}, "before anything is read"
    other.start()
    assert mail(other, "marketing", ANN, NEWS).startswith("550")
    assert other.op("consent.import_rows", tenant="shop", rows=[consent_row(PLUS)])["refused"]
    assert waiting == 4 and command(other).ask("queue", "release", "--yes")["files"] > 0
    hop.arrived.clear()
    hop.up()
    other.until(lambda: hop.arrived, 20.0, "what was restored does not leave")
    other.settle()
    assert [line for message in hop.arrived for line in message.rcpt] == [f"RCPT TO:<{BOB}>"]


def unmapped(data_dir: Path) -> set[str]:
    """Files that a run left behind and relay/store/datamap.toml does not know (GDPR-1)."""
    known = tomllib.loads((Path(store.__file__).parent / "datamap.toml").read_text())["files"]
    names = [str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if not path.is_dir()]
    assert len(names) > 8
    return {name for name in names if not any(fnmatch(name, pattern) for pattern in known)}


def threads_that_show(gateway: Gateway, address: str) -> int:
    """Messages of which the thread memory knows that they showed an address."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    number = Erased.of(keyring, (1, "shop"), 0.0, [address]).thread[0]
    with closing(sqlite3.connect(gateway.settings.server.data_dir / "threads.db")) as db:
        rows = db.execute("SELECT shown FROM thread").fetchall()
    return sum(number.to_bytes(8, sys.byteorder) in row[0] for row in rows)


def trace_of(gateway: Gateway, address: str) -> int:
    """Messages that the delivery log finds by an address."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    number, total = short_hash(keyring.subject_hash(TRACE + address)), 0
    for path in (gateway.settings.server.data_dir / "history").glob("*.history"):
        with closing(sqlite3.connect(path)) as db:
            total += db.execute("SELECT count(*) FROM who WHERE hash=?", (number,)).fetchone()[0]
    return total
