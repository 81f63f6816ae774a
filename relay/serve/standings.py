"""How senders stand, as metrics: of every tenant the ratios and how many of its senders are held back."""

from __future__ import annotations

from collections import Counter

from relay.counters.contract import CountersUnavailable
from relay.counters.ring import tally
from relay.directory import Directory
from relay.observe import metrics
from relay.reputation.book import Book, place_of
from relay.reputation.judge import Level
from relay.reputation.rows import seats

HELD_BACK = (Level.WARN, Level.REVIEW, Level.PAUSED)


class Standings:
    """Sets the gauges. What has a value keeps one: a ratio of too little mail, or of a tenant that is gone, is 0."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._shown: set[str] = set()  # tenants with a value

    async def measure(self, directory: Directory, now: float) -> None:
        """Raises nothing for want of Redis: what was known stays."""
        gone = self._shown.copy()
        try:
            for tenant in directory.tenants():
                gone.discard(tenant.name)
                counted = tally(await self._book.windows.get(place_of(tenant.id, "tenant", ""), now))
                if not counted.total and tenant.name not in self._shown:
                    continue
                bounces, complaints = self._book.ratios(counted)
                self._set(tenant.name, bounces or 0.0, complaints or 0.0)
                found = seats(tenant, directory.credentials_of(tenant))
                levels = Counter(self._book.windows.level(seat.place) for seat in found)
                for level in HELD_BACK:
                    metrics.SENDERS.set(levels[level], (tenant.name, level.word))
        except CountersUnavailable:
            return
        for name in gone:
            self._set(name, 0.0, 0.0)
            self._shown.discard(name)
            for level in HELD_BACK:
                metrics.SENDERS.set(0, (name, level.word))

    def _set(self, name: str, bounces: float, complaints: float) -> None:
        self._shown.add(name)
        metrics.BOUNCE_RATIO.set(bounces, (name,))
        metrics.COMPLAINT_RATIO.set(complaints, (name,))
