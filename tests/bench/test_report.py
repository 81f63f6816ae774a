"""The report compares medians of the runs that count, and of no others."""

from __future__ import annotations

from bench.load import Cell, Measurement
from bench.report import Result, Subject


def subject(name: str, *rates: float, spoiled: float = 0.0) -> Subject:
    made = Subject(name, name)
    made.runs[Cell().label] = [Measurement(Cell(), rate=rate) for rate in rates]
    if spoiled:
        made.runs[Cell().label].append(Measurement(Cell(), rate=spoiled, faults=["lost"]))
    return made


def test_a_ratio_is_of_medians_and_leaves_out_runs_with_faults() -> None:
    result = Result({}, {}, [subject("ours", 90, 100, 400, spoiled=10_000), subject("theirs", 20, 25, 30)])
    assert result.ratio(Cell(), "ours", "theirs") == 4.0


def test_no_ratio_without_a_run_that_counts() -> None:
    result = Result({}, {}, [subject("ours", 90), subject("theirs", spoiled=5)])
    assert result.ratio(Cell(), "ours", "theirs") is None
    assert result.ratio(Cell(), "ours", "absent") is None


def test_every_run_is_stored_the_spoiled_ones_with_their_faults() -> None:
    stored = Result({}, {}, [subject("ours", 90, spoiled=5)]).as_json()
    runs = stored["subjects"][0]["runs"]
    assert [run["faults"] for run in runs] == [[], ["lost"]]
