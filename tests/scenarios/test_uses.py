"""Over a real gateway: the proof tells of each mailing by the record that it rested on, and nothing of it is lost at a stop."""

from __future__ import annotations

import pytest

from relay.backup.take import Backup
from relay.keyring import Keyring
from relay.owner import Owner
from relay.store.uses import FOLDER
from tests.harness.gateway import AGREED, Gateway, _Places
from tests.harness.post import post
from tests.scenarios.conftest import Start

INJECT = {"unsubscribe": {"missing": "inject"}}
NEWS = (
    b"From: Shop <info@sender.example>\r\nTo: list@dest.example\r\nSubject: News\r\n\r\n"
    b"News. Unsubscribe: {unsubscribe}\r\n"
)
ANN, BOB = AGREED


def rested(gateway: Gateway, address: str) -> list[tuple[str, str, str]]:
    found = gateway.op("consent.proof", tenant="shop", address=address)["mails"]
    return [(row["queue_id"], row["rule"], row["basis"]) for row in found]


@pytest.mark.parametrize("mode", ["smarthost", "capture"])
def test_each_mailing_that_arrived_is_in_the_proof(start: Start, mode: str) -> None:
    gateway, _ = start(workers=2, policies=INJECT, delivery={"mode": mode})
    ids = [post(gateway, "marketing", AGREED, NEWS).queue_id for _ in range(3)]
    post(gateway, "transactional", [ANN], NEWS.replace(b"Unsubscribe: {unsubscribe}", b"It is on its way."))
    gateway.until(lambda: len(rested(gateway, BOB)) == 3, 20.0, "no use records")
    gateway.until(lambda: not gateway.queued(), 20.0, "mail is left")
    expected = sorted((number, "CONSENT-1", "consent") for number in ids)
    assert sorted(rested(gateway, ANN)) == sorted(rested(gateway, BOB)) == expected
    counted = 'zegel_use_records_total{rested="record"}'
    gateway.until(lambda: gateway.metric(counted) == 6, 20.0, "not counted")
    gateway.op("consent.withdraw", tenant="shop", address=BOB)
    assert BOB in post(gateway, "marketing", AGREED, NEWS).refused
    gateway.until(lambda: len(rested(gateway, ANN)) == 4, 20.0, "no use record")
    assert sorted(rested(gateway, BOB)) == expected, "who left had no more"


def test_what_was_delivered_the_moment_before_a_stop_is_written_down(start: Start) -> None:
    gateway, hop = start(workers=1, policies=INJECT)
    ids = {post(gateway, "marketing", [ANN], NEWS).queue_id for _ in range(20)}
    hop.wait(20)
    gateway.stop()
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    with Owner.open(_Places(gateway.settings), keyring) as owner:
        found = owner.call("consent.proof", {"tenant": "shop", "address": ANN})
    assert isinstance(found, dict)
    assert {row["queue_id"] for row in found["mails"]} == ids
    backup = Backup(gateway.settings, version="", progress=lambda octets: None)
    data = gateway.settings.server.data_dir
    assert {path.parent.name for path in backup._files(data) if path.suffix == ".uses"} == {FOLDER}
    for path in (gateway.settings.server.data_dir / FOLDER).iterdir():
        assert b"ann" not in path.read_bytes()
