"""Tokens: they name a person to us alone, for ever, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.consent import token
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind
from relay.keyring import Keyring, Kind


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "keys", create=True)


def _make(keyring: Keyring, subscriber: str = "4711") -> str:
    digest = person_hash(keyring, 7, "Jan+nieuws@x.test")
    return token.make(
        keyring, TokenKind.UNSUBSCRIBE, 7, purpose="newsletter", subject_hash=digest, subscriber=subscriber
    )


def test_a_token_comes_back_whole(keyring: Keyring) -> None:
    read = token.read(keyring, _make(keyring, "klant ë 12"))
    assert read is not None
    assert (read.kind, read.tenant_id, read.purpose, read.subscriber) == (
        TokenKind.UNSUBSCRIBE,
        7,
        "newsletter",
        "klant ë 12",
    )
    assert read.subject_hash == person_hash(keyring, 7, "jan@x.test")  # wide: the key of the suppression store


def test_every_changed_character_is_refused(keyring: Keyring) -> None:
    """UNSUB-5."""
    text = _make(keyring)
    for index in range(len(text)):
        other = "A" if text[index] != "A" else "B"
        assert token.read(keyring, text[:index] + other + text[index + 1 :]) is None, index


@pytest.mark.parametrize("text", ["", "x", "A" * 100, "A" * 2_000, "ë" * 100, "====", "a b", "\0"])
def test_rubbish_is_refused(keyring: Keyring, text: str) -> None:
    assert token.read(keyring, text) is None


def test_cut_or_lengthened_is_refused(keyring: Keyring) -> None:
    text = _make(keyring)
    for other in (text[:-1], text + "A", text + "=", text[4:], " " + text):
        assert token.read(keyring, other) is None


def test_a_token_of_another_gateway_is_refused(keyring: Keyring, tmp_path: Path) -> None:
    other = Keyring.open(tmp_path / "other", create=True)
    assert token.read(other, _make(keyring)) is None


def test_two_tokens_of_one_person_differ_and_hold_nothing_in_clear(keyring: Keyring) -> None:
    import base64

    first, second = _make(keyring), _make(keyring)
    assert first != second
    raw = base64.urlsafe_b64decode(first + "=" * (-len(first) % 4))
    assert b"newsletter" not in raw and b"4711" not in raw and b"jan" not in raw


def test_a_token_outlives_its_key_being_replaced(keyring: Keyring) -> None:
    """UNSUB-15."""
    text = _make(keyring)
    keyring.rotate(Kind.TOKEN, now=1.0)
    reopened = Keyring.open(keyring.keys_dir, create=False)
    assert token.read(reopened, text) is not None
    newer = token.read(reopened, _make(reopened))
    assert newer is not None and newer.key_id == 2


def test_a_subscriber_id_has_a_limit(keyring: Keyring) -> None:
    assert token.read(keyring, _make(keyring, "x" * 255)) is not None
    with pytest.raises(ValueError, match="255"):
        _make(keyring, "x" * 256)
