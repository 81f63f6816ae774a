"""What a row of tests/cases/scenarios says: people, days, mail, and what should become of it. CONTRIBUTING.md has the words."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.clock import START

FOLDER = Path(__file__).parent.parent / "cases" / "scenarios"
TABLES = ("lawful", "abuse")
DAY = 86_400.0
DEAD = "weg"
"""Who is called so, and a number, does not exist at the next hop."""
Row = dict[str, Any]

_AT = re.compile(r"day (\d+)(?:, (\d\d):(\d\d))?")
_SPAN = re.compile(r"(\d+(?:\.\d+)?) (second|minute|hour|day)s?")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": DAY}
_RUN = re.compile(r"(?:(\d+) )?(.+)")
WORDS: dict[str, set[str] | None] = {
    "op": None,
    "agree": {"tenant", "purpose", "to", "from", "dead", "proof", "imported"},
    "mail": {
        "login",
        "mails",
        "every",
        "to",
        "people",
        "from",
        "dead",
        "hidden",
        "cc",
        "head",
        "author",
        "sender",
        "client",
        "expect",
    },
    "log_in": {"password", "expect"},
    "complain": {"login"},
    "decide": set(),
    "then": set(),
}
"""What a step may do, in that order, and the fields beside; those of an operation are the owner's to check."""
GOES = ("accepted", "split", "parked")
"""How verdicts begin that stop nobody. Who is parked waits a while, and the story says so."""


class Story(NamedTuple):
    """One scenario. `lawful`: nothing of it may be refused, held or put off, and nobody suspended."""

    name: str
    lawful: bool
    row: Row

    @property
    def steps(self) -> list[Row]:
        return list(self.row["step"])

    @property
    def counts(self) -> bool:
        """Limits or reputation have a say in it, so it is told over shared counters too; not with `shared = false`."""
        limited = any(rule.startswith(("THROTTLE", "REP")) for rule in self.row["rules"])
        return limited and bool(self.row.get("shared", True))


def stories() -> list[Story]:
    return [Story(row["name"], table == "lawful", row) for table in TABLES for row in _table(table)["scenario"]]


def unknown(step: Row) -> set[str]:
    """Words of a step that nobody would read, or `nothing` where it does nothing or two things."""
    acts = [word for word in WORDS if word in step]
    if len(acts) != 1:
        return {"nothing"}
    known = WORDS[acts[0]]
    return set() if known is None else set(step) - known - {"at", "again", acts[0]}


def texts() -> dict[str, Row]:
    """The mails of the stories by name: `head` and `text`."""
    return dict(_table("mails"))


def _table(name: str) -> Row:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))


def people(step: Row, first: int, number: int) -> list[str]:
    """The addresses of the pattern `to` with the numbers from `first` on. Of each `dead` of them the last is nobody's."""
    every = step.get("dead", 0)
    found = [step["to"].format(n=n) for n in range(first, first + number)]
    if every:
        found = [
            f"{DEAD}{n}@{one.partition('@')[2]}" if n % every == every - 1 else one
            for n, one in enumerate(found, start=first)
        ]
    return found


def moment(text: str) -> float:
    """`day 3, 14:30` as seconds since the epoch; day 0 is that of tests.fakes.clock.START."""
    found = _AT.fullmatch(text)
    assert found, f"a time reads like 'day 3, 14:30', not {text!r}"
    return START + int(found[1]) * DAY + int(found[2] or 0) * 3600 + int(found[3] or 0) * 60


def span(text: str) -> float:
    """`90 seconds` in seconds."""
    found = _SPAN.fullmatch(text)
    assert found, f"a span reads like '90 seconds', not {text!r}"
    return float(found[1]) * _SECONDS[found[2]]


def moments(step: Row) -> Iterator[float]:
    """When a step happens: once, or again and again."""
    first, again = moment(step["at"]), step.get("again", {})
    for number in range(again.get("times", 1)):
        yield first + number * span(again.get("every", "1 day"))


def runs(expected: str | list[str], mails: int) -> list[str]:
    """What is expected of each mail of a step: one verdict for all, or `["200 accepted", "100 held THROTTLE-7"]`."""
    if isinstance(expected, str):
        return [expected] * mails
    found: list[str] = []
    for run in expected:
        number, verdict = _RUN.fullmatch(run).groups()  # type: ignore[union-attr]  # it fits every text
        found += [verdict] * int(number or 1)
    assert len(found) == mails, f"{mails} mails, and {len(found)} verdicts"
    return found


def told(verdicts: list[str]) -> list[str]:
    """The same the other way round, for people."""
    found: list[list[Any]] = []
    for verdict in verdicts:
        if found and found[-1][1] == verdict:
            found[-1][0] += 1
        else:
            found.append([1, verdict])
    return [f"{number} {verdict}" for number, verdict in found]
