"""The disk of the shared database fills up: changes are refused with what to do, mail goes on, and all by itself after."""

from __future__ import annotations

import json
from pathlib import Path

from relay.cli.demo_setup import config_text
from relay.serve.ownership import WRITE_FAILED
from tests.faults.disk import fill
from tests.harness.gateway import Gateway, consent_row
from tests.harness.post import mail
from tests.harness.web import ask, leave
from tests.relay.cli.conftest import Zegel


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
        assert leave(gateway, "ann@dest.example") == 200
        ballast = fill(disk, 0)
        entry = json.dumps({"email": "carl@dest.example", "scope": "all", "reason": "objection"}).encode()
        gateway.until(lambda: ask(gateway, "/api/v1/suppressions", entry, key=key)[0] == 503, 10.0, "not refused")
        assert leave(gateway, "bob@dest.example") == 503
        event = json.dumps({**consent_row("new@dest.example"), "event": "given"}).encode()
        assert ask(gateway, "/api/v1/consents", event, key=key)[0] == 503
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
        assert leave(gateway, "bob@dest.example") == 200
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
