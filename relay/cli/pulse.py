"""What `zegel top` tells: two looks at a gateway's numbers, and what happened between them. Pure.

A look is the answer of the control socket to `metrics.live`. Everything here is without an address: it comes from metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from relay.observe.alarms import standing
from relay.observe.metrics import ACCEPT_SECONDS, LOOP_LAG
from relay.observe.registry import Histogram, Snapshot

Labels = tuple[str, ...]
Record = dict[str, Any]
MOST_ROWS = 10


class Look(NamedTuple):
    """The numbers at a moment (wall clock)."""

    at: float
    numbers: Snapshot
    processes: Sequence[Mapping[str, Any]]


def pulse(before: Look, now: Look) -> Record:
    """The gateway between two looks, as a JSON object. Rates are per second, and 0 where a restart lies between."""
    seconds = max(0.001, now.at - before.at)
    restarted = _one(before.numbers, "zegel_start_time_seconds") != _one(now.numbers, "zegel_start_time_seconds")
    past: Snapshot = now.numbers if restarted else before.numbers

    def rates(name: str, place: int) -> dict[str, float]:
        old, new = _sums(past, name, place), _sums(now.numbers, name, place)
        return {key: round(max(0.0, value - old.get(key, 0.0)) / seconds, 3) for key, value in new.items()}

    numbers = now.numbers
    queue = {key: int(value) for key, value in _sums(numbers, "zegel_queue_messages", 0).items()}
    queue |= {
        "held": int(_one(numbers, "zegel_held_messages")),
        "corrupt": int(_one(numbers, "zegel_queue_corrupt_rows")),
    }
    return {
        "at": now.at,
        "seconds": round(seconds, 3),
        "uptime_seconds": max(0.0, now.at - _one(numbers, "zegel_start_time_seconds")),
        "in": rates("zegel_messages_total", 1),
        "out": rates("zegel_deliveries_total", 1),
        "queue": queue,
        "oldest_seconds": _sums(numbers, "zegel_queue_age_seconds", 0)
        | {"held": _one(numbers, "zegel_held_oldest_seconds")},
        "reply_seconds": _quantile(ACCEPT_SECONDS, past, numbers, 0.99),
        "loop_lag_seconds": _quantile(LOOP_LAG, past, numbers, 0.99),
        "refusals": _rows("rule", rates("zegel_refusals_total", 0), _sums(numbers, "zegel_refusals_total", 0)),
        "tenants": _tenants(rates("zegel_tenant_messages_total", 0), numbers),
        "throttled": rates("zegel_throttled_total", 0),
        "processes": [_process(each, before, seconds) for each in now.processes],
        "trouble": standing(now.at, numbers),
    }


def _series(numbers: Snapshot, name: str) -> Iterable[tuple[Labels, Any]]:
    return ((tuple(labels), value) for labels, value in numbers.get(name, ()))


def _sums(numbers: Snapshot, name: str, place: int) -> dict[str, float]:
    """Values of a metric by its label number `place`, over all others."""
    found: dict[str, float] = {}
    for labels, value in _series(numbers, name):
        found[labels[place]] = found.get(labels[place], 0.0) + value
    return found


def _one(numbers: Snapshot, name: str) -> float:
    """The value of a metric without labels."""
    return next((float(value) for _, value in _series(numbers, name)), 0.0)


def _rows(name: str, rates: Mapping[str, float], totals: Mapping[str, float]) -> list[Record]:
    """What happens most now, then what happened most; at most MOST_ROWS."""
    busiest = sorted(totals, key=lambda key: (-rates.get(key, 0.0), -totals[key], key))
    return [
        {name: key, "per_second": rates.get(key, 0.0), "total": int(totals[key])} for key in busiest if totals[key]
    ][:MOST_ROWS]


def _tenants(rates: Mapping[str, float], numbers: Snapshot) -> list[Record]:
    refused: dict[str, int] = {}
    for (tenant, verdict), value in _series(numbers, "zegel_tenant_messages_total"):
        if verdict == "reject":
            refused[tenant] = int(value)
    rows = _rows("tenant", rates, _sums(numbers, "zegel_tenant_messages_total", 0))
    return [row | {"refused": refused.get(row["tenant"], 0)} for row in rows]


def _process(process: Mapping[str, Any], before: Look, seconds: float) -> Record:
    """One process; its pace counts from nothing where it was started in between."""
    same = next((each for each in before.processes if each["pid"] == process["pid"]), None)
    old = sum(_sums(same["numbers"], "zegel_messages_total", 1).values()) if same is not None else 0.0
    new = sum(_sums(process["numbers"], "zegel_messages_total", 1).values())
    return {
        "kind": process["kind"],
        "place": process["place"],
        "pid": process["pid"],
        "state": process["state"],
        "sessions": int(_one(process["numbers"], "zegel_smtp_sessions")),
        "per_second": round(max(0.0, new - old) / seconds, 3),
    }


def _quantile(metric: Histogram, before: Snapshot, now: Snapshot, share: float) -> float | None:
    """The bound below which `share` of what was seen between the looks lies; None when nothing was."""
    new = next((value for _, value in _series(now, metric.name)), None)
    if new is None:
        return None
    old = next((value for _, value in _series(before, metric.name)), [0] * len(new))
    counts = [after - earlier for after, earlier in zip(new[:-1], old[:-1], strict=True)]
    if sum(counts) <= 0:
        return None
    below, rank = 0.0, share * sum(counts)
    for bound, count in zip((*metric.bounds, metric.bounds[-1]), counts, strict=True):
        below += count
        if below >= rank:
            return float(bound)
    return float(metric.bounds[-1])
