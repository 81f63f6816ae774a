"""A public sign-up form must not stop anybody else's mail (PIPE-1, CLASS-7): who asked, or whom a stranger asked for."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway import AGREED, PACE, SENDER, Gateway, consent_row
from tests.harness.web import fetch, leave

NEWS = (
    f"From: Shop <{SENDER}>\r\nTo: ann@dest.example\r\nSubject: News\r\n"
    "List-Unsubscribe: <https://sender.example/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nHello\r\n"
).encode()
STRANGER = "stranger@dest.example"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path, policies={"throttle": PACE, "unsubscribe": {"missing": "inject"}})
    made.start()
    try:
        made.op("consent.import_rows", tenant="shop", rows=[consent_row(address) for address in AGREED])
        yield made
    finally:
        made.stop()


def ask_for(gateway: Gateway, address: str) -> None:
    """What anybody can do: the public form."""
    key = next(one for one in gateway.op("purpose.list", tenant="shop") if one["name"] == "newsletter")["optin_key"]
    form = urllib.parse.urlencode({"email": address}).encode()
    assert fetch(f"{gateway.settings.web.public_url}/optin/{key}", form)[0] in (200, 202)
    gateway.settle()
    gateway.sink.clear()


def send(gateway: Gateway, recipients: list[str]) -> tuple[list[str], str]:
    """The replies to each RCPT and to the message."""
    with gateway.connect("plain") as client:
        client.login(*gateway.logins["marketing"])
        client.ask(f"MAIL FROM:<{SENDER}>")
        said = [client.ask(f"RCPT TO:<{address}>") for address in recipients]
        client.ask("DATA")
        client.send(NEWS + b".\r\n")
        return said, client.reply()


def delivered(gateway: Gateway) -> list[str]:
    """Who got the newsletter; the sender's own letter about his first refusal (OPS-6) comes before or after."""
    mails = [one for one in list(gateway.sink.arrived) if not one.mail.startswith("MAIL FROM:<>")]
    return sorted(line.partition("<")[2].partition(">")[0] for one in mails for line in one.rcpt)


def test_a_request_by_anybody_costs_the_others_nothing(gateway: Gateway) -> None:
    ask_for(gateway, STRANGER)
    said, end = send(gateway, [*AGREED, STRANGER])
    assert [reply[:3] for reply in said] == ["250", "250", "550"]
    assert "[CONSENT-1]" in said[2]
    assert end.startswith("250")
    gateway.until(lambda: len(delivered(gateway)) >= len(AGREED), 10.0, "not all who agreed got it")
    gateway.settle()
    assert delivered(gateway) == sorted(AGREED)


def test_who_left_and_was_asked_for_again_is_refused_alone(gateway: Gateway) -> None:
    leave(gateway, AGREED[1])
    ask_for(gateway, AGREED[1])
    said, end = send(gateway, list(AGREED))
    assert [reply[:3] for reply in said] == ["250", "550"]
    assert end.startswith("250")


def test_who_may_get_a_confirmation_only_takes_no_company(gateway: Gateway) -> None:
    ask_for(gateway, STRANGER)
    said, end = send(gateway, [STRANGER, *AGREED])
    assert [reply[:9] for reply in said] == ["250 2.1.5", "452 4.5.3", "452 4.5.3"]
    assert end.startswith("550 5.7.1 [CONSENT-1]")
    said, end = send(gateway, list(AGREED))
    assert end.startswith("250")
