"""Issue 4, done when 1: for prepared people, who, what, when, how, which text, on which basis each mail went, when it stopped."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.regulator.player import HERE, SUBJECTS, answer


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_answer_is_this_to_the_byte(name: str, tmp_path: Path) -> None:
    told, written, pages = answer(tmp_path / "world", name)
    assert written == (HERE / "answers" / f"{name}.json").read_text("utf-8"), f"{told['title']}: see tests/regulator"
    assert pages == (HERE / "answers" / f"{name}.html").read_text("utf-8"), f"{told['title']}: see tests/regulator"


def test_there_are_at_least_twenty_and_every_answer_has_its_subject() -> None:
    assert len(SUBJECTS) >= 20
    assert {path.stem for path in (HERE / "answers").iterdir()} == set(SUBJECTS)


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_the_answer_says_is_what_happened(name: str) -> None:
    """So that no wrong answer is kept by writing it down: the mails that went are those of the file, and no others."""
    told = tomllib.loads((HERE / "subjects" / f"{name}.toml").read_text("utf-8"))
    first = json.JSONDecoder().raw_decode((HERE / "answers" / f"{name}.json").read_text("utf-8"))[0]
    went = [
        (step["at"], step["mail"], *told.get("rests", {}).get(step["at"], told["rested"]))
        for step in told["step"]
        if "mail" in step
        and "says" not in step
        and not step.get("forgotten")
        and step.get("to", told["address"]) == told["address"]
    ]
    found = [(mail["at"], mail["purpose"], mail["rule"] or "", mail["basis"] or "") for mail in first["mails"]]
    assert found == went
    (judged,) = [row for row in first["judgements"] if row["purpose"] == "newsletter"] or [None]
    assert (judged["reason"] or judged["rule"] if judged else "") == told["today"], "whether advertising counts now"
