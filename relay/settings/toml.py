"""TOML files as people save them: with the mark of a Windows editor too, and with a sentence for what is no TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


class NotToml(ValueError):
    """The text says what is wrong; `remedy` what to do."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.remedy = remedy


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file. Raises OSError where it cannot be read, NotToml where it is none."""
    raw = path.read_bytes()
    try:
        return parse_toml(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise NotToml(f"line {line} is not UTF-8", "Save the file as UTF-8") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of `text`. Raises NotToml."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(f"is not TOML: {error}", "Mend that line") from None
    except ValueError:  # of a number that Python does not even read
        raise NotToml("holds a number of thousands of digits", "Write a number that can be meant") from None
    except RecursionError:
        raise NotToml("is not TOML: brackets are nested too deeply", "Take the extra brackets out") from None
