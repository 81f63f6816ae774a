"""The disk of the shared database fills up: changes are refused with what to do, mail goes on, and all by itself after."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from relay.cli.demo_setup import config_text
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.keyring import Keyring
from relay.serve.ownership import WRITE_FAILED
from tests.faults.world import fill
from tests.harness.gateway import MESSAGE, SENDER, Gateway, consent_row
from tests.relay.cli.conftest import Zegel


def ask(gateway: Gateway, path: str, body: bytes | None = None, key: str = "") -> tuple[int, str]:
    """Status and text of a request to the web process."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{gateway.settings.web.public_url}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def one_click(gateway: Gateway, address: str) -> int:
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    token = make(keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=person_hash(keyring, 1, address))
    return ask(gateway, f"/u/{token}", b"List-Unsubscribe=One-Click")[0]


def mail(gateway: Gateway, login: str, to: str) -> str:
    with gateway.connect() as client:
        client.login(*gateway.logins[login])
        for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{to}>", "DATA"):
            reply = client.ask(command)
            if reply[0] not in "23":
                return reply
        client.send(MESSAGE + b".\r\n")
        return client.reply()


def test_the_disk_of_the_database_alone_fills_up(tmp_path: Path, disk: Path) -> None:
    """Changes are refused with what to do, never halfway, mail goes on, and so do changes once there is room."""
    gateway = Gateway(tmp_path, workers=1, storage={"database": f"sqlite:///{disk / 'zegel.db'}"})
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    zegel = Zegel(config)
    gateway.start()
    try:
        key = gateway.op("apikey.add", tenant="shop", name="form")["secret"]
        gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(f"p{n}@dest.example") for n in range(100)])
        assert one_click(gateway, "ann@dest.example") == 200
        ballast = fill(disk, 0)
        entry = json.dumps({"email": "carl@dest.example", "scope": "all", "reason": "objection"}).encode()
        gateway.until(lambda: ask(gateway, "/api/v1/suppressions", entry, key)[0] == 503, 10.0, "not refused")
        assert one_click(gateway, "bob@dest.example") == 503
        event = json.dumps({**consent_row("new@dest.example"), "event": "given"}).encode()
        assert ask(gateway, "/api/v1/consents", event, key)[0] == 503
        for words in (("suppression", "add", "shop", "carl@dest.example"), ("tenant", "add", "new"), ("dkim", "list")):
            told = zegel(*words)
            assert (told.code, "make room" in told.err) == ((0, False) if "list" in words else (3, True)), told
        assert json.loads(ask(gateway, "/readyz")[1])["reasons"] == [WRITE_FAILED]
        assert gateway.metric("zegel_store_usable") == 0.0
        for number in range(20):
            assert mail(gateway, "transactional", f"order{number}@dest.example").startswith("250")
        assert mail(gateway, "marketing", "ann@dest.example").startswith("550"), "who left stays away"
        ballast.unlink()
        gateway.until(lambda: json.loads(ask(gateway, "/readyz")[1])["ready"], 10.0, "not ready again")
        assert one_click(gateway, "bob@dest.example") == 200
        assert zegel("suppression", "add", "shop", "carl@dest.example").code == 0
        assert gateway.op("consent.verify", tenant="shop")["ok"]
        assert mail(gateway, "marketing", "bob@dest.example").startswith("550")
        assert len(gateway.sink.wait(20)) == 20
    finally:
        gateway.stop()
    assert "crashed" not in (gateway.folder / "gateway.log").read_text()


def test_a_command_without_a_gateway_says_what_to_do_on_a_full_disk(tmp_path: Path, disk: Path) -> None:
    gateway = Gateway(tmp_path, workers=1, storage={"database": f"sqlite:///{disk / 'zegel.db'}"})
    gateway.sink.close()
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    zegel = Zegel(config)
    ballast = fill(disk, 0)
    told = zegel("tenant", "add", "new")
    assert told.code == 3 and ("make room" in told.err or "zegel doctor" in told.err), told
    ballast.unlink()
    assert zegel("tenant", "add", "new").code == 0
