"""A next hop that refuses our login and repeats it: the log, the trace and what lies in the data folder hold nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.harness.gateway import Gateway
from tests.harness.moody import OFFERS, Moody
from tests.harness.post import letter, post
from tests.harness.sink import Arrived
from tests.scenarios.conftest import Start

PASSPHRASE = "relay-user has a blue cat"


def repeats(line: str, message: Arrived) -> bytes | None:
    if line.startswith("AUTH"):
        return b"535 5.7.8 no: " + PASSPHRASE.encode() + b", for " + line.encode()
    return None


def told_of_the_peer(gateway: Gateway) -> list[str]:
    """What the log says of the next hop."""
    lines = (gateway.folder / "gateway.log").read_text().splitlines()
    events = [json.loads(line) for line in lines if '"peer.' in line]
    return [event["why"] for event in events if event.get("stage") == "auth"]


def test_a_passphrase_that_the_next_hop_repeats_is_kept_nowhere(start: Start, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    login = {"username": "relay-user", "password_file": str(secret)}
    gateway, _ = start(hop=Moody((*OFFERS, "AUTH PLAIN"), repeats), delivery=login)
    queue_id = post(gateway, "personal", ["ann@dest.example"], letter("To: ann@dest.example", "Subject: x")).queue_id
    gateway.until(lambda: bool(told_of_the_peer(gateway)), 10.0, "the log does not tell of the login")
    assert set(told_of_the_peer(gateway)) == {"535 5.7.8 no: ..., for AUTH PLAIN ..."}
    shown = gateway.op("queue.show", id=queue_id)
    assert shown and "blue cat" not in json.dumps(shown)
    gateway.stop()
    kept = [gateway.folder / "gateway.log", *(path for path in (tmp_path / "data").rglob("*") if path.is_file())]
    assert [path.name for path in kept if b"blue cat" in path.read_bytes()] == []
