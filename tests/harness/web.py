"""Asking the web process of a gateway, as a browser, a mailbox provider or a tenant's program does."""

from __future__ import annotations

import urllib.error
import urllib.request

from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.keyring import Keyring
from tests.harness.gateway import Gateway


def fetch(url: str, body: bytes | None = None, *, key: str = "") -> tuple[int, str]:
    """Status and text of a GET, or of a POST of `body`; `key` is a tenant's."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask(gateway: Gateway, path: str, body: bytes | None = None, *, key: str = "") -> tuple[int, str]:
    return fetch(f"{gateway.settings.web.public_url}{path}", body, key=key)


def one_click(link: str) -> int:
    """Status of an opt-out by an unsubscribe link, as a mailbox provider does it."""
    return fetch(link, b"List-Unsubscribe=One-Click")[0]


def leave(gateway: Gateway, address: str) -> int:
    """The same for `address`, by the link that is in the newsletter's mail."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    subject = person_hash(keyring, 1, address)
    token = make(keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=subject)
    return one_click(f"{gateway.settings.web.public_url}/u/{token}")
