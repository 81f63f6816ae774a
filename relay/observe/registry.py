"""Counters, gauges and histograms as plain numbers in dictionaries: an increment costs a tenth of a microsecond.

Each worker counts for itself; the supervisor adds them up (exposition.py). A label value that is not among those a metric
declares is counted as "other", so that no text from outside ever becomes a label (OPS-1). An instance is used by one thread;
two threads that count the same series at the same moment may lose one count, which is why limits are not kept here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

PREFIX = "zegel_"
OTHER = "other"
MAX_SERIES = 1_000  # of one metric; beyond it everything new is "other"
NO_LABELS: tuple[str, ...] = ()

Values = tuple[str, ...] | re.Pattern[str]
"""What a label may hold: these values, or whatever this pattern matches in full."""


class Label(NamedTuple):
    """One label: its name and what it may hold."""

    name: str
    values: Values
    known: tuple[str, ...] = ()
    """Of a pattern, the values that are there from the start: an increase from nothing to 500 is none for Prometheus."""

    def admits(self, value: str) -> bool:
        if isinstance(self.values, tuple):
            return value in self.values
        return self.values.fullmatch(value) is not None


class Metric:
    """What all kinds share: name, help (one sentence), question that it answers, labels."""

    kind = ""

    def __init__(self, name: str, help_: str, question: str, labels: Sequence[Label] = ()) -> None:
        if not name.startswith(PREFIX):
            raise ValueError(f"{name} lacks the prefix {PREFIX}")
        self.name = name
        self.help = help_
        self.question = question
        self.labels = tuple(labels)
        self.values: dict[tuple[str, ...], Any] = {}

    def _known(self) -> list[tuple[str, ...]]:
        """Every series whose labels are all known beforehand, so that it reads 0 and not nothing."""
        return list(product(*(each.values if isinstance(each.values, tuple) else each.known for each in self.labels)))

    def _admit(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The series that `labels` are counted in, seen for the first time."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has labels {[label.name for label in self.labels]}, not {labels!r}")
        pairs = zip(self.labels, labels, strict=True)
        series = tuple(value if label.admits(value) else OTHER for label, value in pairs)
        if series in self.values:
            return series
        return series if len(self.values) < MAX_SERIES else (OTHER,) * len(labels)


class Counter(Metric):
    """Only rises; its name ends in `_total`."""

    kind = "counter"

    def __init__(self, name: str, help_: str, question: str, labels: Sequence[Label] = ()) -> None:
        super().__init__(name, help_, question, labels)
        self.values: dict[tuple[str, ...], float] = dict.fromkeys(self._known(), 0)

    def inc(self, labels: tuple[str, ...] = NO_LABELS, amount: float = 1) -> None:
        try:
            self.values[labels] += amount
        except KeyError:
            series = self._admit(labels)
            self.values[series] = self.values.get(series, 0) + amount

    def dump(self) -> list[list[Any]]:
        return [[list(labels), value] for labels, value in self.values.items()]


class Gauge(Metric):
    """Goes up and down. `merge` says what several workers make together: the "sum", the "max" or the "min".

    With "min" the labels must not be known beforehand, or the 0 of a process that never set it would win.
    """

    kind = "gauge"

    def __init__(
        self, name: str, help_: str, question: str, labels: Sequence[Label] = (), *, merge: str = "sum"
    ) -> None:
        super().__init__(name, help_, question, labels)
        self.merge = merge
        self.values: dict[tuple[str, ...], float] = dict.fromkeys(self._known(), 0)

    def set(self, value: float, labels: tuple[str, ...] = NO_LABELS) -> None:
        if labels in self.values:
            self.values[labels] = value
        else:
            self.values[self._admit(labels)] = value

    def dump(self) -> list[list[Any]]:
        return [[list(labels), value] for labels, value in self.values.items()]


class Histogram(Metric):
    """How values are spread: counts per bucket, in base units. A series is [count of each bucket ..., sum]."""

    kind = "histogram"

    def __init__(
        self, name: str, help_: str, question: str, labels: Sequence[Label] = (), *, bounds: Sequence[float]
    ) -> None:
        super().__init__(name, help_, question, labels)
        self.bounds = tuple(bounds)
        self.values: dict[tuple[str, ...], list[float]] = {labels: self._empty() for labels in self._known()}

    def _empty(self) -> list[float]:
        return [0] * (len(self.bounds) + 2)

    def observe(self, value: float, labels: tuple[str, ...] = NO_LABELS) -> None:
        series = self.values.get(labels)
        if series is None:
            series = self.values.setdefault(self._admit(labels), self._empty())
        series[bisect_left(self.bounds, value)] += 1
        series[-1] += value

    def dump(self) -> list[list[Any]]:
        return [[list(labels), list(series)] for labels, series in self.values.items()]


AnyMetric = Counter | Gauge | Histogram
Snapshot = dict[str, list[list[Any]]]
"""What one process has counted: metric name to [[label values, number or list of numbers], ...]; fits into JSON."""
