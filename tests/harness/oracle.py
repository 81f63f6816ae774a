"""Signatures of delivered mail, looked at by dkimpy with the public keys of the gateway's own keyring."""

from __future__ import annotations

import base64

import dkim
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relay.keyring import Keyring
from relay.settings.model import Settings


def verified(raw: bytes, settings: Settings) -> bool:
    """Whether the message has a signature of ours and its topmost one verifies."""
    keyring = Keyring.open(settings.server.keys_dir, create=False)

    def record(name: bytes, timeout: int = 5) -> bytes:
        selector, _, domain = name.decode().rstrip(".").partition("._domainkey.")
        pem = keyring.load_dkim(domain, selector)
        assert pem is not None, name
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)  # it is our own
        public = key.public_key()
        if isinstance(key, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return b"v=DKIM1; k=rsa; p=" + base64.b64encode(octets)
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(octets)

    return bool(dkim.verify(raw, dnsfunc=record))
