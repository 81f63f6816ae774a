"""Combinations that cannot work stop the start; those that can do not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.settings.load import load
from relay.settings.model import Listener, Settings
from relay.settings.problem import ConfigError
from relay.settings.whereabouts import undeclared

CASES = tomllib.loads((Path(__file__).parent / "combinations.toml").read_text())["case"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_combination(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "zegel.toml"
    path.write_text(case["config"])
    try:
        load(path, environment={})
        found = []
    except ConfigError as error:
        found = [problem.key for problem in error.problems]
        assert all(problem.wrong and problem.remedy for problem in error.problems)
    assert sorted(found) == sorted(case["wrong"])
    if "warned" in case:
        hosts = undeclared(Settings.model_validate(tomllib.loads(case["config"])))
        assert [one.key for one in hosts if not one.stops] == case["warned"]
        assert all(one.wrong and one.remedy for one in hosts)


def test_an_open_relay_cannot_be_written_down() -> None:
    """No key of a listener, nor any section, speaks of logins that may be left out (SMTP-2)."""
    words = ("auth", "login", "anonymous", "relay", "mynetworks", "trust")
    keys = [key for key in Listener.model_fields if any(word in key for word in words)]
    assert keys == []
    allowed = {"failed_logins_per_10_minutes", "login_block_seconds", "authority_hours", "authority_alarm_hours"}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, Settings.__base__):  # type: ignore[arg-type]  # Section
            named = {key for key in type(field.default).model_fields if any(word in key for word in words)}
            assert named <= allowed, f"[{name}] {named - allowed}"
