"""Queue rows at rest: AES-256-GCM with a key outside the data folder (GDPR-19).

A sealed blob is `key id (4) | nonce (12) | ciphertext and tag`. The row's id is bound in, so that rows cannot be swapped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_ID_BYTES = 4
NONCE_BYTES = 12


class CorruptRow(Exception):
    """The blob does not open: bytes changed, or the key is gone."""


class Cipher:
    """Seals and opens with the current key; opens with every key that is live."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        self.renew(keys, current)

    def renew(self, keys: Mapping[int, bytes], current: int) -> None:
        """Take other keys, after a rotation; other threads may be sealing meanwhile."""
        self._keys = {number.to_bytes(KEY_ID_BYTES, "big"): AESGCM(key) for number, key in keys.items()}
        name = current.to_bytes(KEY_ID_BYTES, "big")
        self._current = (name, self._keys[name].encrypt)  # one value: a name never goes with another key

    def seal(self, number: int, data: bytes) -> bytes:
        """The encrypted blob of `data`, bound to the row `number`."""
        return b"".join(self.seal_parts(number, data))

    def seal_parts(self, number: int, data: bytes) -> tuple[bytes, bytes]:
        """The blob in two parts, for data of megabytes, which must not lie in memory a third time."""
        nonce = os.urandom(NONCE_BYTES)
        name, encrypt = self._current
        return name + nonce, encrypt(nonce, data, number.to_bytes(8, "big"))

    def open(self, number: int, blob: bytes) -> bytes:
        """What `seal` was given. Raises CorruptRow."""
        key = self._keys.get(bytes(blob[:KEY_ID_BYTES]))
        if key is None:
            raise CorruptRow("key")
        nonce = blob[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
        try:
            return key.decrypt(nonce, memoryview(blob)[KEY_ID_BYTES + NONCE_BYTES :], number.to_bytes(8, "big"))
        except InvalidTag:
            raise CorruptRow("tag") from None
