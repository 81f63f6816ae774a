"""Many processes' numbers as one page for Prometheus, on which counters never fall when a process dies."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from relay.observe.registry import AnyMetric, Counter, Gauge, Histogram, Snapshot

Series = dict[tuple[str, ...], Any]
_TOGETHER: dict[str, Callable[[float, float], float]] = {"sum": operator.add, "max": max, "min": min}


class Base:
    """The last numbers of processes that are gone: what they counted stays counted."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def add(self, snapshot: Snapshot) -> None:
        """Keep a dead process's last snapshot. Its gauges are ignored later on: a dead process has no sessions."""
        self.snapshots.append(snapshot)
        if len(self.snapshots) > 1:
            self.snapshots = [_folded(self.snapshots)]


class _Page(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def merge(catalogue: Sequence[AnyMetric], snapshots: Sequence[Snapshot], base: Base) -> str:
    """Prometheus text (0.0.4) of `snapshots`, one per living process, on top of `base`."""
    registry = CollectorRegistry()
    registry.register(_Page([_family(metric, snapshots, base) for metric in catalogue]))
    return generate_latest(registry).decode()


def together(catalogue: Sequence[AnyMetric], snapshots: Sequence[Snapshot], base: Base) -> Snapshot:
    """The same numbers as one snapshot, for programs of ours."""
    whole = _folded([*base.snapshots, *snapshots])
    for metric in catalogue:
        if isinstance(metric, Gauge):
            whole[metric.name] = [[list(labels), value] for labels, value in _levels(metric, snapshots).items()]
    return whole


def _family(metric: AnyMetric, snapshots: Sequence[Snapshot], base: Base) -> Family:
    names = [label.name for label in metric.labels]
    if isinstance(metric, Gauge):
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=names)
        for labels, value in sorted(_levels(metric, snapshots).items()):
            gauge.add_metric(labels, value)
        return gauge
    total: Series = {}
    for snapshot in (*base.snapshots, *snapshots):
        _sum(total, snapshot.get(metric.name, ()))
    if isinstance(metric, Counter):
        counter = CounterMetricFamily(metric.name, metric.help, labels=names)
        for labels, value in sorted(total.items()):
            counter.add_metric(labels, value)
        return counter
    histogram = HistogramMetricFamily(metric.name, metric.help, labels=names)
    for labels, numbers in sorted(total.items()):
        histogram.add_metric(labels, _buckets(metric, numbers), numbers[-1])
    return histogram


def _levels(metric: Gauge, snapshots: Sequence[Snapshot]) -> Series:
    levels: Series = {}
    for snapshot in snapshots:
        for labels, value in snapshot.get(metric.name, ()):
            key = tuple(labels)
            before = levels.get(key)
            if before is None:
                levels[key] = value
            else:
                levels[key] = _TOGETHER[metric.merge](before, value)
    return levels


def _buckets(metric: Histogram, numbers: Sequence[float]) -> list[tuple[str, float]]:
    """Prometheus' buckets: each holds all that is below its bound."""
    buckets: list[tuple[str, float]] = []
    below = 0.0
    for bound, count in zip((*metric.bounds, float("inf")), numbers, strict=False):
        below += count
        buckets.append((str(floatToGoString(bound)), below))  # type: ignore[no-untyped-call]  # untyped there
    return buckets


def _sum(total: Series, entries: Iterable[Sequence[Any]]) -> None:
    """Add one snapshot's series of one metric. Numbers of another shape (older code's buckets) are left out."""
    for labels, value in entries:
        key = tuple(labels)
        before = total.get(key)
        if before is None:
            total[key] = list(value) if isinstance(value, list) else value
        elif isinstance(value, list):
            if len(value) == len(before):
                total[key] = [a + b for a, b in zip(before, value, strict=True)]
        else:
            total[key] = before + value


def _folded(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Several snapshots as one, so that a process that dies a thousand times costs no memory."""
    folded: Snapshot = {}
    for name in {name for snapshot in snapshots for name in snapshot}:
        total: Series = {}
        for snapshot in snapshots:
            _sum(total, snapshot.get(name, ()))
        folded[name] = [[list(labels), value] for labels, value in total.items()]
    return folded
