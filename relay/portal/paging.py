"""Cursors of lists: where to go on, sealed, so that nobody reads or makes one, or uses it for another list or tenant."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any

import orjson
from fastapi import HTTPException, Query

from relay.keyring import Keyring
from relay.spool.cipher import Cipher, CorruptRow

Limit = Annotated[int, Query(ge=1, le=200, description="Rows looked at for one page.")]
Cursor = Annotated[
    str, Query(max_length=1_000, description="The `next` of the page before; nothing for the first page.")
]


def sealed(keyring: Keyring, of: str, place: Any) -> str | None:
    """The cursor of `place` in the list `of`, which names its tenant too; None at the end of the list."""
    if place is None:
        return None
    blob = _cipher(keyring).seal(_number(of), orjson.dumps(place))
    return base64.urlsafe_b64encode(blob).decode().rstrip("=")


def opened(keyring: Keyring, of: str, cursor: str) -> Any:
    """The place; None for an empty cursor. Raises HTTPException 422 for one that is not of this list."""
    if not cursor:
        return None
    try:
        blob = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return orjson.loads(_cipher(keyring).open(_number(of), blob))
    except (ValueError, binascii.Error, CorruptRow):
        raise HTTPException(422, "this cursor is not of this list: begin again without one") from None


def _cipher(keyring: Keyring) -> Cipher:
    return Cipher(keyring.queue_keys, keyring.current_queue_key_id)


def _number(of: str) -> int:
    return int.from_bytes(hashlib.sha256(of.encode()).digest()[:8], "big")
