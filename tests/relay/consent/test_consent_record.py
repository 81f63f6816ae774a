"""The minimal consent record, row by row of records.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.consent.record import Record, Rules, check, format_time, parse_time

NOW = 1_767_348_000.0  # 2026-01-02T10:00:00Z
CASES = tomllib.loads(Path(__file__).with_name("records.toml").read_text())["case"]
ROW = {
    "email": "ann@example.net", "purpose": "newsletter", "basis": "consent", "method": "web_form",
    "source": "https://shop.example/join", "given_at": "2026-01-01T10:00:00Z", "text": "Ja, stuur mij de nieuwsbrief",
    "text_language": "nl", "policy_url": "https://shop.example/privacy", "jurisdiction": "NL", "provenance": "own",
    "sensitive_audience": "no",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case["why"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    rules = Rules({"newsletter": "Shop BV"}, **case.get("tenant", {}))
    found = check({**ROW, **case.get("row", {})}, rules, now=NOW)
    problems = [] if isinstance(found, Record) else found
    assert sorted(problem.field for problem in problems) == sorted(case["refused"])
    assert all(len(problem.reason) > 10 for problem in problems)


def test_the_controller_is_the_purposes_unless_the_row_names_one() -> None:
    rules = Rules({"newsletter": "Shop BV"})
    plain, named = check(ROW, rules, now=NOW), check({**ROW, "controller": "Shop Leasing BV"}, rules, now=NOW)
    assert isinstance(plain, Record) and isinstance(named, Record)
    assert (plain.controller, named.controller) == ("Shop BV", "Shop Leasing BV")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-02T10:00:00Z", NOW),
        ("2026-01-02t10:00:00z", NOW),
        ("2026-01-02 12:30:00+02:30", NOW),
        ("2026-01-02T10:00:00.250Z", NOW + 0.25),
        ("2026-01-02T10:00:00", None),
        ("2026-01-02T10:00Z", None),
        ("20260102T100000Z", None),
        ("2026-02-30T10:00:00Z", None),
        ("2026-01-02T10:00:00+2:00", None),
        ("9999-12-31T23:59:59Z", 253_402_300_799.0),
        ("9999-12-31T23:59:59.9999999Z", None),  # as a number it lies in the year 10000
        ("9999-12-31T23:59:59-00:01", None),
        ("0001-01-01T00:00:00+00:01", None),
        ("", None),
    ],
)
def test_times_are_rfc_3339_with_an_offset(text: str, at: float | None) -> None:
    assert parse_time(text) == at
    if at is not None:
        assert parse_time(format_time(at)) == at
