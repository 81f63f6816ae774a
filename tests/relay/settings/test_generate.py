"""config/zegel.toml is what the code says, and config/demo.toml can start."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from relay.settings.generate import PolicyKey, literal, render
from relay.settings.load import load
from relay.settings.model import Section, Settings

CONFIG = Path(__file__).parents[3] / "config"


def test_loading_the_rendered_file_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "zegel.toml"
    path.write_text(render())
    written = load(path, environment={})
    path.write_text("")
    assert written == load(path, environment={})


def test_every_key_is_there_with_an_explanation() -> None:
    lines = render().splitlines()
    for field in Settings.model_fields.values():
        for default in field.default if isinstance(field.default, tuple) else (field.default,):
            if isinstance(default, Section):
                for key, inner in type(default).model_fields.items():
                    assert inner.description and len(inner.description) < 125
                    place = lines.index(f"# {inner.description}")
                    assert lines[place + 1].removeprefix("# ").startswith(f"{key} = ")


def test_policies_are_written_as_they_are_told(tmp_path: Path) -> None:
    keys = [
        PolicyKey("unsubscribe", "missing", "refuse", "refuse | inject"),
        PolicyKey("throttle", "over", {"marketing": "park"}, ""),
    ]
    table = tomllib.loads(render(keys))["policies"]
    assert table == {"unsubscribe": {"missing": "refuse"}, "throttle": {"over": {"marketing": "park"}}}


@pytest.mark.parametrize("value", [True, 0, 26_214_400, 1.5, 300.0, 'a"b\\ü', [1, 2], {"a": ["b"]}, ""])
def test_a_literal_reads_back_as_the_same_value(value: object) -> None:
    assert tomllib.loads(f"value = {literal(value)}")["value"] == value


def test_the_demo_serves_this_machine_only_and_sends_nothing() -> None:
    demo = load(CONFIG / "demo.toml", environment={})
    assert demo.delivery.mode == "capture"
    assert demo.listener[0].address == "127.0.0.1:2525" and demo.web.address == "127.0.0.1:8025"
    assert all(listener.endpoint.is_loopback for listener in demo.listener) and demo.web.endpoint.is_loopback
