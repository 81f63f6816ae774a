"""Keys are rotated while mail, links, consents and opt-outs made with the older ones are about (UNSUB-15, UNSUB-20)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.cli.demo_setup import config_text
from relay.keyring import Keyring
from tests.harness.gateway import Gateway, consent_row
from tests.harness.moody import Moody
from tests.harness.post import mail
from tests.harness.web import one_click
from tests.relay.cli.conftest import Zegel
from tests.scenarios.conftest import Start

IN_FORCE_SECONDS = 2.0
NEWS = (
    b"From: Shop <info@sender.example>\r\nTo: list@dest.example\r\nSubject: News\r\n\r\n"
    b"News. Unsubscribe: {unsubscribe}\r\n"
)
INJECT = {"unsubscribe": {"missing": "inject"}}


def news(gateway: Gateway, to: str) -> str:
    return mail(gateway, "marketing", to, NEWS)


def link_to(hop: Moody, gateway: Gateway, to: str) -> str:
    """The one-click link in a mail that arrived."""
    gateway.until(lambda: any(to in "".join(m.rcpt) for m in hop.arrived), 10.0, f"nothing came for {to}")
    head = next(m.head for m in reversed(hop.arrived) if to in "".join(m.rcpt)).replace("\r\n ", " ")
    found = re.search(r"<(http://[^>]*/u/[^>]*)>", head)
    assert found, head
    return found[1]


@pytest.fixture
def shop(start: Start) -> Iterator[tuple[Gateway, Moody]]:
    gateway, hop = start(workers=2, policies=INJECT)
    names = ("old", "leaver", "early", "kept", "both", "again")
    rows = [consent_row(f"{name}@dest.example") for name in names]
    assert not gateway.op("consent.import_rows", tenant="shop", rows=rows)["refused"]
    yield gateway, hop


def zegel(gateway: Gateway) -> Zegel:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    return Zegel(config)


def current(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["kind"]: row["number"] for row in rows if row["state"] == "current"}


def rotate(gateway: Gateway, *kinds: str) -> None:
    """By the command, and wait until each is in force."""
    command = zegel(gateway)
    for kind in kinds:
        made = command.ask("keys", "rotate", kind)
        gateway.within(
            lambda kind=kind, made=made: current(command.ask("keys", "list"))[kind] == made["number"],
            IN_FORCE_SECONDS,
            f"{kind} is not in force within two seconds",
        )


def test_what_was_made_under_older_keys_goes_on_working(shop: tuple[Gateway, Moody]) -> None:
    gateway, hop = shop
    gateway.op("consent.withdraw", tenant="shop", address="leaver@dest.example")
    assert news(gateway, "old@dest.example").startswith("250")
    assert news(gateway, "both@dest.example").startswith("250")
    link = link_to(hop, gateway, "old@dest.example")
    hop.down()
    assert mail(gateway, "transactional", "waiting@dest.example").startswith("250")
    rotate(gateway, "hash", "token", "queue", "hash")
    # Consents and opt-outs are found under every key.
    assert news(gateway, "kept@dest.example").startswith("250")
    assert news(gateway, "leaver@dest.example").startswith("550")
    assert news(gateway, "nobody@dest.example").startswith("550")
    # What was sealed under the older key is delivered, by these processes and by the next.
    hop.up()
    gateway.until(lambda: any("waiting@" in "".join(m.rcpt) for m in hop.arrived), 20.0, "the mail did not leave")
    # A link of before, and one of now for a person of before.
    assert one_click(link) == 200
    assert news(gateway, "old@dest.example").startswith("550")
    fresh = link_to(hop, gateway, "kept@dest.example")
    assert one_click(fresh) == 200
    assert news(gateway, "kept@dest.example").startswith("550")
    shown = gateway.op("consent.show", tenant="shop", address="kept@dest.example")
    assert [row["status"] for row in shown["consents"]] == ["objected"], "the consent of before has not ended"
    # The same record once more is no news.
    again = gateway.op("consent.import_rows", tenant="shop", rows=[consent_row("again@dest.example")])
    assert (again["imported"], again["unchanged"]) == (1, 1)
    assert gateway.op("consent.verify", tenant="shop")["ok"]
    gateway.settle(20.0)
    assert gateway.metric("zegel_queue_corrupt_rows") == 0.0


def test_a_suppression_of_the_second_of_a_rotation_holds(shop: tuple[Gateway, Moody]) -> None:
    """Written by the owner at any moment of it, and asked of workers that may not have the new key yet."""
    gateway, _ = shop
    people = [f"swift{number}@dest.example" for number in range(150)]
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(address) for address in people])
    rotated = gateway.op("keys.rotate", kind="hash")
    for address in people:
        # A restriction leaves the consent as it is: nothing but this entry stands in the way.
        gateway.op("suppression.add", tenant="shop", address=address, reason="restriction")
        assert news(gateway, address).startswith("550"), address
    gateway.within(lambda: current(gateway.op("keys.list"))["hash"] == rotated["number"], IN_FORCE_SECONDS, "too late")


def test_keys_are_rotated_without_a_gateway_and_the_queue_is_opened_by_the_next(
    shop: tuple[Gateway, Moody], tmp_path: Path
) -> None:
    gateway, hop = shop
    link_of = "early@dest.example"
    assert news(gateway, link_of).startswith("250")
    link = link_to(hop, gateway, link_of)
    hop.down()
    assert mail(gateway, "transactional", "waiting@dest.example").startswith("250")
    assert gateway.process is not None
    gateway.process.terminate()
    gateway.wait()
    command = zegel(gateway)
    for kind in ("queue", "hash", "token"):
        assert command.ask("keys", "rotate", kind)["older"] == [1]
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    assert (keyring.current_queue_key_id, keyring.current_token_key_id) == (2, 2)
    refused = command("keys", "rotate", "digest")
    assert refused.code == 2
    gateway.start()
    hop.up()
    gateway.until(lambda: any("waiting@" in "".join(m.rcpt) for m in hop.arrived), 20.0, "the mail did not leave")
    assert one_click(link) == 200
    assert news(gateway, link_of).startswith("550")


def test_the_command_teaches_and_shows_no_secret(shop: tuple[Gateway, Moody]) -> None:
    gateway, _ = shop
    command = zegel(gateway)
    helped = command("keys", "rotate", "--help", config=False)
    assert "older keys stay" in " ".join(helped.out.split()) and "zegel keys rotate token" in helped.out
    text = (gateway.settings.server.keys_dir / "keyring.json").read_text()
    secrets = re.findall(r'"secret": "([^"]+)"', text)
    told = command("keys", "list").out + command("keys", "list", "--json").out + command("keys", "rotate", "queue").out
    assert secrets and not any(secret in told for secret in secrets)
