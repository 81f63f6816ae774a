"""`zegel init`, `check-config`, `doctor` and `serve`: from an empty folder to a gateway that answers."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509

from relay.cli import machine
from relay.cli.findings import Finding
from relay.cli.machine import certificates, open_files
from relay.cli.records import dkim, dmarc, own_name, spf
from relay.dns import Answer, Failed, NoRecord, Resolver, Result
from relay.settings.checks import OWN_FILES
from relay.settings.load import load
from relay.settings.model import Settings
from tests.faults.conftest import disk
from tests.faults.disk import fill
from tests.harness.certificates import write_pair
from tests.harness.limits import few_descriptors
from tests.harness.ports import free_port
from tests.harness.served import Served
from tests.relay.cli.conftest import CONFIG, Zegel

__all__ = ["disk"]
ROOT = Path(__file__).parents[3]


def test_init_makes_everything_and_asks_nothing(zegel: Zegel, tmp_path: Path) -> None:
    folder = tmp_path / "srv" / "zegel"
    answer = zegel("init", folder, "--hostname", "relay.example.org", "--yes", config=False)
    assert answer.code == 0 and f"zegel serve -c {folder / 'zegel.toml'}" in answer.out
    settings = load(folder / "zegel.toml", environment={})
    assert settings.server.hostname == "relay.example.org" and settings.web.public_url == "https://relay.example.org"
    assert [(entry.kind, entry.endpoint.port, entry.tls) for entry in settings.listener] == [
        ("submission", 587, "required"),
        ("submissions", 465, "required"),
    ]
    assert settings.server.data_dir == folder / "data" and settings.database_path.exists()
    for secret in ("keys", "data", "tls/key.pem", "keys/keyring.json"):
        assert (folder / secret).stat().st_mode & 0o077 == 0, secret
    certificate = x509.load_pem_x509_certificate((folder / "tls" / "cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["relay.example.org"]
    made = Zegel(folder / "zegel.toml")
    assert made("check-config").code == 0
    assert made.ask("tenant", "add", "shop")["name"] == "shop"


def test_init_overwrites_nothing(zegel: Zegel, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert zegel("init", folder, "--hostname", "localhost", "--yes", config=False).code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = zegel("init", folder, "--hostname", "localhost", "--yes", config=False)
    assert again.code == 1 and "is there already" in again.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["no such_name", "-x.example", "a" * 64 + ".example"])
def test_a_name_that_is_none_leaves_the_folder_as_it_was(zegel: Zegel, tmp_path: Path, name: str) -> None:
    answer = zegel("init", tmp_path / "made", "--hostname", name, "--yes", config=False)
    assert answer.code == 2 and "host name" in answer.err, answer
    assert zegel("init", tmp_path / "made", "--hostname", "relay.example.org", "--yes", config=False).code == 0


def test_a_name_without_a_dot_listens_on_loopback_only(zegel: Zegel, tmp_path: Path) -> None:
    zegel("init", tmp_path / "made", "--hostname", "localhost", "--yes", config=False)
    settings = load(tmp_path / "made" / "zegel.toml", environment={})
    assert all(listener.endpoint.is_loopback for listener in settings.listener)


def test_every_error_is_told_at_once(zegel: Zegel) -> None:
    zegel.config.write_text(
        CONFIG
        + '[limits]\nmax_mesage_bytes = 1\n[delivery]\nmode = "smarthost"\n[policies.consent]\nmode = "sometimes"\n'
        "[policies.nonsense]\n"
    )
    answer = zegel("check-config", "--json")
    assert answer.code == 1 and answer.json["ok"] is False
    problems = {problem["key"]: problem for problem in answer.json["problems"]}
    assert set(problems) == {
        "limits.max_mesage_bytes",
        "delivery.smarthosts",
        "policies.consent.mode",
        "policies.nonsense",
    }
    assert all(problem["file"] == str(zegel.config) and problem["remedy"] for problem in problems.values())
    told = zegel("check-config").out
    assert "max_message_bytes" in told and "4 problems" in told
    assert zegel("tenant", "list").code == 2, "other commands say the same and stop"
    assert zegel("serve").code == 2


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    answer = Zegel(tmp_path / "nowhere.toml")("check-config", "--json")
    assert answer.code == 1 and "zegel init" in answer.json["problems"][0]["remedy"]


def test_connections_that_no_limit_has_room_for_are_told_with_what_to_write(
    zegel: Zegel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stop no start: who comes on top of them gets 421."""
    monkeypatch.setattr("relay.serve.descriptors.MOST", 1000)  # the hard limit of this machine may be any
    with few_descriptors(1000):
        _told_of_connections(zegel)


def _told_of_connections(zegel: Zegel) -> None:
    zegel.config.write_text(CONFIG + "[limits]\nmax_connections = 1000\n")
    answer = zegel("check-config", "--json")
    assert answer.code == 0 and answer.json["ok"] is True
    (warning,) = answer.json["warnings"]
    assert warning["key"] == "limits.max_connections" and "LimitNOFILE=1192 " in warning["remedy"]
    told = zegel("check-config")
    assert told.code == 0 and "LimitNOFILE=" in told.out and "nothing is wrong" not in told.out
    (finding,) = open_files(load(zegel.config, environment={}))
    assert finding.state == "warn" and "LimitNOFILE=" in finding.remedy
    zegel.config.write_text(CONFIG + "[limits]\nmax_connections = 10\n")
    assert zegel("check-config", "--json").json["warnings"] == []
    assert open_files(load(zegel.config, environment={}))[0].state == "ok"


def test_doctor_on_this_machine(shop: Zegel, tmp_path: Path) -> None:
    answer = shop("doctor", "--offline", "--json")
    states = {finding["check"]: finding["state"] for finding in answer.json}
    assert answer.code == 0 and states["gateway"] == "warn"
    assert {states[name] for name in ("config", "keys", "data folder", "clock", "storage", "database")} == {"ok"}
    (tmp_path / "keys").chmod(0o755)
    (tmp_path / "data" / "zegel.db").write_bytes(b"x" * 10_000)
    answer = shop("doctor", "--offline", "--json")
    found = {finding["check"]: finding for finding in answer.json}
    assert answer.code == 1 and found["keys"]["state"] == "wrong" and "chmod 700" in found["keys"]["remedy"]
    assert any(finding["state"] == "wrong" and finding["check"] in ("storage", "database") for finding in answer.json)


def test_doctor_on_a_database_that_is_gone_or_none(
    shop: Zegel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are keys there was a gateway: a new database would forget every opt-out."""
    monkeypatch.setattr("relay.cli.records.examine", no_names)
    database = tmp_path / "data" / "zegel.db"
    whole = database.read_bytes()
    database.write_bytes(b"SQLite format 3\0" + b"x" * 10_000)
    found = {finding["check"]: finding for finding in shop("doctor", "--json").json}
    assert found["network"]["text"] == "the domains that send cannot be read from the database"
    assert found["delivery"]["state"] == "warn", "the rest is looked at all the same"
    for error in (shop("tenant", "list").err, shop("domain", "list", "--json").err):
        assert len(error.splitlines()) == 1 and "sqlalche" not in error and "SQL:" not in error, error
    database.unlink()
    found = {finding["check"]: finding for finding in shop("doctor", "--offline", "--json").json}
    assert found["database"]["remedy"] == "Put it back from a backup"
    assert "put it back from a backup" in shop("tenant", "list").err
    database.write_bytes(whole)
    (tmp_path / "keys" / "keyring.json").unlink()
    database.unlink()
    found = {finding["check"]: finding for finding in shop("doctor", "--offline", "--json").json}
    assert "zegel init" in found["database"]["remedy"]


async def no_names(settings: Settings, domains: object) -> list[Finding]:
    """In place of DNS."""
    return []


@pytest.mark.parametrize(
    ("free", "least", "state"), [(0, 0, "warn"), (1 << 40, 0, "ok"), (0, 1, "wrong"), (3 << 30, 1 << 30, "warn")]
)
def test_a_disk_without_room_is_told(
    zegel: Zegel, monkeypatch: pytest.MonkeyPatch, free: int, least: int, state: str
) -> None:
    zegel.config.write_text(f"{CONFIG}[limits]\nmin_free_disk_bytes = {least}\n")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    (finding,) = machine.disk(load(zegel.config, environment={}))
    assert finding.state == state, finding


def test_doctor_looks_at_the_database_on_a_full_disk_too(shop: Zegel, tmp_path: Path, disk: Path) -> None:
    shutil.copytree(tmp_path / "data", disk / "data")
    (disk / "data").chmod(0o700)
    shop.config.write_text(CONFIG.replace('"data"', f'"{disk / "data"}"') + "[limits]\nmin_free_disk_bytes = 0\n")
    with sqlite3.connect(disk / "data" / "zegel.db") as reader:  # its index is there, as beside a running gateway
        reader.execute("SELECT * FROM tenant").fetchall()
        fill(disk, 0)
        found = {finding["check"]: finding for finding in shop("doctor", "--offline", "--json").json}
    reader.close()
    assert {name: found[name]["state"] for name in ("disk", "storage", "database")} == {
        "disk": "warn",
        "storage": "wrong",
        "database": "ok",
    }, found
    assert "No space left" in found["storage"]["text"]


@pytest.mark.parametrize(("name", "state"), [("localhost", "warn"), ("other.example", "wrong")])
def test_a_certificate_is_for_our_name(zegel: Zegel, tmp_path: Path, name: str, state: str) -> None:
    write_pair(tmp_path / "c.pem", tmp_path / "k.pem", name)
    zegel.config.write_text(CONFIG.replace('tls = "off"', 'tls = "required"\ncertificate = "c.pem"\nkey = "k.pem"'))
    (finding,) = certificates(load(zegel.config, environment={}))
    assert finding.state == state, finding


class Zone(Resolver):
    """Answers from a table of (name, type); what is not in it does not exist."""

    def __init__(self, records: dict[tuple[str, str], list[str]], *, down: bool = False) -> None:
        self._zone = records
        self._down = down

    async def ask(self, name: str, kind: str, *, timeout_seconds: float | None = None) -> Result:
        if self._down:
            return Failed(True, "no answer from any server")
        found = self._zone.get((name, kind))
        return Answer(tuple(found), 300) if found else NoRecord(nxdomain=True)


KEY = {"name": "g._domainkey.shop.example", "type": "TXT", "value": "v=DKIM1; k=rsa; p=AAAA", "state": "active"}
DNS_CASES: list[tuple[str, dict[tuple[str, str], list[str]], str]] = [
    ("spf", {("shop.example", "TXT"): ["v=spf1 include:mail.example -all"]}, "ok"),
    ("spf", {("shop.example", "TXT"): ["other"]}, "wrong"),
    ("spf", {("shop.example", "TXT"): ["v=spf1 -all", "v=spf1 ~all"]}, "wrong"),
    ("spf", {("shop.example", "TXT"): ["v=spf1 +all"]}, "wrong"),
    ("spf", {("shop.example", "TXT"): ["v=spf1 " + "include:a.example " * 11 + "-all"]}, "wrong"),
    ("dkim", {("g._domainkey.shop.example", "TXT"): ["v=DKIM1;k=rsa;p=AAAA"]}, "ok"),
    ("dkim", {("g._domainkey.shop.example", "TXT"): ["v=DKIM1; k=rsa; p=BBBB"]}, "wrong"),
    ("dkim", {}, "wrong"),
    ("dmarc", {("_dmarc.shop.example", "TXT"): ["v=DMARC1; p=reject"]}, "ok"),
    ("dmarc", {("_dmarc.shop.example", "TXT"): ["v=DMARC1; p=none"]}, "warn"),
    ("dmarc", {("_dmarc.shop.example", "TXT"): ["v=DMARC1; sp=none"]}, "wrong"),
    ("dmarc", {}, "wrong"),
    ("own", {("relay.shop.example", "A"): ["9.9.9.9"]}, "warn"),
    ("own", {}, "wrong"),
]


async def look(kind: str, zone: Zone) -> list[Finding]:
    if kind == "spf":
        return await spf(zone, "shop.example")
    if kind == "dkim":
        return await dkim(zone, "shop.example", [KEY])
    return await (dmarc(zone, "shop.example") if kind == "dmarc" else own_name(zone, "relay.shop.example"))


@pytest.mark.parametrize(("kind", "records", "state"), DNS_CASES)
def test_what_doctor_says_of_dns(kind: str, records: dict[tuple[str, str], list[str]], state: str) -> None:
    findings = asyncio.run(look(kind, Zone(records)))
    assert findings[-1].state == state and (state == "ok" or findings[-1].remedy), findings


OLD = KEY | {"name": "f._domainkey.shop.example", "state": "retired"}
SHOWN, EMPTY = ["v=DKIM1; k=rsa; p=AAAA"], ["v=DKIM1; p="]
AGED: list[tuple[dict[str, str], list[str], str]] = [
    (OLD | {"until": "2026-12-24"}, SHOWN, ""),
    (OLD | {"until": "2026-12-24"}, EMPTY, "is gone"),
    (OLD | {"until": "2026-12-24"}, [], "is gone"),
    (OLD | {"until": ""}, SHOWN, "nobody needs any more"),
    (OLD | {"until": ""}, EMPTY, ""),
    (OLD | {"until": ""}, [], ""),
    (KEY | {"name": OLD["name"], "due": "yes"}, SHOWN, "over half a year"),
]


@pytest.mark.parametrize(("key", "record", "words"), AGED)
def test_what_doctor_says_of_keys_that_were_or_are_to_be_replaced(
    key: dict[str, str], record: list[str], words: str
) -> None:
    """DKIM-9."""
    zone = Zone({(KEY["name"], "TXT"): SHOWN, (OLD["name"], "TXT"): record})
    findings = asyncio.run(dkim(zone, "shop.example", [KEY, key]))
    strange = [finding for finding in findings if finding.state != "ok"]
    assert [finding.state for finding in strange] == (["warn"] if words else [])
    assert not words or (words in strange[0].text and strange[0].remedy)


@pytest.mark.parametrize("kind", ["spf", "dkim", "dmarc", "own"])
def test_a_server_that_does_not_answer_is_no_missing_record(kind: str) -> None:
    findings = asyncio.run(look(kind, Zone({}, down=True)))
    assert {finding.state for finding in findings} == {"warn"}


def test_serve_says_where_it_listens_and_drains_at_sigterm(shop: Zegel) -> None:
    smtp, web = free_port(), free_port()
    text = (
        CONFIG.replace("2525", str(smtp))
        + f'[web]\naddress = "127.0.0.1:{web}"\npublic_url = "http://127.0.0.1:{web}"\n'
    )
    shop.config.write_text(text)
    served = Served(shop.config)
    try:
        said = served.ready()
        others = {path.name for path in (shop.config.parent / "data").iterdir() if not path.name.startswith("zegel.db")}
        assert others and not [name for name in others if not OWN_FILES.match(name)], "checks.py must know them all"
        assert f"127.0.0.1:{smtp}" in said and f"http://127.0.0.1:{web}/outbox (for this machine only" in said
        with socket.create_connection(("127.0.0.1", smtp), timeout=10) as client:
            assert client.recv(100).startswith(b"220 localhost ESMTP")
        second = Served(shop.config)
        assert second.ready() == ""
        code, error = second.end()
        assert code == 3 and "another process owns this data folder" in error
        findings = {finding["check"]: finding["state"] for finding in shop.ask("doctor", "--offline")}
        assert findings["gateway"] == "ok"
    finally:
        code, error = served.end()
    assert code == 0, error


def test_a_port_that_is_taken_is_told(shop: Zegel) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shop.config.write_text(CONFIG.replace("2525", str(port)) + f'[web]\naddress = "127.0.0.1:{free_port()}"\n')
        served = Served(shop.config)
        assert served.ready() == ""
        code, error = served.end()
    assert code == 3 and f"cannot listen on 127.0.0.1 port {port}" in error and "Traceback" not in error
