"""`zegel bench`: stages that add up, made from the real objects, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.build import REPOSITORY


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relay", "bench", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_stages_add_up_and_nothing_is_left(tmp_path: Path) -> None:
    config = tmp_path / "zegel.toml"
    config.write_text('[policies.unsubscribe]\nmode = "off"\n')
    done = run(tmp_path, "--rounds", "1", "--size", "2048", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    whole = [stage for stage in found["stages"] if not stage["of"]]
    names = {stage["name"] for stage in whole}
    assert abs(found["total_microseconds"] - sum(stage["microseconds"] for stage in whole)) < 1.0
    assert not [stage for stage in found["stages"] if stage["microseconds"] <= 0]
    assert {stage["of"] for stage in found["stages"]} - {""} <= names
    policies = {stage["name"] for stage in found["stages"] if stage["of"] == "judge the content"}
    assert {"consent", "identity", "content"} <= policies
    assert "unsubscribe" not in policies  # as the config says
    assert list(tmp_path.iterdir()) == [config]


def test_a_size_out_of_range_is_wrong_use(tmp_path: Path) -> None:
    done = run(tmp_path, "--size", "10")
    assert done.returncode == 2
    assert "1024" in done.stderr
