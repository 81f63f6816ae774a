"""The ring against a list that keeps everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.counters.ring import (
    BOUNCED,
    DELIVERED,
    EMPTY,
    FIRST,
    LAST,
    MOST_COMPLAINTS,
    REFUSED,
    SIZE,
    UNKNOWN,
    News,
    Tally,
    Window,
    added,
    tally,
)
from tests.harness.many import examples

CODES = st.sampled_from((DELIVERED, BOUNCED, UNKNOWN, REFUSED))
RUNS = st.lists(st.tuples(CODES, st.integers(1, 700)), max_size=4).map(
    lambda runs: b"".join(bytes([code]) * count for code, count in runs)
)
LATE = st.lists(st.sampled_from((BOUNCED, UNKNOWN)), max_size=30).map(bytes)
NEWS = st.builds(News, RUNS, LATE, st.integers(0, 12))


class Plain:
    """Every delivery ever, and at which of them each complaint came."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.complaints: list[int] = []

    def add(self, news: News) -> None:
        self.codes += news.ended
        for code in news.late:
            place = next((at for at in self._newest_first() if self.codes[at] == DELIVERED), None)
            if place is None:
                self.codes.append(code)
            else:
                self.codes[place] = code
        self.complaints += [len(self.codes)] * news.complaints

    def _newest_first(self) -> range:
        return range(len(self.codes) - 1, max(0, len(self.codes) - SIZE) - 1, -1)

    def tally(self) -> Tally:
        kept = self.codes[-SIZE:]
        total = len(self.codes)
        return Tally(
            total,
            len(kept),
            sum(code in (BOUNCED, UNKNOWN) for code in kept),
            kept.count(REFUSED),
            min(MOST_COMPLAINTS, sum(total - at < SIZE for at in self.complaints)),
            kept[:FIRST].count(UNKNOWN) if total <= SIZE else 0,
            kept[-LAST:].count(UNKNOWN),
        )


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(NEWS, max_size=8))
def test_the_ring_counts_as_the_list_does(history: list[News]) -> None:
    plain, window = Plain(), EMPTY
    for news in history:
        plain.add(news)
        window = added(window, news)
        assert tally(window) == plain.tally()


def test_a_window_keeps_counting_past_what_a_cell_holds() -> None:
    window = added(Window(total=(1 << 32) - 3), News(bytes(2), b"", 1))
    assert tally(window).complaints == 1
    window = added(window, News(bytes(500)))
    assert tally(window).complaints == 1
    assert tally(added(window, News(bytes(500)))).complaints == 0
