"""TLS for listeners: contexts that can take a renewed certificate without dropping a session (SMTP-2)."""

from __future__ import annotations

import ssl
from pathlib import Path


class CertificateError(Exception):
    """The certificate or key cannot be used; the text says which file and what to do."""


def make_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server context: TLS 1.2 or newer, no compression, no client certificates. Raises CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    load(context, certificate, key)
    return context


def load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Put the pair into `context`: sessions from now on get it. Raises CertificateError and leaves the old pair in force."""
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        trial.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"{certificate} and {key} are no usable pair ({error.__class__.__name__}); "
            "write a PEM certificate chain and its private key, readable by the gateway"
        ) from error
    context.load_cert_chain(certificate, key)
