"""Every statement of the source pages has its line in docs/rules.md, and the tests that it names are there."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import NamedTuple

from tests.house.tree import ROOT, name

COUNT = 33
NOT_YET: dict[str, str] = {}
"""What still lacks a part, and which. A line says *Not yet* exactly where it is listed here."""
ROW = re.compile(r"^\| (SEED-\d+) \| ([^|]+) \| ([^|]+) \|([^|]*)\|$", re.MULTILINE)
SHOWN = re.compile(r"`([\w./]+)::([^`]+)`")
MAXIMUM = re.compile(r"(?:€|eur|euro)\s?\d{2,3}[. ,]\d{3}\b|\b\d{2,3}[. ,]\d{3}\s?(?:€|euro?\b)", re.IGNORECASE)


class Line(NamedTuple):
    source: str
    asks: str
    fulfilled: str
    shown: list[tuple[str, str]]  # file, test


def lines() -> list[Line]:
    found = ROW.findall((ROOT / "docs/rules.md").read_text(encoding="utf-8"))
    return [Line(source, asks, fulfilled, SHOWN.findall(shown)) for source, asks, fulfilled, shown in found]


def test_every_statement_has_one_line_in_order() -> None:
    assert [line.source for line in lines()] == [f"SEED-{number}" for number in range(1, COUNT + 1)]
    assert all(line.asks.endswith(".") and line.fulfilled.endswith(".") for line in lines())


def test_what_is_not_there_yet_is_said_and_nothing_else_is() -> None:
    assert {line.source for line in lines() if "not yet" in line.fulfilled.lower()} == set(NOT_YET)
    whole = [line for line in lines() if not line.fulfilled.startswith("Not yet: ")]
    assert [line.source for line in whole if not line.shown] == [], "what fulfils it is shown by a test"
    assert all(not line.shown for line in lines() if line not in whole)


def test_every_test_that_a_line_names_is_there() -> None:
    missing = [f"{file}::{test}" for line in lines() for file, test in line.shown if test not in shown_in(file)]
    assert missing == []


def shown_in(file: str) -> set[str]:
    """Functions of a test file, or what the rows of a table are called."""
    path = ROOT / file
    if not file.startswith("tests/") or not path.is_file():
        return set()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        tables = [rows for rows in tomllib.loads(text).values() if isinstance(rows, list)]
        return {str(row.get("why", row.get("name"))) for rows in tables for row in rows if isinstance(row, dict)}
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_no_text_prints_how_high_a_fine_may_be() -> None:
    """SEED-33, LAW-6: maxima change, and a text that names an old one misleads. Amounts in samples of mail are no fines."""
    texts = [
        *ROOT.glob("relay/**/*.toml"),
        *ROOT.glob("relay/**/*.html"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "README.md",
    ]
    assert len(texts) > 30
    said = {
        f"{name(path)}: {line.strip()[:80]}"
        for path in texts
        for line in path.read_text(encoding="utf-8").splitlines()
        if MAXIMUM.search(line) and re.search(r"\b(?:boetes?|fines?|fined|penalt)", line, re.IGNORECASE)
    }
    assert said == set()
    for wrong in ("een boete van € 450.000", "a fine of EUR 900,000", "fined up to 450 000 euro"):
        assert MAXIMUM.search(wrong), wrong
