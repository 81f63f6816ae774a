"""TLS contexts for the outgoing side: verified against the host name unless the operator chose otherwise (OUT-13)."""

from __future__ import annotations

import ssl
from pathlib import Path


def context(*, verify: bool, ca_file: Path | None = None) -> ssl.SSLContext:
    """A client context for TLS 1.2 and newer (SMTP-2). `ca_file`: trust these authorities instead of the system's.

    Raises ValueError with the remedy when `ca_file` cannot be used.
    """
    try:
        made = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"delivery ca_file {ca_file}: {error}; name a readable PEM file with certificates") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def why(error: BaseException) -> str:
    """What went wrong in a handshake, in words for an operator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or 'no reason given'}"
    if isinstance(error, TimeoutError):
        return "TLS handshake timed out"
    return "connection lost during the TLS handshake"
