"""Postfix before the gateway, as a company's mail server that uses it as relayhost; and Postfix behind it, receiving."""

from __future__ import annotations

import email
import email.policy
import smtplib
import ssl
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.clients.certificate import Certificates
from tests.clients.gateway import DOMAIN, Gateway
from tests.clients.postfix import Postfix, need_postfix
from tests.clients.sink import Sink
from tests.clients.verify import VERIFIERS, with_dkimpy

UPSTREAM = f"upstream.{DOMAIN}"


@pytest.fixture(scope="module", params=[False, True], ids=["starttls", "implicit"])
def upstream(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[Postfix]:
    """A mail server of the tenant: everything goes to the gateway, its own bounces included (SMTP-20)."""
    need_postfix()
    port = gateway.submissions if request.param else gateway.submission
    login = gateway.logins["server"]
    files = {
        "passwords": f"[localhost]:{port} {login.username}:{login.password}\n",
        "authority.pem": gateway.certificates.authority.read_text(),
    }
    settings = {
        "myhostname": UPSTREAM,
        "relayhost": f"[localhost]:{port}",
        "smtp_tls_security_level": "secure",
        "smtp_tls_secure_cert_match": "localhost",
        "smtp_tls_CAfile": "{folder}/authority.pem",
        "smtp_tls_wrappermode": "yes" if request.param else "no",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": "texthash:{folder}/passwords",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_use_tls": "yes",
    }
    with Postfix(settings, files) as made:
        yield made


def hand_in(server: Postfix, sender: str, recipient: str, author: str) -> EmailMessage:
    """Give `server` a mail from `sender` whose From is `author`."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = author, recipient, "Groeten uit Zürich"
    mail["Message-ID"], mail["Date"] = f"<{time.monotonic_ns()}@{DOMAIN}>", "Fri, 02 Jan 2026 10:00:00 +0000"
    mail.set_content("Déjà vu\n.\nthe end\n", cte="8bit")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        client.send_message(mail, sender, [recipient])
    return mail


def test_a_relayhost_takes_its_mail(upstream: Postfix, gateway: Gateway, sink: Sink) -> None:
    recipient = f"relayhost-{upstream.port}@receiver.example"
    mail = hand_in(upstream, f"jan@{DOMAIN}", recipient, f"jan@{DOMAIN}")
    received = sink.for_recipient(recipient)
    assert received.sender == f"jan@{DOMAIN}"
    assert with_dkimpy(received.content, gateway.dkim) == [True]
    assert received.content.endswith("\r\n\r\nDéjà vu\r\n.\r\nthe end\r\n".encode())
    arrived = email.message_from_bytes(received.content)
    assert arrived["Message-ID"] == mail["Message-ID"]


def test_its_bounce_comes_back_with_an_empty_sender(upstream: Postfix, gateway: Gateway, sink: Sink) -> None:
    """The gateway refuses a From that is not the tenant's; Postfix tells the sender, from <>, through the gateway."""
    sender = f"bounced-{upstream.port}@{DOMAIN}"
    hand_in(upstream, sender, "somebody@receiver.example", "ceo@other.example")
    received = sink.for_recipient(sender)
    assert received.sender == ""
    assert with_dkimpy(received.content, gateway.dkim) == [True]
    report = email.message_from_bytes(received.content, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    assert str(report["From"]).endswith(f"<MAILER-DAEMON@{UPSTREAM}>") or UPSTREAM in str(report["From"])
    assert b"[ID-1]" in received.content, "the reason of the refusal is in the report"


def test_without_the_right_an_empty_sender_is_refused(gateway: Gateway) -> None:
    context = ssl.create_default_context(cafile=gateway.certificates.authority)
    with smtplib.SMTP_SSL("localhost", gateway.submissions, context=context, timeout=30) as client:
        client.login(*gateway.logins["personal"])
        code, text = client.mail("")
    assert code == 550 and b"[SMTP-20]" in text


@pytest.fixture(scope="module")
def downstream() -> Iterator[Postfix]:
    """A receiving mail server with a mailbox for every address of receiver.example."""
    need_postfix()
    with Postfix({"myhostname": "mx.receiver.example", "virtual_mailbox_domains": "receiver.example"}) as made:
        yield made


def mailbox(server: Postfix, seconds: float = 30.0) -> bytes:
    """The newest mail in the one mailbox, with the line ends of the wire."""
    until = time.monotonic() + seconds
    folder = server.mailboxes / "all" / "new"
    while not (folder.is_dir() and any(folder.iterdir())):
        assert time.monotonic() < until, server.log()[-2000:]
        time.sleep(0.05)
    raw = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    return raw.replace(b"\n", b"\r\n")


def test_postfix_receives_what_was_sent(downstream: Postfix, certificates: Certificates, tmp_path: Path) -> None:
    """Through another mail server into a mailbox: the signature still holds for all who may look."""
    (tmp_path / "gateway").mkdir()
    body = "Déjà vu\r\n.\r\n..\r\n" + "x" * 990 + "\r\n"
    mail = f"From: jan@{DOMAIN}\r\nTo: piet@receiver.example\r\nSubject: hi\r\n\r\n{body}".encode()
    with Gateway(tmp_path / "gateway", certificates, downstream.port) as gateway:
        context = ssl.create_default_context(cafile=certificates.authority)
        with smtplib.SMTP("localhost", gateway.submission, timeout=30) as client:
            client.starttls(context=context)
            client.login(*gateway.logins["personal"])
            client.sendmail(f"jan@{DOMAIN}", ["piet@receiver.example"], mail, ["BODY=8BITMIME"])
        raw = mailbox(downstream)
    assert raw.startswith(b"Return-Path: <jan@sender.example>\r\n")
    assert raw.partition(b"\r\n\r\n")[2] == body.encode()
    for name, verify in VERIFIERS.items():
        assert verify(raw, gateway.dkim, tmp_path) == [True], name
