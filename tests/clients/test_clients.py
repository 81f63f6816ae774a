"""Programs that people really use send through the gateway, each with STARTTLS, with implicit TLS, and with a login."""

from __future__ import annotations

import email
import email.policy
import re
from pathlib import Path

import pytest

from tests.clients.conftest import Crossings
from tests.clients.gateway import DOMAIN
from tests.clients.programs import SENDERS, SUBJECT, TEXT
from tests.clients.verify import VERIFIERS, with_dkimpy

programs = pytest.mark.parametrize("program", SENDERS)
tls = pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@programs
@tls
def test_a_mail_arrives_as_it_was_written(crossings: Crossings, program: str, implicit: bool) -> None:
    received = crossings.get(program, implicit=implicit)
    assert received.sender == f"jan@{DOMAIN}"
    message = email.message_from_bytes(received.content, policy=email.policy.default)
    assert not message.defects
    assert str(message["From"]).endswith(f"jan@{DOMAIN}>") or message["From"] == f"jan@{DOMAIN}"
    assert SUBJECT in str(message["Subject"])
    body = message.get_body(("plain",))
    assert body is not None
    text = str(body.get_content())
    if program == "git-send-email":
        assert all(f"+{line}" in lines_of(text) for line in TEXT.split("\n"))
    else:
        assert lines_of(text) == TEXT.split("\n")


@programs
@tls
def test_the_gateway_says_how_it_came(crossings: Crossings, program: str, implicit: bool) -> None:
    """SMTP-22: inside TLS, with a login, and without the client's address."""
    received = crossings.get(program, implicit=implicit)
    head = received.content.partition(b"\r\n\r\n")[0].decode("utf-8")
    trace = re.search(r"^Received: from .*?(?=\r\n\S)", head, re.DOTALL | re.MULTILINE)
    assert trace is not None and "with ESMTPSA id" in trace[0] and "(TLSv1.3 " in trace[0]
    assert not re.search(r"\(\[|\(.*127\.0\.0\.1", trace[0])


@programs
@tls
def test_it_is_signed(crossings: Crossings, program: str, implicit: bool) -> None:
    """DKIM-1, with the library that shares nothing with our signer but the standard."""
    received = crossings.get(program, implicit=implicit)
    assert with_dkimpy(received.content, crossings.gateway.dkim) == [True]


@programs
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_every_verifier_agrees(crossings: Crossings, program: str, verifier: str, tmp_path: Path) -> None:
    received = crossings.get(program, implicit=True)
    records = crossings.gateway.dkim
    assert VERIFIERS[verifier](received.content, records, tmp_path) == [True]
    changed = received.content.replace(b"Subject: ", b"Subject: Fwd: ", 1)
    assert VERIFIERS[verifier](changed, records, tmp_path) == [False], "a verifier that says yes to everything"
