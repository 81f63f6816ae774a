"""CLASS-7 over real SMTP: a tool's confirmation mails are counted before they are taken, not after."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.gateway import SENDER, Gateway
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer

TO = "new@dest.example"
MAIL = (
    f"From: Shop <{SENDER}>\r\nTo: {TO}\r\nSubject: Please confirm\r\nX-Zegel-Class: confirm\r\n\r\n"
    "You asked for our newsletter. Confirm: https://sender.example/confirm/1\r\n"
)


@pytest.fixture(params=["embedded", "redis"])
def counters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "embedded":
        yield "embedded"
        return
    server = RedisServer(tmp_path / "redis", free_ports(1)[0], "--save", "").start()
    yield server.url
    server.stop()


@pytest.fixture
def gateway(tmp_path: Path, counters: str) -> Iterator[Gateway]:
    made = Gateway(tmp_path, workers=1, storage={"counters": counters})
    try:
        yield made.start()
    finally:
        made.stop()


def test_of_a_burst_of_confirmations_two_are_taken(gateway: Gateway) -> None:
    """Where Redis counts the limits, all of the burst wait for it between being judged and being taken."""
    gateway.op("consent.request", tenant="shop", address=TO, purpose="newsletter")

    def send(_: int) -> int:
        with smtplib.SMTP("127.0.0.1", gateway.doors["plain"].port, timeout=20.0) as client:
            client.login(*gateway.logins["marketing"])
            client.mail(SENDER)
            answer = client.rcpt(TO)[0]
            return answer if answer != 250 else client.data(MAIL)[0]

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(send, range(8)))
    assert answers == [250, 250] + [550] * 6
