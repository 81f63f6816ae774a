"""`Windows` of all gateways that share a Redis; see relay.counters.windows.

A value is changed by putting a new one in the place of the one that was read. Each has octets of chance in it, so that two
gateways that count the same at the same moment never take the other's value for their own.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Callable

from relay.counters.contract import CountersUnavailable
from relay.counters.ring import EMPTY, MOST_COMPLAINTS, RING_BYTES, News, Window
from relay.counters.table import digest_of
from relay.counters.windows import Judge, Judged, Place, kept_seconds, renewed
from relay.counters.wire import Script, Wire

FOLLOW_SECONDS = 1.0
MAXSWAPS = 64
_BLOB = struct.Struct(f"<16sqBq{RING_BYTES}s{MOST_COMPLAINTS}I")
SWAP, _STAND = Script("swap.lua"), Script("stand.lua")
_STANDING = tuple(f"zegel:{{standing}}:{name}" for name in ("levels", "changes", "releases"))


class SharedWindows:
    """`Windows` of all gateways that share a Redis."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._levels: dict[str, int] = {}
        self._marks = (-1, -1)  # nobody has looked yet

    def level(self, place: Place) -> int:
        return self._levels.get(_field(place), 0) if self._levels else 0

    def marks(self) -> tuple[int, int]:
        return self._marks

    async def add(self, place: Place, news: News, now: float, judge: Judge) -> Judged:
        judged = await self._change(place, now, lambda window: renewed(window, news, now, judge))
        # Also where it did not change: who died after the change may not have said so, and the window of who is silent ends.
        if judged.before or judged.window.level or self.level(place):
            await self._say(place, judged.window.level)
        return judged

    async def get(self, place: Place, now: float) -> Window:
        return _opened(await self._wire.ask("GET", _key(place)))

    async def release(self, place: Place, now: float) -> int:
        judged = await self._change(place, now, lambda window: EMPTY)
        await self._say(place, 0, released=True)
        return judged.before

    async def follow(self) -> None:
        while True:
            try:
                await self.look()
            except CountersUnavailable:
                pass  # what was known holds; the limits tell of it
            await asyncio.sleep(FOLLOW_SECONDS)

    async def look(self) -> None:
        """Take in what has changed. Raises CountersUnavailable."""
        changes, releases = await asyncio.gather(*(self._wire.ask("GET", name) for name in _STANDING[1:]))
        marks = _number(changes), _number(releases)
        if marks == self._marks:
            return
        levels = await self._wire.ask("HGETALL", _STANDING[0])
        if not isinstance(levels, dict):
            raise CountersUnavailable("WrongAnswer")
        self._levels = {bytes(name).decode("ascii", "replace"): _number(level) for name, level in levels.items()}
        self._marks = marks

    async def _change(self, place: Place, now: float, change: Callable[[Window], Window]) -> Judged:
        key, there = _key(place), await self._wire.ask("GET", _key(place)) or b""
        for _ in range(MAXSWAPS):
            before = _opened(there)
            after = change(before)
            kept_ms = int(kept_seconds(after) * 1000)
            new = _BLOB.pack(
                secrets.token_bytes(16), after.total, after.level, after.since, after.ring, *after.complaints
            )
            there = await self._wire.run(SWAP, [key], there, new, kept_ms)
            if there is None:
                return Judged(before.level, after)
        raise CountersUnavailable("Contended")

    async def _say(self, place: Place, level: int, *, released: bool = False) -> None:
        await self._wire.run(_STAND, list(_STANDING), _field(place), str(level), "1" if released else "0")
        await self.look()


def _key(place: Place) -> str:
    return f"zegel:{{t{place.tenant}}}:window:{_field(place)}"


def _field(place: Place) -> str:
    return digest_of(place.name).hex()


def _opened(blob: object) -> Window:
    """Raises CountersUnavailable for what we never wrote."""
    if not blob:
        return EMPTY
    if not isinstance(blob, bytes) or len(blob) != _BLOB.size:
        raise CountersUnavailable("WrongAnswer")
    _, total, level, since, ring, *complaints = _BLOB.unpack(blob)
    return Window(total, level, since, ring, tuple(complaints))


def _number(text: object) -> int:
    if text is None:
        return 0
    if not isinstance(text, bytes) or not text.isdigit():
        raise CountersUnavailable("WrongAnswer")
    return int(text)
