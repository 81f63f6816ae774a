"""The last 1,000 deliveries of one sender, in 300 octets: what became of each, and when he was complained about. Pure.

Two bits for each delivery, in the order in which they came to an end. What is told later (a bounce that came back as mail) turns
the newest delivery that counts as delivered into a bounce, so that nothing is counted twice. Of complaints the nine newest are
kept with the number of deliveries that there were; nine in a thousand is three times what pauses anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SIZE = 1_000
LASTING_LEVEL = 3  # relay.reputation.judge: paused, which only a person lifts
RING_BYTES = SIZE // 4
MOST_COMPLAINTS = 9
DELIVERED, BOUNCED, UNKNOWN, REFUSED = range(4)
"""What became of one delivery: arrived; refused for good because of the address or its mailbox; because there is no such
address (5.1.1); refused for good for another reason, which says nothing about the list.
"""
_LOW = int.from_bytes(b"\x55" * RING_BYTES, "little")
_WORD = 0xFFFF_FFFF


class Tally(NamedTuple):
    """What is in a window. `bounces` has unknown addresses in it; those of the `first` 50 ever and of the `last` 100 are
    counted for themselves. `total` is all deliveries since it began.
    """

    total: int = 0
    deliveries: int = 0
    bounces: int = 0
    refusals: int = 0
    complaints: int = 0
    first_unknown: int = 0
    last_unknown: int = 0

    @property
    def delivered(self) -> int:
        return self.deliveries - self.bounces - self.refusals


class News(NamedTuple):
    """What is added at once: how deliveries ended, in order; what is told later of earlier ones; how many complained."""

    ended: bytes = b""  # a code for each
    late: bytes = b""
    complaints: int = 0


class Window(NamedTuple):
    """One window. `level` and `since` (whole seconds) are of relay.reputation: how the sender stands, and since when."""

    total: int = 0
    level: int = 0
    since: int = 0
    ring: bytes = bytes(RING_BYTES)
    complaints: Sequence[int] = (0,) * MOST_COMPLAINTS  # numbers of deliveries, from 1; 0: none


EMPTY = Window()
FIRST, LAST = 50, 100


def added(window: Window, news: News) -> Window:
    """The window with `news` in it."""
    total = window.total + len(news.ended)
    newest = news.ended[-SIZE:]
    ring = _appended(window.ring, total - len(newest), newest)
    if news.late:
        total = _told_later(ring, total, news.late)
    positions = _in_window(window.complaints, total)
    positions += [(total + 1) & _WORD or _WORD] * news.complaints
    kept = positions[-MOST_COMPLAINTS:]
    return window._replace(total=total, ring=bytes(ring), complaints=(*kept, *[0] * (MOST_COMPLAINTS - len(kept))))


def _appended(ring: bytes, place: int, codes: bytes) -> bytearray:
    """The ring with `codes` from the delivery numbered `place` on. Nearly all are DELIVERED, so that costs next to nothing."""
    start, count = place % SIZE, len(codes)
    before_end = min(count, SIZE - start)
    bits = int.from_bytes(ring, "little")
    bits &= ~(_ones(before_end) << 2 * start) & ~_ones(count - before_end)
    made = bytearray(bits.to_bytes(RING_BYTES, "little"))
    if codes.count(DELIVERED) < count:
        for number, code in enumerate(codes, start):
            if code:
                _put(made, number % SIZE, code)
    return made


def _ones(deliveries: int) -> int:
    return (1 << 2 * deliveries) - 1


def _told_later(ring: bytearray, total: int, late: bytes) -> int:
    """Turn the newest delivered ones into what is told of them; a bounce of nothing that we know is a delivery of its own."""
    place = total
    oldest = max(0, total - SIZE)
    for code in late:
        while place > oldest and _get(ring, (place - 1) % SIZE) != DELIVERED:
            place -= 1
        if place > oldest:
            _put(ring, (place - 1) % SIZE, code)
        else:
            _put(ring, total % SIZE, code)
            total += 1
            oldest = max(0, total - SIZE)
    return total


def _get(ring: bytearray, place: int) -> int:
    return ring[place >> 2] >> ((place & 3) << 1) & 3


def _put(ring: bytearray, place: int, code: int) -> None:
    shift = (place & 3) << 1
    ring[place >> 2] = ring[place >> 2] & ~(3 << shift) & 0xFF | code << shift


def _in_window(complaints: Sequence[int], total: int) -> list[int]:
    return [at for at in complaints if at and (total + 1 - at) & _WORD < SIZE]


def tally(window: Window) -> Tally:
    """What is in it."""
    total = window.total
    bits = int.from_bytes(window.ring, "little")
    low, high = bits & _LOW, bits >> 1 & _LOW
    unknown = high & ~low
    first = _count(unknown, 0, min(total, FIRST)) if total <= SIZE else 0
    return Tally(
        total=total,
        deliveries=min(total, SIZE),
        bounces=(low ^ high).bit_count(),
        refusals=(low & high).bit_count(),
        complaints=len(_in_window(window.complaints, total)),
        first_unknown=first,
        last_unknown=_newest(unknown, total),
    )


def _count(bits: int, start: int, stop: int) -> int:
    return (bits >> 2 * start & _ones(stop - start)).bit_count()


def _newest(unknown: int, total: int) -> int:
    """Of the newest LAST deliveries."""
    many = min(total, LAST)
    end = total % SIZE
    if end >= many:
        return _count(unknown, end - many, end)
    return _count(unknown, 0, end) + _count(unknown, SIZE - (many - end), SIZE)
