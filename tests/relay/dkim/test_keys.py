"""Keys: what is made, what is refused, what is published and what DNS shows beside it (DKIM-2, -3, -8, -9)."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path

import oracle
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relay.dkim.keys import (
    ED25519,
    RSA,
    BadKey,
    Match,
    check,
    dns_record,
    generate,
    load_pem,
    revoked_record,
    verify_with_dkimpy,
)
from relay.dkim.sign import SigningKey

HERE = Path(__file__).parent
CASES = tomllib.loads((HERE / "keys.toml").read_text("utf-8"))["case"]


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL if not passphrase else PrivateFormat.PKCS8, encryption
    )


def load(pem: bytes, *, allow_short: bool = False) -> SigningKey | BadKey:
    return load_pem(pem, "Shop.example", "g1", allow_short=allow_short)


def test_new_keys_are_rsa_2048_or_ed25519() -> None:
    made = load(generate("shop.example", "g1"))
    assert isinstance(made, SigningKey) and isinstance(made.key, rsa.RSAPrivateKey)
    assert (made.key.key_size, made.algorithm, made.domain) == (2048, RSA, "shop.example")
    other = load(generate("shop.example", "g1", ED25519))
    assert isinstance(other, SigningKey) and other.algorithm == ED25519


@pytest.mark.parametrize(
    ("domain", "selector", "algorithm"),
    [
        ("shop", "g1", RSA),
        ("shop.example\r\nx", "g1", RSA),
        ("b\u00fccher.test", "g1", RSA),
        ("shop.example", "", RSA),
        ("shop.example", "a b", RSA),
        ("shop.example", "g1;", RSA),
        ("shop.example", "g1", "rsa-sha1"),
    ],
)
def test_names_that_cannot_be_are_refused(domain: str, selector: str, algorithm: str) -> None:
    with pytest.raises(ValueError, match=r"domain|selector|algorithm"):
        generate(domain, selector, algorithm)


def test_1024_bits_need_the_override_and_1023_never_pass() -> None:
    short = pem_of(rsa.generate_private_key(65537, 1024))
    refused = load(short)
    assert isinstance(refused, BadKey) and "1024 bits is too short" in refused.why
    assert isinstance(load(short, allow_short=True), SigningKey)


def test_512_bits_are_refused_whatever_is_allowed() -> None:
    tiny = (HERE / "rsa-512.pem").read_bytes()
    for allow_short in (False, True):
        assert isinstance(load(tiny, allow_short=allow_short), BadKey)


def test_other_keys_and_other_files_are_refused_with_a_sentence() -> None:
    curve = load(pem_of(ec.generate_private_key(ec.SECP256R1())))
    assert isinstance(curve, BadKey) and "another kind" in curve.why
    locked = load(pem_of(rsa.generate_private_key(65537, 2048), b"secret"))
    assert isinstance(locked, BadKey) and "passphrase" in locked.why
    for junk in (b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        found = load(junk)
        assert isinstance(found, BadKey) and "cannot be read" in found.why


def test_a_name_that_cannot_be_is_no_key() -> None:
    found = load_pem(oracle.pem(RSA), "shop.example", "a b")
    assert isinstance(found, BadKey) and "selector" in found.why


def test_the_record_to_publish_and_its_strings_for_a_zone_file() -> None:
    record = dns_record(oracle.key())
    assert (record.name, record.type) == ("g1._domainkey.shop.example", "TXT")
    assert record.value.startswith("v=DKIM1; k=rsa; p=MIIB")
    strings = re.findall(r'"([^"]*)"', record.zone)
    assert len(strings) == 2 and max(map(len, strings)) <= 255 and "".join(strings) == record.value
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", dns_record(oracle.key(ED25519)).value)


def public(key: rsa.RSAPrivateKey, form: PublicFormat) -> str:
    pem = key.public_key().public_bytes(Encoding.PEM, form).decode()
    return "".join(pem.splitlines()[1:-1])


def fill(text: str) -> str:
    ours = oracle.key().key
    assert isinstance(ours, rsa.RSAPrivateKey)
    p = public(ours, PublicFormat.SubjectPublicKeyInfo)
    other = (
        public(rsa.generate_private_key(65537, 2048), PublicFormat.SubjectPublicKeyInfo) if "{other}" in text else ""
    )
    pieces = "\r\n\t ".join(textwrap.wrap(p, 60))
    return text.format(p=p, other=other, p_in_pieces=pieces, pkcs1=public(ours, PublicFormat.PKCS1))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["records"]))
def test_what_dns_shows_beside_our_key(case: dict[str, object]) -> None:
    records = case["records"]
    assert isinstance(records, list)
    found = check([fill(text) for text in records], oracle.key())
    assert found.match == case["match"] and str(case["sentence"]) in found.sentence, found


def test_an_ed25519_record_matches_its_key_only() -> None:
    key = oracle.key(ED25519)
    assert check([dns_record(key).value], key).match is Match.MATCHES
    another = load(generate("shop.example", "g1", ED25519))
    assert isinstance(another, SigningKey)
    assert check([dns_record(another).value], key).match is Match.DIFFERS
    assert check(["v=DKIM1; k=ed25519; p=QUJD"], key).match is Match.MALFORMED


def test_a_revoked_key_is_published_without_p() -> None:
    record = revoked_record("shop.example", "g1")
    assert record.value == "v=DKIM1; p="
    assert check([record.value], oracle.key()).match is Match.DIFFERS


SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=x.test; s=a; bh=AAAA; h=from; b=AAAA\r\n"


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"Subject : x\r\n\r\n", "not a message"),
        (b" first\r\n\r\n", "not a message"),
        (b"DKIM-Signature: a=b=c;;\r\nFrom: a\r\n\r\n", ""),
        (
            b"DKIM-Signature: v=1; a=rsa-md5; d=x.test; s=a; bh=AAAA; h=from; b=AAAA\r\nFrom: a\r\n\r\n",
            "unknown signature",
        ),
        (SIGNATURE + b"From: a\r\n\r\nx\r\n", "key is missing"),
    ],
)
def test_bad_signatures_are_answers_not_crashes(raw: bytes, word: str) -> None:
    [found] = verify_with_dkimpy(raw, lambda name: None)
    assert not found.good and found.sentence and word in found.sentence


@pytest.mark.parametrize(
    "record", ["", "v=DKIM1; p=", "v=DKIM1; p=*", "v=DKIM1; k=ed25519; p=AAAA", "junk", "v=DKIM1; p=\u00e9"]
)
def test_bad_records_are_answers_not_crashes(record: str) -> None:
    [found] = verify_with_dkimpy(SIGNATURE + b"From: a\r\n\r\nx\r\n", lambda name: record)
    assert not found.good and found.sentence
    assert (found.domain, found.selector, found.algorithm) == ("x.test", "a", "rsa-sha256")


def test_a_message_without_signatures_has_no_verdicts() -> None:
    assert verify_with_dkimpy(b"From: a\r\n\r\nx\r\n", lambda name: None) == []
