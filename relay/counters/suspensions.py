"""Which accounts are suspended, as all gateways that share a Redis know it (THROTTLE-9).

One hash: of each account that was ever suspended the digest of its name, its state, and when a person said so. The later word
counts. Redis only carries it: each gateway keeps its own record, so that a Redis which is away or forgets releases nobody.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from relay.counters.contract import CountersUnavailable
from relay.counters.table import digest_of

if TYPE_CHECKING:
    from relay.counters.wire import Wire

KEY = "zegel:{suspended}"
_CHANGED = "v"
_SAID = re.compile(rb"([01]) (\d{1,15}(?:\.\d{1,9})?)")


class Said(NamedTuple):
    """What was said last: `at` in seconds since the epoch. The larger one is the later."""

    at: float
    suspended: bool


NOTHING = Said(0.0, False)


class SharedSuspensions:
    """Over one connection. All raise CountersUnavailable where Redis does not answer as it should."""

    def __init__(self, wire: Wire) -> None:
        from relay.counters.wire import Script  # and with it redis-py, which a node without Redis does not need

        self._suspend = Script("suspend.lua")
        self._wire = wire

    async def changed(self) -> bytes:
        """A word that is another after each change; b"" where nothing was ever said, or all is forgotten."""
        word = await self._wire.ask("HGET", KEY, _CHANGED)
        if word is not None and not isinstance(word, bytes):
            raise CountersUnavailable("WrongAnswer")
        return word or b""

    async def known(self) -> Mapping[str, Said]:
        """By `field_of`. What is no record of ours is passed over."""
        answer = await self._wire.ask("HGETALL", KEY)
        if not isinstance(answer, dict):
            raise CountersUnavailable("WrongAnswer")
        found = {}
        for field, value in answer.items():
            match = _SAID.fullmatch(value) if isinstance(value, bytes) else None
            if match is not None:
                found[field.decode("ascii", "replace")] = Said(float(match[2]), match[1] == b"1")
        return found

    async def tell(self, said: Mapping[str, Said], *, latest: float) -> None:
        """Make it known, unless something later is; what says it is from after `latest` is not."""
        parts = [f"{latest:.0f}"]
        for field, (at, suspended) in said.items():
            parts += (field, "1" if suspended else "0", f"{at:.6f}")
        await self._wire.run(self._suspend, [KEY], secrets.token_urlsafe(9), *parts)

    async def begin_anew(self) -> None:
        """Take away what is no record of ours, so that every gateway tells again what it knows."""
        await self._wire.ask("DEL", KEY)

    async def close(self) -> None:
        await self._wire.close()


@lru_cache(maxsize=32_768)
def field_of(kind: str, name: str) -> str:
    """Under what the account `name` is known: Redis holds no name."""
    return urlsafe_b64encode(digest_of((kind, name))).decode().rstrip("=")


def later(said: Mapping[str, Said], than: Mapping[str, Said], fields: Iterable[str]) -> list[str]:
    """The `fields` of which `said` knows something later."""
    return [field for field in fields if said.get(field, NOTHING) > than.get(field, NOTHING)]
