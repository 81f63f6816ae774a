"""What `zegel doctor` sees of TLS from outside: the certificate that clients are shown, beside the one in the file."""

from __future__ import annotations

import smtplib
import socket
import ssl
from typing import TYPE_CHECKING

from relay.cli.findings import Finding, ok, wrong

if TYPE_CHECKING:
    from relay.settings.model import Listener, Settings

SECONDS = 5.0
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def tls(settings: Settings) -> list[Finding]:
    """Every listener with a certificate, while the gateway runs; not those that a balancer alone may talk to."""
    from relay.cli.client import is_running

    if not is_running(settings):
        return []
    return [
        _look(entry)
        for entry in settings.listener
        if entry.certificate is not None and entry.tls != "off" and not entry.proxy_protocol
    ]


def _look(listener: Listener) -> Finding:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    name = f"{listener.kind} at {listener.endpoint}"
    assert listener.certificate is not None, "the caller looked"
    wanted = x509.load_pem_x509_certificates(listener.certificate.read_bytes())[0].public_bytes(Encoding.DER)
    try:
        version, shown = _shown(listener)
    except (OSError, smtplib.SMTPException) as error:
        return wrong(
            "TLS", f"{name}: no TLS ({error})", "Look at the log of the gateway, and at what answers at that port"
        )
    if shown != wanted:
        remedy = "Send SIGHUP to the gateway (`systemctl reload zegel`), and look whether its log says settings.refused"
        return wrong("TLS", f"{name} shows another certificate than {listener.certificate}", remedy)
    return ok("TLS", f"{name} shows {listener.certificate} ({version})")


def _shown(listener: Listener) -> tuple[str, bytes]:
    """Version of TLS and the certificate, as any client gets them. Raises OSError or SMTPException."""
    host = _HERE.get(listener.endpoint.host, listener.endpoint.host)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whom it is for is another check
    if listener.kind == "submissions":
        with (
            socket.create_connection((host, listener.endpoint.port), timeout=SECONDS) as plain,
            context.wrap_socket(plain) as sock,
        ):
            return sock.version() or "", sock.getpeercert(binary_form=True) or b""
    with smtplib.SMTP(host, listener.endpoint.port, local_hostname="localhost", timeout=SECONDS) as smtp:
        smtp.starttls(context=context)
        assert isinstance(smtp.sock, ssl.SSLSocket), "STARTTLS was accepted"
        return smtp.sock.version() or "", smtp.sock.getpeercert(binary_form=True) or b""
