"""Mail that OpenSSL or GnuPG signed still verifies with them behind the gateway, whatever the gateway mended (MSG-6)."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.gateway import DOMAIN, Gateway
from tests.clients.installed import need, run
from tests.clients.sink import Sink
from tests.clients.verify import with_dkimpy

# Blanks at line ends, dots, a From line and 8-bit letters: what careless servers change.
CONTENT = (
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Déjà vu  \r\n.\r\n..\r\n\r\nFrom here\r\n\tthe end \r\n"
).encode()
# A long header and two fields to take out, so that the gateway has work on the head (MSG-5, CC-15).
HEAD = (
    f"From: jan@{DOMAIN}\r\nTo: piet@receiver.example\r\nBcc: secret@receiver.example\r\nReturn-Path: <x@y.example>\r\n"
    f"Subject: sealed\r\nReferences: {' '.join(f'<{n:030}@{DOMAIN}>' for n in range(30))}\r\nMIME-Version: 1.0\r\n"
)


def cross(gateway: Gateway, sink: Sink, raw: bytes, recipient: str) -> bytes:
    """What arrived of `raw`; its signature by the gateway verifies."""
    context = ssl.create_default_context(cafile=gateway.certificates.authority)
    with smtplib.SMTP_SSL("localhost", gateway.submissions, context=context, timeout=30) as client:
        client.login(*gateway.logins["personal"])
        client.sendmail(f"jan@{DOMAIN}", [recipient], raw, ["BODY=8BITMIME"])
    content = sink.for_recipient(recipient).content
    assert with_dkimpy(content, gateway.dkim) == [True]
    assert b"Bcc:" not in content and max(map(len, content.split(b"\r\n"))) <= 998
    return content


def test_an_smime_signature_holds(gateway: Gateway, sink: Sink, tmp_path: Path) -> None:
    openssl = need("openssl", "openssl")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "own.pem", "-days", "1"]
    run([openssl, *made, "-subj", f"/CN=Jan/emailAddress=jan@{DOMAIN}"], folder=tmp_path)
    (tmp_path / "content").write_bytes(CONTENT)
    sign = ["smime", "-sign", "-in", "content", "-signer", "own.pem", "-inkey", "key.pem", "-binary", "-crlfeol"]
    sealed = run([openssl, *sign], folder=tmp_path).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    raw = HEAD.encode().replace(b"MIME-Version: 1.0\r\n", b"") + sealed
    (tmp_path / "arrived").write_bytes(cross(gateway, sink, raw, "smime@receiver.example"))
    verify = ["smime", "-verify", "-in", "arrived", "-CAfile", "own.pem", "-purpose", "any", "-binary", "-crlfeol"]
    assert run([openssl, *verify], folder=tmp_path) == CONTENT


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[list[str]]:
    """A gpg command with a fresh key of its own; its agent ends with the test."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    command = [need("gpg", "gnupg"), "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
    run(
        [*command, "--passphrase", "", "--quick-generate-key", f"jan@{DOMAIN}", "ed25519", "sign", "1d"],
        folder=tmp_path,
    )
    yield command
    run([need("gpgconf", "gpgconf"), "--homedir", str(home), "--kill", "all"], folder=tmp_path)


def test_a_pgp_signature_holds(gateway: Gateway, sink: Sink, keys: list[str], tmp_path: Path) -> None:
    content = CONTENT.removesuffix(b"\r\n")  # the last CRLF is the delimiter's (RFC 3156 section 5)
    seal = run([*keys, "--armor", "--detach-sign"], text=content, folder=tmp_path).replace(b"\n", b"\r\n")
    kind = (
        b'Content-Type: multipart/signed; micalg=pgp-sha512;\r\n protocol="application/pgp-signature"; boundary="()b"'
    )
    parts = (b"\r\n", content, b"Content-Type: application/pgp-signature; name=s.asc\r\n\r\n" + seal)
    raw = HEAD.encode() + kind + b"\r\n\r\n" + b"\r\n--()b\r\n".join(parts).lstrip(b"\r\n") + b"\r\n--()b--\r\n"
    arrived = cross(gateway, sink, raw, "pgp@receiver.example")
    _, signed, rest = arrived.split(b"\r\n--()b\r\n" if arrived.count(b"\r\n--()b\r\n") == 2 else b"--()b\r\n", 2)
    assert signed.removesuffix(b"\r\n") == content
    (tmp_path / "signed").write_bytes(signed.removesuffix(b"\r\n"))
    (tmp_path / "seal").write_bytes(rest.partition(b"\r\n\r\n")[2].partition(b"--()b--")[0])
    run([*keys, "--verify", "seal", "signed"], folder=tmp_path)
