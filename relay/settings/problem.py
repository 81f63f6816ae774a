"""What is wrong with a configuration, as values: all of it at once, each with the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing wrong. `file` is a path, "environment", "command line" or "defaults"; `key` is as written there."""

    file: str
    key: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.wrong}. {self.remedy}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))
