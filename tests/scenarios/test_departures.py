"""A tenant leaves: its mail stops at once, nothing of it is left but the proof, and the others are as they were (GDPR-18)."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.consent.erased import FILE as LIST
from relay.keyring import Keyring
from tests.harness.gateway import Gateway, consent_row
from tests.harness.opened import opened
from tests.harness.post import letter, mail
from tests.harness.web import ask
from tests.house.tree import ROOT
from tests.scenarios.conftest import Start, try_again
from tests.scenarios.test_backup import command, elsewhere, passphrase

INJECT = {"unsubscribe": {"missing": "inject"}}
NAME, DOMAIN = "kerstpakket", "kerstpakket.example"
HERS = (f"info@{DOMAIN}", "anna@hers.example", "berta@hers.example")
NEWS_LOGIN, LOGIN = "kp-news", "kp-bills"
NEWS = f"From: Kerst <info@{DOMAIN}>\r\nTo: list@hers.example\r\nSubject: Kerst\r\n\r\nUnsubscribe: {{unsubscribe}}\r\n".encode()
BILL = f"From: Kerst <info@{DOMAIN}>\r\nTo: list@hers.example\r\nSubject: Bill\r\n\r\nYour bill.\r\n".encode()

STAYS = (
    "tenant", "purpose", "policy_mode", "subject", "consent_text", "consent_event", "consent_state", "ledger_head", "suppression",
    "retention_period", "audit",
)  # fmt: skip
"""Tables of the proof, and of what must outlast it; whatever else is left of a deleted tenant is a fault."""
NAMED = ("zegel.db", "zegel.db-wal", LIST)
"""Files that hold its name: the row that its number needs, and the list for a restore."""

__all__ = ["elsewhere", "passphrase"]  # fixtures


def comes(gateway: Gateway) -> int:
    """Beside the shop a tenant that is to leave, known everywhere under a name that nothing else has; its number."""
    number = gateway.op("tenant.add", name=NAME, legal_name="Kerst BV", contact=HERS[0], language="en")["id"]
    gateway.op("domain.add", tenant=NAME, domain=DOMAIN, vouched=True)
    gateway.op("dkim.add", domain=DOMAIN, vouched=True)
    gateway.op("purpose.add", tenant=NAME, name="newsletter", title_en="Christmas")
    for name, more in (
        (NEWS_LOGIN, {"stream": "marketing", "purpose": "newsletter"}),
        (LOGIN, {"stream": "transactional"}),
    ):
        made = gateway.op("credential.add", tenant=NAME, name=name, **more)
        gateway.logins[name] = (made["username"], made["password"])
    rows = [consent_row(address) for address in HERS[1:]]
    assert not gateway.op("consent.import_rows", tenant=NAME, rows=rows)["refused"]
    return int(number)


def say(gateway: Gateway, login: str, to: str, raw: bytes) -> str:
    """The last reply to a mail of it."""
    with gateway.connect() as client:
        assert client.login(*gateway.logins[login]).startswith("235")
        for line in (f"MAIL FROM:<{HERS[0]}>", f"RCPT TO:<{to}>", "DATA"):
            reply = client.ask(line)
            if reply[0] not in "23":
                return reply
        client.send(raw + b".\r\n")
        return client.reply()


def known_everywhere(gateway: Gateway, hop: Any) -> None:
    """Mail of it was delivered, waits and is held; somebody left; there are files, settings and programs."""
    gateway.op("limit.set", tenant=NAME, name="messages_per_minute", value=500)
    gateway.op("policy.mode", tenant=NAME, policy="leaks", mode="observe")
    gateway.op("policy.mode", tenant=NAME, policy="consent", mode="observe")
    gateway.op("webhook.add", tenant=NAME, name="crm", url="https://crm.hers.example/e", with_address=True)
    gateway.op("apikey.add", tenant=NAME, name="crm")
    gateway.op("tenant.set", name=NAME, colour="#112233")
    gateway.op("retention.set", tenant=NAME, kind="evidence", days=30, most=700)
    gateway.op("retention.set", tenant=NAME, kind="bounce", days=30, most=90)
    gateway.op("incident.open", tenant=NAME, kind="leak", summary="a list went astray", addresses=[HERS[1]])
    gateway.op("request.open", tenant=NAME, address=HERS[1], kind="access")
    gateway.op("suppression.add", tenant=NAME, address="gone@hers.example", reason="bounce")
    gateway.op("suspension.told", kind="tenant", name=NAME, at=0.0)
    for address in HERS[1:]:
        assert say(gateway, LOGIN, address, BILL).startswith("250")
        assert say(gateway, NEWS_LOGIN, address, NEWS).startswith("250")
    gateway.settle()
    hop.down()
    assert say(gateway, LOGIN, HERS[1], BILL).startswith("250")
    held = say(gateway, LOGIN, HERS[2], BILL + b"x" * 200_000 + b"\r\n").rpartition(" ")[2]
    gateway.until(lambda: gateway.attempt("queue.hold", id=held), 10.0, "it is being tried all the time")
    gateway.op("consent.withdraw", tenant=NAME, address=HERS[2])
    assert mail(gateway, "transactional", "bob@dest.example", letter("To: bob@dest.example")).startswith("250")


def rows_of(gateway: Gateway, number: int) -> dict[str, int]:
    """Rows with the number of a tenant, by table, as the file has them: whatever has a column of that kind."""
    with closing(sqlite3.connect(gateway.settings.database_path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        columns = {table: {row[1] for row in db.execute(f"PRAGMA table_info({table})")} for table in tables}
        counted = {
            table: db.execute(f"SELECT count(*) FROM {table} WHERE tenant_id=?", (number,)).fetchone()[0]
            for table in tables
            if "tenant_id" in columns[table]
        }
    return {table: count for table, count in counted.items() if count}


def places(gateway: Gateway) -> set[str]:
    """Files and stores in which its name, its domain or one of its addresses can be read by who has the keys."""
    settings = gateway.settings.server
    found = opened(settings.data_dir, settings.keys_dir)
    words = (NAME.encode(), b"kerst", b"@hers", b"kp-")
    return {name.partition("/")[0] for name, text in found.items() if any(word in text.lower() for word in words)} | {
        f"name {path.name}" for path in settings.data_dir.rglob("*") if NAME in path.name
    }


@pytest.fixture
def left(start: Start) -> tuple[Gateway, Any, int]:
    """A running gateway with a tenant that is known everywhere; its number."""
    gateway, hop = start(workers=2, policies=INJECT)
    number = comes(gateway)
    assert gateway.process is not None
    gateway.process.terminate()  # every worker knows it from its start
    gateway.wait()
    gateway.start()
    known_everywhere(gateway, hop)
    return gateway, hop, number


def proof_of(gateway: Gateway, address: str) -> Any:
    return gateway.op("consent.proof", tenant=NAME, address=address)


def test_who_leaves_is_in_no_row_file_or_queue(left: tuple[Gateway, Any, int]) -> None:
    gateway, _, number = left
    before = rows_of(gateway, number)
    gateway.until(lambda: proof_of(gateway, HERS[1])["mails"], 10.0, "its mail rests on nothing yet")
    proof = proof_of(gateway, HERS[1])
    kinds = {"opened history", "opened queue", "opened ledger", "opened suppression", "opened webhooks"}
    gateway.until(lambda: kinds <= places(gateway), 10.0, "it is not known everywhere, so nothing is shown below")
    assert len(before) > 20, before
    key = Keyring.open(gateway.settings.server.keys_dir, create=False).dkim_path(DOMAIN, "x").parent
    assert list(key.glob("*.pem"))
    others = rows_of(gateway, 1)
    with gateway.connect() as client:
        assert client.login(*gateway.logins[LOGIN]).startswith("235")
        assert client.ask(f"MAIL FROM:<{HERS[0]}>").startswith("250")
        told = command(gateway).ask("tenant", "delete", NAME, "--yes")
        assert client.ask("RCPT TO:<x@hers.example>").startswith("421 4.7.0 [THROTTLE-9]")
    assert told["emptied_at"] and set(told["stays"]) == set(STAYS) and told["went"]["webhook_event"] == 2
    assert set(rows_of(gateway, number)) == set(STAYS) - {"tenant"}, "a table that is not deleted, and not named here"
    assert places(gateway) <= {"opened ledger", *NAMED}, "a file that still knows it"
    database = b"".join(path.read_bytes() for path in gateway.settings.server.data_dir.glob("zegel.db*"))
    assert [word for word in (b"@hers", b"@kerst", b"kp-news", b"kp-bills") if word in database] == []
    assert not key.exists(), "its private keys"
    assert gateway.queued() == 1 and rows_of(gateway, 1) == others, "the other tenant is as it was"
    after = proof_of(gateway, HERS[1])
    when = {"made_at": 0, "at": 0}
    assert {**after, **when} == {**proof, **when}, "the proof says the same"
    assert gateway.op("consent.verify", tenant=NAME)["ok"]
    assert [row["op"] for row in gateway.op("audit.list", tenant=NAME)][-2:] == ["tenant.emptied", "tenant.delete"]


def test_links_in_mail_that_was_sent_keep_working(left: tuple[Gateway, Any, int]) -> None:
    """UNSUB-15: whoever leaves later than the tenant leaves for good, should it ever come back."""
    gateway, hop, number = left
    (link,) = [
        link_of(message.raw) for message in hop.arrived if b"One-Click" in message.raw and "anna@" in message.rcpt[0]
    ]
    command(gateway).ask("tenant", "delete", NAME, "--yes")
    web = gateway.settings.web.public_url
    assert link.startswith(web) and ask(gateway, link.removeprefix(web))[0] == 200
    body = b"List-Unsubscribe=One-Click"
    for _ in range(2):
        request = urllib.request.Request(link, body, {"Content-Type": "application/x-www-form-urlencoded"})
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            assert answer.status == 200
    proof = proof_of(gateway, HERS[1])
    assert [stop["reason"] for stop in proof["suppressions"]] == ["objection"]
    assert set(rows_of(gateway, number)) == set(STAYS) - {"tenant"}
    mine = link.replace("/u/", "/my/")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    asked = urllib.request.Request(mine, f"email={HERS[1]}&step=ask".encode(), form)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=20.0).close()
    with refused.value as answer:
        assert answer.code == 404, "there is nobody to ask any more"
    for op in ("tenant.show", "tenant.resume", "tenant.set"):
        assert gateway._ask(op, {"name": NAME})["code"] == "tenant.deleted"
    assert gateway._ask("tenant.add", {"name": NAME.upper()})["code"] == "tenant.deleted", (
        "another one may not take its proof"
    )
    assert [row["name"] for row in gateway.op("tenant.list")] == ["gone", "shop"]
    assert [row["name"] for row in gateway.op("tenant.list", deleted=True)] == [NAME]
    hop.arrived.clear()
    hop.up()
    gateway.until(lambda: try_again(gateway) or gateway.queued() == 0, 20.0, "what waits does not leave")  # type: ignore[func-returns-value]
    assert {message.rcpt[0] for message in hop.arrived} == {"RCPT TO:<bob@dest.example>"}
    with gateway.connect() as client:
        assert client.login(*gateway.logins[LOGIN]).startswith("535"), "nobody knows its logins any more"


def test_a_deletion_that_was_cut_off_goes_on_with_and_without_a_gateway(left: tuple[Gateway, Any, int]) -> None:
    gateway, _, number = left
    gateway.op("tenant.delete", name=NAME)
    gateway.op("tenant.empty", name=NAME)  # some of its rows are gone, its mail is not
    assert gateway.process is not None
    gateway.process.kill()
    gateway.wait()
    assert places(gateway) & {"opened queue", "opened history"}, "else nothing is shown below"
    gateway.start()
    gateway.until(lambda: not gateway.op("tenant.leaving"), 60.0, "the next start does not go on")
    assert places(gateway) <= {"opened ledger", *NAMED}
    assert set(rows_of(gateway, number)) == set(STAYS) - {"tenant"}
    again = command(gateway).ask("tenant", "delete", NAME, "--yes")
    assert again["emptied_at"] and not again["went"]


def test_a_tenant_is_deleted_while_no_gateway_runs(left: tuple[Gateway, Any, int]) -> None:
    gateway, _, number = left
    gateway.stop()
    zegel = command(gateway)
    dry = zegel.ask("tenant", "delete", NAME, "--dry-run")
    assert dry["goes"]["credential"] == 2 and dry["stays"]["consent_event"] >= 3 and dry["deleted_at"] is None
    assert zegel("tenant", "delete", NAME).code == 2, "nobody can be asked"
    assert "opened queue" in places(gateway)
    told = zegel.ask("tenant", "delete", NAME, "--yes")
    assert told["emptied_at"] and set(told["stays"]) == set(STAYS)
    assert places(gateway) <= {"opened ledger", *NAMED}
    assert set(rows_of(gateway, number)) == set(STAYS) - {"tenant"}
    assert zegel.ask("consent", "verify", NAME)["ok"]


def test_a_backup_does_not_bring_it_back(
    left: tuple[Gateway, Any, int], elsewhere: Any, passphrase: None, tmp_path: Path
) -> None:
    gateway, hop, number = left
    command(gateway).ask("backup", tmp_path / "monday")
    command(gateway).ask("tenant", "delete", NAME, "--yes")
    listed = gateway.settings.server.data_dir / LIST
    gateway.stop()
    plain = elsewhere(gateway, hop)
    assert "a tenant that was deleted" in command(plain)("restore", tmp_path / "monday").out
    assert "opened queue" in places(plain), "else nothing is shown below"
    other = elsewhere(gateway, hop)
    back = command(other).ask("restore", tmp_path / "monday", "--erased", listed)
    assert (back["deleted"], back["erased"]) == (1, 0)
    assert places(other) <= {"opened ledger", *NAMED}, "before anything is read"
    assert set(rows_of(other, number)) == set(STAYS) - {"tenant"}
    assert not Keyring.open(other.settings.server.keys_dir, create=False).dkim_path(DOMAIN, "x").parent.exists()
    assert other.settings.server.data_dir.joinpath(LIST).read_bytes() == listed.read_bytes(), "for the next one"


def test_all_of_it_and_nothing_of_another_can_be_taken_along(left: tuple[Gateway, Any, int], tmp_path: Path) -> None:
    gateway, _, _ = left
    gateway.until(lambda: "opened history" in places(gateway), 10.0, "there is no delivery log yet")
    secrets = [gateway.logins[name][1] for name in (LOGIN, NEWS_LOGIN)]
    running = command(gateway).ask("tenant", "export", NAME, tmp_path / "running.zip")
    gateway.stop()
    alone = command(gateway).ask("tenant", "export", NAME, tmp_path / "alone.zip")
    assert {one["name"] for one in running["files"]} == {one["name"] for one in alone["files"]}
    with zipfile.ZipFile(tmp_path / "running.zip") as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(found.pop("manifest.json"))
    assert {one["name"]: one["sha256"] for one in manifest["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items()
    }
    rows = {
        name: [json.loads(line) for line in data.splitlines()]
        for name, data in found.items()
        if name.endswith(".jsonl")
    }
    assert [row["name"] for row in rows["tenant.jsonl"]] == [NAME]
    assert {row["name"] for row in rows["logins.jsonl"]} == {LOGIN, NEWS_LOGIN}
    assert rows["dkim-keys.jsonl"][0]["record"].startswith("v=DKIM1") and rows["instructions.jsonl"][0]["document"]
    assert {row["address"] for row in rows["suppressions.jsonl"]} == {HERS[2], "gone@hers.example"}
    assert rows["incidents.jsonl"][0]["file"]["people"] == [HERS[1]] and rows["requests.jsonl"][0]["address"] == HERS[1]
    assert {row["body"]["address"] for row in rows["webhook-events.jsonl"]} == {HERS[2], "gone@hers.example"}
    assert {row["rule"] for row in rows["uses.jsonl"]} == {"CONSENT-1"} and len(rows["uses.jsonl"]) == 2
    assert {"accepted", "finished"} <= {row["event"] for row in rows["delivery-log.jsonl"]}
    assert sorted(row["held"] for row in rows["queue.jsonl"]) == ["", "queue.held_by_operator"]
    (eml,) = [data for name, data in found.items() if name.startswith("held/")]
    assert b"Subject: Bill" in eml and len(eml) > 200_000
    (tmp_path / "consents.jsonl").write_bytes(found["consents.jsonl"])
    check = [sys.executable, str(ROOT / "docs/check_export.py"), str(tmp_path / "consents.jsonl")]
    assert subprocess.run(check, check=False, capture_output=True).returncode == 0
    assert HERS[1].encode() in found["consents.csv"] and HERS[2].encode() not in found["consents.csv"], (
        "who left stays out"
    )
    everything = b"".join(found.values())
    assert [
        word for word in (b"shop", b"Shop BV", b"sender.example", b"dest.example") if word in strange(everything)
    ] == []
    assert [secret for secret in secrets if secret.encode() in everything] == []
    assert (tmp_path / "running.zip").stat().st_mode & 0o077 == 0
    refused = command(gateway)("tenant", "export", NAME, tmp_path / "running.zip")
    assert refused.code != 0 and "exist" in refused.err.lower(), "nothing is overwritten"


def strange(text: bytes) -> bytes:
    """Without what the test itself wrote into rows of the tenant: the source of its consents is a page of the shop's."""
    for word in (b"https://shop.example/join", b"https://shop.example/privacy", b"shop.example"):
        text = text.replace(word, b"")
    return text


def link_of(raw: bytes) -> str:
    """The address of the one-click link."""
    head = raw.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    line = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"list-unsubscribe:"))
    return line.partition(b"<")[2].partition(b">")[0].decode()
