"""A bound on what Redis may answer. Its client reads as many octets as an answer announces, and a wrong one announces gigabytes.

Only there, under every kind of client, can it be refused before it is read; there is no setting for it.
"""

from __future__ import annotations

from typing import Any

from redis._parsers.base import _AsyncRESPBase
from redis.exceptions import InvalidResponse

MOST_OCTETS = 4 * 1024 * 1024
"""Of one text in an answer: the largest that is read are the people whom one login knows, and CLUSTER SLOTS."""
_read = _AsyncRESPBase._read


async def _bounded(self: Any, length: int) -> Any:
    if not 0 <= length <= MOST_OCTETS:
        raise InvalidResponse("an answer of no possible size")
    return await _read(self, length)


def bound() -> None:
    """For every connection of this process."""
    _AsyncRESPBase._read = _bounded  # type: ignore[method-assign]
