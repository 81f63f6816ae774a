"""Copies of one message: what they share is made once."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from relay.delivery import render as module
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Failed
from relay.delivery.render import Bases, Links, Signer, render
from relay.dkim.sign import SigningKey
from relay.spool.item import Item

KEY = SigningKey("sender.example", "s1", "rsa-sha256", generate_private_key(65537, 2048))
SIGNER = Signer(
    lambda domain, tenant: (KEY,), lambda: 1e9, lambda item, to: Links(f"https://g/u/{to}", f"https://g/my/{to}")
)


def queued(*edits: tuple[str, str, str, str], body: bytes = b"Hello.\r\n") -> Item:
    meta = {"tenant_id": 1, "stream": "marketing", "class": "commercial", "rcpt": [], "utf8": False}
    head = b"From: a@sender.example\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    return Item(1, {**meta, "domain": "sender.example", "edits": list(edits)}, head + body, due=0.0)


@pytest.mark.parametrize(("offers", "fails"), [(False, True), (True, False)])
def test_a_head_in_utf_8_has_a_status_of_its_own(offers: bool, fails: bool) -> None:
    """RFC 6531 section 3.5: 5.6.7 is said of an address."""
    item = queued(("prepend", "Subject", "één", "X"))
    item.meta["utf8"] = True
    made = render(item, "ann@dest.example", Features(eightbitmime=True, smtputf8=offers), SIGNER, {})
    assert (isinstance(made, Failed) and made.status == "5.6.9") is fails


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """The real function, and a note of each call."""
    calls: list[int] = []
    real = getattr(module, name)

    def call(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(module, name, call)
    return calls


@pytest.mark.parametrize("eight_bit", [True, False])
def test_a_thousand_copies_hash_and_convert_the_body_once(monkeypatch: pytest.MonkeyPatch, eight_bit: bool) -> None:
    """DKIM-10, OUT-9."""
    hashes, conversions = counted(monkeypatch, "body_hash"), counted(monkeypatch, "to_7bit")
    item = queued(
        ("to_self", "To", "", "CC-8"), ("unsubscribe", "List-Unsubscribe", "", "UNSUB-16"), body="één\r\n".encode()
    )
    bases: Bases = {}
    peer = Features(eightbitmime=eight_bit)
    copies = [render(item, f"p{number}@dest.example", peer, SIGNER, bases) for number in range(1000)]
    assert len(hashes) == 1 and len(conversions) == (not eight_bit)
    heads = {copy.head for copy in copies if isinstance(copy, Rendered)}
    assert len(heads) == 1000
    assert all(isinstance(copy, Rendered) and copy.is_ascii is not eight_bit for copy in copies)


def test_a_link_that_makes_a_line_too_long_has_it_encoded() -> None:
    """MSG-5."""
    item = queued(("placeholders", "", "", "UNSUB-16"), body=b"x" * 970 + b" {{zegel_unsubscribe}}\r\n")
    copy = render(item, "p" * 60 + "@dest.example", Features(eightbitmime=True), SIGNER, {})
    assert isinstance(copy, Rendered)
    assert max(map(len, bytes(copy.body).split(b"\r\n"))) <= 76 and b"quoted-printable" in copy.head
