"""TLS for listeners: a renewed certificate holds from the next handshake on, and no session is dropped (SMTP-2).

A context into which a second pair is loaded keeps the first one too when the kinds of key differ (RSA, then P-256), and a
client may still be shown the old one. So each pair gets a context of its own, and the callback for the server name,
which runs in every handshake whether a name is sent or not, puts the current one in.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509


class CertificateError(Exception):
    """The certificate or key cannot be used; the text says which file and what to do."""


class Shield:
    """TLS of one listener. `context` is for the listener; `reload` reads the files again.

    `expires_at` is when the certificate in force runs out.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises CertificateError."""
        self._files = (certificate, key)
        self._current = self.context = _fresh(certificate, key)
        self.expires_at = _end_of(certificate)
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Raises CertificateError, and then the old pair stays in force."""
        self._current = _fresh(*self._files)
        self.expires_at = _end_of(self._files[0])

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def _end_of(certificate: Path) -> float:
    """When the first certificate of a file that could be loaded runs out."""
    with_chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    return with_chain[0].not_valid_after_utc.timestamp()


def _fresh(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server context: TLS 1.2 or newer, no compression, no client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"{certificate} and {key} are no usable pair ({error.__class__.__name__}); "
            "write a PEM certificate chain and its private key, readable by the gateway"
        ) from error
    return context
