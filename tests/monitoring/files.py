"""What lies in monitoring/, read; and the programs of Debian's `prometheus` package."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules"
OPERATING = ROOT / "docs/operating.md"

Table = dict[str, Any]


def need(program: str) -> str:
    """Path of promtool or prometheus, or the test is skipped by name."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed; apt-get install prometheus")
    return found


@cache
def rules(file: str) -> list[Table]:
    """Every rule of a rule file, in order."""
    groups = yaml.safe_load((RULES / file).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@cache
def alerts() -> dict[str, Table]:
    """Alerts by name."""
    return {rule["alert"]: rule for rule in rules("alerts.yml")}


@cache
def cases() -> list[Table]:
    """The cases of alerts.toml."""
    found: list[Table] = tomllib.loads((Path(__file__).parent / "alerts.toml").read_text("utf-8"))["case"]
    return found


def anchors(text: str) -> Iterator[str]:
    """Anchors of the headings of a page, as forges make them."""
    for title in re.findall(r"^#+ (.+)$", text, re.M):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
