"""Alarms for those without Prometheus: most of its alerts, judged by the gateway over its own numbers. Pure.

Each condition of alarms.toml is an alert of `monitoring/rules/alerts.yml`, with the same bound and the same patience; a test
holds the two against each other. `Alarms.look` is told the numbers a few times a minute and answers what began, goes on or
is over; `standing` is for a glance.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from operator import itemgetter
from typing import Literal, NamedTuple

from relay.observe import metrics
from relay.observe.registry import Snapshot

DAY = 86_400.0
QUIET_SECONDS = 300.0
"""What is away for less has not ended: it flaps."""
AGAIN_SECONDS = 3600.0
"""One alarm begins and ends once in that time, for who is told."""
Labels = tuple[str, ...]
Form = Literal["above", "at_least", "is", "rises", "peaks", "ends_within", "below_twice"]
Past = Sequence[tuple[float, Snapshot]]
State = Literal["begun", "ongoing", "over"]


class Condition(NamedTuple):
    """One alarm, as alarms.toml explains. `where` are wanted label values in the metric's order; "" is any."""

    name: str
    severity: Literal["critical", "warning"]
    form: Form
    metric: str
    bound: float
    says: str
    than: str = ""
    patience: float = 0.0
    window: float = 0.0
    where: Labels = ()


class Change(NamedTuple):
    """One alarm that has something to tell. `labels` are those that the condition leaves open, as "shop"."""

    condition: Condition
    labels: str
    state: State
    value: float
    since: float
    times: int = 0
    """How often it came back and was not told, since too little time had passed."""


def _load() -> Iterator[Condition]:
    text = resources.files(__package__).joinpath("alarms.toml").read_text("utf-8")
    labels = {metric.name: [label.name for label in metric.labels] for metric in metrics.CATALOGUE}
    for table in tomllib.loads(text)["alarm"]:
        where = table.pop("where", {})
        assert set(where) <= set(labels[table["metric"]]), table["name"]
        yield Condition(**table, where=tuple(where.get(name, "") for name in labels[table["metric"]]))


CONDITIONS = tuple(_load())
_LOOKING_BACK = max(condition.window for condition in CONDITIONS) * 60


class Alarms:
    """What rings. `repeat_seconds` is how often what goes on is told again."""

    def __init__(self, repeat_seconds: float) -> None:
        self._repeat = repeat_seconds
        self._past: list[tuple[float, Snapshot]] = []
        self._since: dict[tuple[str, str], float] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._gone: dict[tuple[str, str], float] = {}  # since when what was told is quiet
        self._begun: dict[tuple[str, str], float] = {}  # when it was last told that it began
        self._again: dict[tuple[str, str], list[float]] = {}  # when it began since then and was not told

    def look(self, at: float, numbers: Snapshot) -> list[Change]:
        """What began, goes on for `repeat_seconds` more, or is over, at `at` (wall clock)."""
        self._remember(at, numbers)
        changes = []
        for condition in CONDITIONS:
            values = _values(condition, at, numbers, self._past)
            for key in [key for key in {**self._since, **self._begun} if key[0] == condition.name]:
                change = None if key[1] in values else self._rest(condition, key, at)
                if change is not None:
                    changes.append(change)
            for labels, value in values.items():
                change = self._ring(condition, labels, value, at)
                if change is not None:
                    changes.append(change)
        return changes

    def _ring(self, condition: Condition, labels: str, value: float, at: float) -> Change | None:
        key = condition.name, labels
        since = self._since.setdefault(key, at)
        self._gone.pop(key, None)
        told = self._told.get(key)
        if at - since < condition.patience * 60 or (told is not None and at - told < self._repeat):
            return None
        if told is None and at - self._begun.get(key, float("-inf")) < AGAIN_SECONDS:
            again = self._again.setdefault(key, [])
            if since not in again[-1:]:
                again.append(since)
            return None
        self._told[key] = at
        if told is not None:
            return Change(condition, labels, "ongoing", value, since)
        self._begun[key] = at
        return Change(condition, labels, "begun", value, since, self._missed(key, since))

    def _rest(self, condition: Condition, key: tuple[str, str], at: float) -> Change | None:
        """Over when it has been quiet for a while; and what came back too soon to be told is told when its hour is over."""
        since = self._since.get(key)
        if key in self._told and since is not None:
            if at - self._gone.setdefault(key, at) < QUIET_SECONDS:
                return None
            for kept in (self._since, self._told, self._gone):
                del kept[key]
            return Change(condition, key[1], "over", 0.0, since)
        self._since.pop(key, None)
        if at - self._begun.get(key, at) < AGAIN_SECONDS:
            return None
        self._begun.pop(key, None)
        if key not in self._again:
            return None
        began = self._again[key][0]
        return Change(condition, key[1], "over", 0.0, began, self._missed(key, at))

    def _missed(self, key: tuple[str, str], since: float) -> int:
        """How often it began before `since` without being told."""
        return len([began for began in self._again.pop(key, []) if began != since])

    def _remember(self, at: float, numbers: Snapshot) -> None:
        """Keep what conditions look back at, for as long as the longest of them does."""
        kept = {each.metric: numbers.get(each.metric, []) for each in CONDITIONS if each.window}
        self._past.append((at, kept))
        if len(self._past) > 1 and self._past[1][0] <= at - _LOOKING_BACK:
            del self._past[: bisect_right(self._past, at - _LOOKING_BACK, key=itemgetter(0)) - 1]


def standing(at: float, numbers: Snapshot) -> list[str]:
    """Names of what is wrong at this moment, without patience; what only a longer look can tell is left out."""
    return [each.name for each in CONDITIONS if each.form != "rises" and _values(each, at, numbers, ())]


def _values(condition: Condition, at: float, numbers: Snapshot, past: Past) -> dict[str, float]:
    """By labels, the values that are as the condition says."""
    metric, bound = condition.metric, condition.bound
    now = _series(condition, numbers.get(metric, ()))
    if condition.form == "rises":
        then = _then(condition, at, past)
        risen = {labels: value - then.get(labels, 0.0) for labels, value in now.items()}
        return {labels: value for labels, value in risen.items() if value > bound}
    if condition.form == "peaks":
        for moment, kept in past:
            if moment > at - condition.window * 60:
                for labels, value in _series(condition, kept.get(metric, ())).items():
                    now[labels] = max(value, now.get(labels, value))
    if condition.form == "below_twice":
        least = _series(condition, numbers.get(condition.than, ()))
        return {labels: value for labels, value in now.items() if value < bound * least.get(labels, 0.0)}
    if condition.form == "ends_within":
        return {labels: value - at for labels, value in now.items() if value - at < bound * DAY}
    return {labels: value for labels, value in now.items() if _holds(condition.form, value, bound)}


def _then(condition: Condition, at: float, past: Past) -> Mapping[str, float]:
    """The series as they were when the window began, or when we began to look."""
    if not past:
        return {}
    began = bisect_right(past, at - condition.window * 60, key=itemgetter(0))
    return _series(condition, past[max(0, began - 1)][1].get(condition.metric, ()))


def _holds(form: Form, value: float, bound: float) -> bool:
    return value >= bound if form == "at_least" else value == bound if form == "is" else value > bound


def _series(condition: Condition, entries: Iterable[list[object]]) -> dict[str, float]:
    """The series that the condition is about, by the labels that it leaves open."""
    found: dict[str, float] = {}
    for labels, value in entries:
        assert isinstance(labels, list | tuple) and isinstance(value, int | float)
        pairs = list(zip(condition.where, labels, strict=True))
        if all(wanted in ("", label) for wanted, label in pairs):
            key = " ".join(label for wanted, label in pairs if not wanted)
            found[key] = found.get(key, 0.0) + value
    return found
