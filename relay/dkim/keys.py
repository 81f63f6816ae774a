"""DKIM keys: making, loading, publishing, and whether what DNS shows is what we sign with (DKIM-2, -3, -8, -9)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import dkim
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from relay.dkim.sign import SigningKey

RSA, ED25519 = "rsa-sha256", "ed25519-sha256"
NEW_RSA_BITS = 2048  # some receivers stop there (DKIM-2)
SHORT_RSA_BITS = 1024  # RFC 8301 section 3.2: never below
ZONE_STRING = 255  # octets of one string of a TXT record (RFC 1035 section 3.3.14)

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_BLANK = re.compile(r"[ \t\r\n]+")


class BadKey(NamedTuple):
    """Why a key cannot be used: a sentence for the operator, without key material."""

    why: str


class DnsRecord(NamedTuple):
    """What to publish. `value` is one text; `zone` the same as quoted strings of at most 255 octets."""

    name: str
    type: str
    value: str

    @property
    def zone(self) -> str:
        pieces = [self.value[at : at + ZONE_STRING] for at in range(0, len(self.value), ZONE_STRING)]
        return " ".join(f'"{piece}"' for piece in pieces)


class Match(StrEnum):
    """What DNS shows beside the key we hold."""

    MATCHES = "matches"
    DIFFERS = "differs"
    MISSING = "missing"
    MALFORMED = "malformed"


class Published(NamedTuple):
    """The answer of `check` with a sentence for the operator."""

    match: Match
    sentence: str


class Verified(NamedTuple):
    """What dkimpy says about one DKIM-Signature field; `sentence` says why where it is not `good`."""

    domain: str
    selector: str
    algorithm: str
    good: bool
    sentence: str


def generate(domain: str, selector: str, algorithm: str = RSA) -> bytes:
    """A new private key as PKCS #8 PEM, not encrypted. Raises ValueError for a name or an algorithm that cannot be."""
    _require_names(domain, selector)
    if algorithm == RSA:
        key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = rsa.generate_private_key(65537, NEW_RSA_BITS)
    elif algorithm == ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        raise ValueError(f"algorithm must be {RSA} or {ED25519}")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_pem(
    pem: bytes, domain: str, selector: str, *, allow_short: bool = False, is_new: bool = False
) -> SigningKey | BadKey:
    """The key in `pem` (PKCS #1 or PKCS #8) with its name, or why it is refused.

    RSA under 1024 bits is always refused, under 2048 unless `allow_short` (DKIM-2). One that `is_new` comes from `generate`:
    its numbers are not proven to be primes again, which takes 0.1 s.
    """
    try:
        _require_names(domain, selector)
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=is_new)
    except TypeError:
        return BadKey(
            "the private key is encrypted with a passphrase; store it without one, in a file only we can read"
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        return BadKey(f"the private key cannot be read: {error.args[0] if error.args else 'no PEM'}")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return SigningKey(domain.lower(), selector, ED25519, key)
    if not isinstance(key, rsa.RSAPrivateKey):
        return BadKey("DKIM signs with RSA or Ed25519; this is another kind of key")
    if key.key_size < SHORT_RSA_BITS:
        return BadKey(f"RSA with {key.key_size} bits is forbidden (RFC 8301); make a new key of 2048 bits")
    if key.key_size < NEW_RSA_BITS and not allow_short:
        return BadKey(f"RSA with {key.key_size} bits is too short; make a new key of 2048 bits or allow short keys")
    return SigningKey(domain.lower(), selector, RSA, key)


def _require_names(domain: str, selector: str) -> None:
    if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
        raise ValueError("the domain is not a domain name in A-label form")
    if len(selector) > 63 or not _SELECTOR.fullmatch(selector):
        raise ValueError("the selector may hold letters, digits, hyphens and dots")


def record_name(domain: str, selector: str) -> str:
    """Where the public key is published (RFC 6376 section 3.6.2.1), without a closing dot."""
    return f"{selector}._domainkey.{domain}"


def dns_record(key: SigningKey) -> DnsRecord:
    """The TXT record for a key (RFC 6376 section 3.6.1, RFC 8463 section 4)."""
    kind = "rsa" if key.algorithm == RSA else "ed25519"
    public = b64encode(_public_octets(key)).decode("ascii")
    return DnsRecord(record_name(key.domain, key.selector), "TXT", f"v=DKIM1; k={kind}; p={public}")


def revoked_record(domain: str, selector: str) -> DnsRecord:
    """The TXT record that says a key is no longer in use (DKIM-9)."""
    return DnsRecord(record_name(domain, selector), "TXT", "v=DKIM1; p=")


def _public_octets(key: SigningKey) -> bytes:
    public = key.key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def check(published: Sequence[str], key: SigningKey) -> Published:
    """Whether the TXT records at the key's name (each one whole text) hold its public half (DKIM-8).

    Records that are no key record, such as those of a wildcard, do not count.
    """
    name = record_name(key.domain, key.selector)
    if not published:
        return Published(Match.MISSING, f"no TXT record at {name}")
    readings = [_tags(text) for text in published]
    records = [tags for tags in readings if tags is not None and "p" in tags]
    if not records:
        return Published(Match.MALFORMED, f"the TXT record at {name} is no DKIM key record: it has no p= tag")
    if len(records) > 1:
        return Published(Match.MALFORMED, f"{len(records)} DKIM key records at {name}; there may be only one")
    return _check_tags(records[0], key, name)


def _check_tags(tags: dict[str, str], key: SigningKey, name: str) -> Published:
    kind = "rsa" if key.algorithm == RSA else "ed25519"
    if tags.get("v", "DKIM1") != "DKIM1":
        return Published(Match.MALFORMED, f"the record at {name} must begin with v=DKIM1")
    if not tags["p"]:
        return Published(Match.DIFFERS, f"the key at {name} is revoked: its p= is empty")
    if tags.get("k", "rsa").lower() != kind:
        return Published(
            Match.DIFFERS, f"the record at {name} is for k={tags.get('k', 'rsa')[:32]}, our key is k={kind}"
        )
    if "h" in tags and "sha256" not in tags["h"].lower().split(":"):
        return Published(Match.DIFFERS, f"the record at {name} does not allow sha256 (h= tag)")
    if "s" in tags and not {"*", "email"} & set(tags["s"].lower().split(":")):
        return Published(Match.DIFFERS, f"the record at {name} is not for email (s= tag)")
    try:
        octets = b64decode(tags["p"], validate=True)
    except ValueError:
        return Published(Match.MALFORMED, f"p= at {name} is not base64")
    same = _same_public(octets, key)
    if same is None:
        return Published(Match.MALFORMED, f"p= at {name} is not a public key")
    if not same:
        return Published(Match.DIFFERS, f"the public key at {name} is not the one we sign with")
    if "y" in tags.get("t", "").lower().split(":"):
        return Published(Match.MATCHES, f"the key at {name} is ours, but t=y says it is only a test: remove that flag")
    return Published(Match.MATCHES, f"the key at {name} is ours")


def _tags(text: str) -> dict[str, str] | None:
    """Tags of a key record (RFC 6376 section 3.2), blanks removed; None if it is no tag list."""
    result: dict[str, str] = {}
    for piece in text.split(";"):
        if not piece.strip():
            continue
        name, equals, value = piece.partition("=")
        name = name.strip()
        if not equals or name in result:
            return None
        result[name] = _BLANK.sub("", value)
    return result


def _same_public(octets: bytes, key: SigningKey) -> bool | None:
    ours = key.key.public_key()
    if not isinstance(ours, rsa.RSAPublicKey):
        return octets == _public_octets(key) if len(octets) == 32 else None
    if octets == _public_octets(key):
        return True
    try:
        theirs = load_der_public_key(octets)  # PKCS #1 as well, which RFC 6376 names and few publish
    except (ValueError, UnsupportedAlgorithm):
        return None
    return isinstance(theirs, rsa.RSAPublicKey) and theirs.public_numbers() == ours.public_numbers()


def verify_with_dkimpy(raw: bytes, dnsfunc: Callable[[str], str | None]) -> list[Verified]:
    """dkimpy's opinion of every DKIM-Signature field of a message, topmost first.

    `dnsfunc` gives the TXT record (one text) at a name without its closing dot, None where there is none.
    """

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        text = dnsfunc(name.decode("ascii", "replace").rstrip("."))
        return None if text is None else text.encode("ascii", "replace")

    try:
        verifier = dkim.DKIM(raw)
        count = sum(1 for name, _ in verifier.headers if name.lower() == b"dkim-signature")
    except (dkim.DKIMException, LookupError, ValueError) as error:
        return [Verified("", "", "", False, f"not a message that dkimpy can read: {error}")]
    return [_verified(verifier, index, lookup) for index in range(count)]


def _verified(verifier: dkim.DKIM, index: int, lookup: Callable[..., bytes | None]) -> Verified:
    verifier.signature_fields = {}
    try:
        good = bool(verifier.verify(index, dnsfunc=lookup))
        sentence = "" if good else "the signature does not fit the message or the key is missing or unusable"
    except (dkim.DKIMException, LookupError, ValueError, TypeError) as error:  # what hostile fields provoke in it
        good, sentence = False, str(error)
    tags = {name: value.decode("ascii", "replace") for name, value in verifier.signature_fields.items()}
    return Verified(tags.get(b"d", ""), tags.get(b"s", ""), tags.get(b"a", ""), good, sentence)
