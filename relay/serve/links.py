"""The links that each copy of a mail carries for its own recipient: to leave, and to what is held about him."""

from __future__ import annotations

import sqlite3

from relay.consent.lookup import Lookup
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind
from relay.consent.token import make as make_token
from relay.delivery.render import Links
from relay.keyring import Keyring
from relay.spool.item import Item


class OwnLinks:
    """Makes them; `public_url` is where the pages are."""

    def __init__(self, keyring: Keyring, lookup: Lookup, public_url: str) -> None:
        self._keyring = keyring
        self._lookup = lookup
        self._url = public_url.rstrip("/")

    def __call__(self, item: Item, recipient: str) -> Links:
        subject = self._subject_of(item.tenant, recipient)
        purpose, tenant = item.meta["purpose"], item.tenant
        subscriber = item.meta.get("subscriber", "")
        unsubscribe, my = (
            make_token(self._keyring, kind, tenant, purpose=purpose, subject_hash=subject, subscriber=subscriber)
            for kind in (TokenKind.UNSUBSCRIBE, TokenKind.MY)
        )
        return Links(f"{self._url}/u/{unsubscribe}", f"{self._url}/my/{my}")

    def _subject_of(self, tenant: int, recipient: str) -> bytes:
        try:
            return self._lookup.person_key(tenant, recipient)
        except sqlite3.Error:  # the current key does as well: an objection under it is found
            return person_hash(self._keyring, tenant, recipient)
