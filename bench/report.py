"""What a run of the benchmark found, as tables for people and as JSON for the next run to compare with."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load import Cell, Measurement

NOISY_CORES = 0.2
COLUMNS = (
    "msg/s",
    "CPU ms/msg",
    "cores",
    "to reply p50 / p99 ms",
    "to sink p50 / p99 ms",
    "peak PSS MB",
    "signatures",
    "runs",
)


@dataclass(slots=True)
class Subject:
    """One relay in the report: what it is, and its measurements by cell label. `skipped` says why it has none."""

    name: str
    title: str
    versions: str = ""
    durability: str = ""
    skipped: str = ""
    runs: dict[str, list[Measurement]] = field(default_factory=dict)

    def counted(self, cell: Cell) -> list[Measurement]:
        """The runs of this cell that count: everything arrived, whole and signed."""
        return [run for run in self.runs.get(cell.label, []) if not run.faults]

    def median(self, cell: Cell, value: Callable[[Measurement], float]) -> float | None:
        """Median over the runs that count; None without any."""
        runs = self.counted(cell)
        return statistics.median(map(value, runs)) if runs else None


@dataclass(slots=True)
class Result:
    """One run of the benchmark."""

    machine: dict[str, str]
    method: dict[str, str]
    subjects: list[Subject] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def subject(self, name: str) -> Subject | None:
        """The subject of that name, when it was measured."""
        return next((subject for subject in self.subjects if subject.name == name and subject.runs), None)

    def ratio(self, cell: Cell, name: str, other: str) -> float | None:
        """Messages a second of `name` over those of `other` in a cell, medians."""
        left, right = self.subject(name), self.subject(other)
        above = left.median(cell, lambda run: run.rate) if left else None
        below = right.median(cell, lambda run: run.rate) if right else None
        return above / below if above and below else None

    def as_json(self) -> dict[str, Any]:
        """Everything, every single run included."""
        subjects = [
            {
                "name": subject.name,
                "title": subject.title,
                "versions": subject.versions,
                "durability": subject.durability,
                "skipped": subject.skipped,
                "runs": [run.as_json() for runs in subject.runs.values() for run in runs],
            }
            for subject in self.subjects
        ]
        return {"machine": self.machine, "method": self.method, "subjects": subjects, **self.extra}

    def store(self, folder: Path, name: str) -> Path:
        """Write the JSON into the folder; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")
        return path


def print_result(result: Result, cells: Sequence[Cell], console: Console, *, own: str, peers: Sequence[str]) -> None:
    """Facts first, then a table of the figures, then the ratios, then whatever does not count and why."""
    for title, facts in (("Machine", result.machine), ("Method", result.method)):
        console.print(_facts(title, facts))
    states = {
        subject.title: subject.skipped or f"{subject.versions}; {subject.durability}" for subject in result.subjects
    }
    console.print(_facts("Versions and durability", states))
    for cell in cells:
        if any(subject.runs.get(cell.label) for subject in result.subjects):
            console.print(_figures(result, cell))
    if result.subject(own):
        console.print(_ratios(result, cells, own, peers))
    for line in _remarks(result):
        console.print(line, highlight=False)


def _facts(title: str, facts: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _figures(result: Result, cell: Cell) -> Table:
    table = Table(
        title=f"\n{cell.label}: messages that reached the sink, median (lowest to highest)", title_justify="left"
    )
    table.add_column("relay", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for subject in result.subjects:
        if subject.runs.get(cell.label):
            table.add_row(subject.title, *_row(subject, cell))
    return table


def _row(subject: Subject, cell: Cell) -> Iterable[str]:
    runs, tried = subject.counted(cell), subject.runs[cell.label]
    if not runs:
        return ["-"] * 7 + [f"0/{len(tried)}"]
    rates = [run.rate for run in runs]

    def median(value: Callable[[Measurement], float]) -> float:
        return statistics.median(map(value, runs))

    return [
        f"[bold]{statistics.median(rates):,.0f}[/] ({min(rates):,.0f} to {max(rates):,.0f})",
        f"{median(lambda run: run.cpu_ms):.2f}",
        f"{median(lambda run: run.cores):.2f}",
        f"{median(lambda run: run.end_of_data_ms['p50']):.1f} / {median(lambda run: run.end_of_data_ms['p99']):.1f}",
        f"{median(lambda run: run.way_ms['p50']):.0f} / {median(lambda run: run.way_ms['p99']):.0f}",
        f"{max(run.peak_pss_mb for run in runs):.0f}",
        runs[-1].verified or "none",
        f"{len(runs)}/{len(tried)}",
    ]


def _ratios(result: Result, cells: Sequence[Cell], own: str, peers: Sequence[str]) -> Table:
    table = Table(title=f"Times as many messages a second: {own} over", title_justify="left")
    table.add_column("load")
    for peer in peers:
        table.add_column(peer, justify="right")
    for cell in cells:
        values = [result.ratio(cell, own, peer) for peer in peers]
        if any(values):
            table.add_row(cell.label, *(f"{value:.2f}" if value else "-" for value in values))
    return table


def _remarks(result: Result) -> Iterable[str]:
    for subject in result.subjects:
        if subject.skipped:
            yield f"[yellow]left out[/] {subject.title}: {subject.skipped}"
        for label, runs in subject.runs.items():
            for run in runs:
                for fault in run.faults:
                    yield f"[red]does not count[/] {subject.title}, {label}: {fault}"
            noise = max((run.other_cores for run in runs), default=0.0)
            if noise > NOISY_CORES:
                yield f"[yellow]noisy[/] {subject.title}, {label}: other programs used up to {noise:.2f} cores meanwhile"
