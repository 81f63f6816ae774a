"""Words of a command line that are not UTF-8, as a terminal or a script of another character set gives them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from relay.cli.app import app
from relay.cli.trouble import WRONG_USE
from tests.relay.cli.conftest import Zegel

ODD = b"a\xff@b".decode("utf-8", "surrogateescape")
TOLD = "zegel: a?@b is not UTF-8"


@pytest.mark.parametrize(
    "words",
    [
        ("trace", ODD),
        ("queue", "show", ODD),
        ("queue", "list", "--tenant", ODD),
        ("tenant", "add", ODD),
        ("tenant", "add", "kerk", "--legal-name", ODD),
        ("suppression", "add", "shop", ODD),
        ("privacy", "erase", "shop", ODD, "--yes"),
        ("privacy", "mailing", "invoice", "shop", ODD, "none"),
    ],
    ids=lambda words: " ".join(words[:-1]),
)
def test_a_word_that_is_not_utf_8_is_wrong_use(zegel: Zegel, words: tuple[str, ...]) -> None:
    zegel.ask("tenant", "add", "shop")
    for way in ((), ("--json",)):
        told = zegel(*words, *way)
        assert (told.code, told.out) == (WRONG_USE, "") and told.err.startswith(TOLD), told
        assert "defect" not in told.err and len(told.err.splitlines()) == 1
    assert [row["name"] for row in zegel.ask("tenant", "list")] == ["shop"]


def test_no_command_takes_it_for_a_defect(zegel: Zegel) -> None:
    """Every command with a word of its own; a choice, a number or a date says by itself that it is none."""
    tried = 0
    for words, params in commands(typer.main.get_command(app), ()):
        asked = [param for param in params if param.param_type_name == "argument" and param.required]
        given = [ODD for param in asked]
        if any("FILE" not in (param.metavar or "") for param in asked):
            told = zegel(*words, *given)
            assert told.code == WRONG_USE and "defect" not in told.err, (words, told)
            tried += 1
    assert tried > 40


def test_the_name_of_a_file_may_be_any_octets(zegel: Zegel, tmp_path: Path) -> None:
    zegel.ask("tenant", "add", "shop")
    odd = tmp_path / b"\xff.toml".decode("utf-8", "surrogateescape")
    odd.write_text(zegel.config.read_text())
    told = zegel("tenant", "list", "-c", odd, config=False)
    assert told.code == 0, told
    told = zegel("tenant", "list", "-c", tmp_path / b"none\xff.toml".decode("utf-8", "surrogateescape"), config=False)
    assert told.code == WRONG_USE and "none?.toml" in told.err, told


def test_octets_of_the_real_command_line(zegel: Zegel) -> None:
    line: list[bytes | str] = [sys.executable, "-m", "relay", "trace", b"a\xff@b", "-c", str(zegel.config)]
    told = subprocess.run(line, capture_output=True, check=False, env={"PYTHONUTF8": "1", "PATH": ""})
    assert (told.returncode, told.stdout) == (WRONG_USE, b"") and told.stderr.decode().startswith(TOLD), told


def commands(command: Any, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Every command below one, with its parameters."""
    below: dict[str, Any] = getattr(command, "commands", {})
    if not below:
        return [(words, command.params)]
    return [found for name, one in below.items() for found in commands(one, (*words, name))]
