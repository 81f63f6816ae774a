"""Over a real gateway: who got a mailing is forgotten 28 days after its invoice, and proof, links and other mail are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.keyring import Keyring
from relay.owner import Owner
from relay.owner.mailings import start_of
from relay.serve.retention import Forgetting
from relay.spool.cipher import Cipher
from relay.spool.item import decode_id, encode_id
from relay.store import history
from relay.trace import who_any
from tests.harness.gateway import AGREED, Gateway, _Places
from tests.harness.post import post
from tests.harness.web import ask, one_click
from tests.scenarios.conftest import Start
from tests.scenarios.test_key_rotation import INJECT, NEWS, link_to, news, rotate

ANN, BOB = AGREED
SPRING = b"X-Zegel-Tag: =?utf-8?q?spring_sale_=E2=82=AC?=\r\n" + NEWS
NAME = "spring sale €"
LETTER = NEWS.replace(b"Unsubscribe: {unsubscribe}", b"It is on its way.")


def mailings(gateway: Gateway, key: str) -> dict[str, dict[str, Any]]:
    status, text = ask(gateway, "/api/v1/mailings", key=key)
    assert status == 200, text
    return {row["mailing"]: row for row in json.loads(text)["mailings"]}


def run_the_job(gateway: Gateway, now: float) -> None:
    """The hourly job of a gateway that has stopped, at another time."""
    settings = gateway.settings
    keyring = Keyring.open(settings.server.keys_dir, create=False)
    with Owner.open(_Places(settings), keyring) as owner:

        async def call(op: str, args: dict[str, Any]) -> Any:
            return owner.call(op, args)

        async def nothing(at: float) -> int:
            return 0

        asyncio.run(Forgetting(call, call, nothing).run(settings, keyring, now))


def test_who_got_a_mailing_is_forgotten_and_nothing_else_is(start: Start) -> None:
    """GDPR-12, and UNSUB-20 after it."""
    gateway, hop = start(workers=2, policies=INJECT)
    key = str(gateway.op("apikey.add", tenant="shop", name="books")["secret"])
    gateway.until(lambda: ask(gateway, "/api/v1/mailings", key=key)[0] == 200, 10.0, "no key")
    spring = [post(gateway, "marketing", AGREED, SPRING).queue_id for _ in range(3)]
    listed = post(gateway, "marketing", [ANN], NEWS).queue_id
    letter = post(gateway, "transactional", [ANN], b"X-Zegel-Tag: spring sale\r\n" + LETTER).queue_id
    hop.wait(8)
    link = link_to(hop, gateway, BOB)
    assert not any("x-zegel" in message.head.lower() for message in hop.arrived)
    gateway.settle()
    gateway.until(
        lambda: sorted(row["mails"] for row in mailings(gateway, key).values()) == [1, 3], 10.0, "not in the log"
    )
    names = mailings(gateway, key)
    assert names[NAME]["mails"] == 3 and next(name for name in names if name != NAME).startswith("newsletter-20")
    today = datetime.now(UTC).date()
    said = json.dumps({"mailing": NAME, "invoice_date": today.isoformat()}).encode()
    status, text = ask(gateway, "/api/v1/mailings", said, key=key)
    assert status == 200 and json.loads(text)["delete_on"] == (today + timedelta(28)).isoformat(), text
    sent = (*spring, listed, letter)
    gateway.until(lambda: all(is_finished(gateway, key, number) for number in sent), 10.0, "not in the log")
    gateway.stop()

    ends = start_of((today + timedelta(28)).isoformat())
    run_the_job(gateway, ends - 1.0)
    assert kept(gateway) == {*spring, listed, letter}
    assert outside(gateway, spring) == [], "each line of a mailing is where mailings are"
    run_the_job(gateway, ends)
    assert kept(gateway) == {listed, letter} and lines(gateway, spring) == []

    gateway.start()
    for number, expected in ((spring[0], 404), (listed, 200), (letter, 200)):
        assert ask(gateway, f"/api/v1/messages/{number}", key=key)[0] == expected
    proof = gateway.op("consent.proof", tenant="shop", address=BOB)["mails"]
    assert {row["queue_id"] for row in proof} == set(spring), "what each rested on is proof, and stays"
    rotate(gateway, "hash", "token")
    assert one_click(link) == 200
    assert news(gateway, BOB).startswith("550") and news(gateway, ANN).startswith("250")


def is_finished(gateway: Gateway, key: str, number: str) -> bool:
    return '"finished"' in ask(gateway, f"/api/v1/messages/{number}", key=key)[1]


def kept(gateway: Gateway) -> set[str]:
    """Messages that the delivery log still has lines of, and finds by their recipients."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    folder = gateway.settings.server.data_dir / "history"
    found = {number for address in AGREED for number in history.find(folder, who_any(keyring, address))}
    return {encode_id(number) for number in found}


def lines(gateway: Gateway, ids: Sequence[str]) -> list[str]:
    """What the delivery log has of messages, in words."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    numbers = [number for one in ids if (number := decode_id(one)) is not None]
    return [event.word for event in history.read(gateway.settings.server.data_dir / "history", numbers, cipher.open)]


def outside(gateway: Gateway, ids: Sequence[str]) -> list[str]:
    """Lines about messages in files that are not of mailings."""
    found = []
    for path in history.paths(gateway.settings.server.data_dir / "history", history.PLAIN):
        with contextlib.closing(sqlite3.connect(path)) as db:
            found += [word for number, word in db.execute("SELECT id, word FROM event") if encode_id(number) in ids]
    return found


def test_what_people_do_with_queued_mail_is_of_its_mailing_too(start: Start) -> None:
    """Held, released, refused with a report, deleted, and struck by an erasure: lines with addresses like the others."""
    gateway, hop = start(workers=1, policies=INJECT)
    hop.down()
    refused, deleted, struck, gone = (
        post(gateway, "marketing", [address], SPRING).queue_id for address in (ANN, ANN, BOB, ANN)
    )
    for number in (refused, deleted):
        gateway.until(lambda number=number: gateway.attempt("queue.hold", id=number) is not None, 10.0, "not held")
    assert gateway.op("queue.release", id=deleted)["id"] == deleted
    gateway.until(lambda: gateway.attempt("queue.delete", id=deleted) is not None, 10.0, "not deleted")
    assert gateway.op("held.refuse", id=refused)["id"] == refused
    gateway.op("consent.erase", tenant="shop", address=BOB)
    expected = {"accepted", "held", "released", "deleted", "refused", "told", "dropped"}
    ids = (refused, deleted, struck, gone)
    gateway.until(lambda: expected <= set(lines(gateway, ids)), 20.0, "not all of it was written down")
    assert outside(gateway, ids) == []
