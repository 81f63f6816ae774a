"""Every `zegel ...` that a page, a setting, a help text or an error names is a command, with the options it is named with."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from relay.cli.app import app
from tests.house.tree import ROOT, name, sources

PAGES = (
    "*.md",
    "docs/**/*.md",
    "config/*.toml",
    "monitoring/**/*",
    "relay/**/*.toml",
    "relay/**/*.html",
    "relay/**/*.txt",
)
NOT_TOLD_HERE = ("CHANGELOG.md",)  # tells of what was, too
# In backticks, as a command line in a block or a table, and as an example in the code.
SPAN = re.compile(r"`(?:python -m relay|\.?[\w/.]*\bzegel) ([^`\n]+)`|^(?: {4,}|\$ |> )[\w/.]*\bzegel ([^\n]+)", re.M)
EXAMPLE = re.compile(r"""(?:example=(?:f?["'])|\[cyan\])zegel ([^"\[\n]*)""")
PLACEHOLDER = re.compile(r"[A-Z<\[{(|.…]|\.\.\.")


def told() -> Iterator[tuple[str, str]]:
    """(where, what follows `zegel`)."""
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern) if path.is_file()}
    for path in sorted(path for path in pages if path.name not in NOT_TOLD_HERE):
        yield from found(path, SPAN)
    for path in sources("relay", "policies"):
        yield from found(path, SPAN)
        yield from found(path, EXAMPLE)


def found(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    text = path.read_text(encoding="utf-8")
    for match in pattern.finditer(text):
        words = next(group for group in match.groups() if group is not None)
        yield f"{name(path)}:{text.count(chr(10), 0, match.start()) + 1}", words.partition(" #")[0].strip()


@functools.cache
def zegel() -> Any:
    """All commands."""
    return typer.main.get_command(app)


def wrong(words: str) -> str:
    """What is not so in a command line, or ""; what is left out of it (`zegel dkim add`) is no fault."""
    command = zegel()
    parts = split(words)
    while parts and hasattr(command, "commands"):
        word = parts.pop(0)
        if word.startswith("--") or PLACEHOLDER.match(word):
            break
        if word not in command.commands:
            return f"no command {word!r}"
        command = command.commands[word]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    strange = [
        part for part in parts if part.startswith("-") and part.partition("=")[0] not in options | {"--help", "-"}
    ]
    return f"no option {strange[0]!r}" if strange else ""


def split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError:
        return words.split()


def test_every_command_that_is_named_exists() -> None:
    lines = list(told())
    assert len(lines) > 100, "the pattern finds what there is"
    assert {(where, words, fault) for where, words in lines if (fault := wrong(words))} == set()


@pytest.mark.parametrize(
    "words",
    [
        "limit list shop",
        "backups FILE",
        "apikey add shop --name form",
        "apikey ad shop",
        "trace --nothing 1",
        "consent",
    ],
)
def test_a_command_that_does_not_exist_is_found(words: str) -> None:
    assert bool(wrong(words)) is (words != "consent")
