"""The rules as people read them, from rules.toml: for /why, and for letters that explain a refusal.

Apart from the pages, so that a worker that writes such a letter loads no web framework.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

GROUPS = ("consent", "unsub", "cc", "dlp", "class", "id", "dkim", "throttle", "msg", "smtp", "pipe", "out", "other")
BASES = ("law", "mailbox", "standard", "safety")
_GROUP_OF = {prefix.upper(): prefix for prefix in GROUPS}


class Words(NamedTuple):
    """The text of one rule in one language; `example` may be empty."""

    title: str
    what: str
    why: str
    do: str
    example: str


class Rule(NamedTuple):
    """One rule as people read it. `basis` tells where it comes from (one of BASES)."""

    id: str
    group: str
    basis: str
    nl: Words
    en: Words

    def words(self, language: str) -> Words:
        return self.nl if language == "nl" else self.en


@cache
def rules() -> dict[str, Rule]:
    """Every explained rule by id, in the order of rules.toml. Raises KeyError or TypeError where the file is incomplete."""
    table = tomllib.loads(Path(__file__).with_name("rules.toml").read_text("utf-8"))
    return {rule_id: _rule(rule_id, entry) for rule_id, entry in table.items()}


def _rule(rule_id: str, entry: dict[str, object]) -> Rule:
    basis = str(entry["basis"])
    if basis not in BASES:
        raise KeyError(f"{rule_id}: basis {basis}")
    words = [Words(**({"example": ""} | entry[language])) for language in ("nl", "en")]  # type: ignore[operator]  # a table
    return Rule(rule_id, _GROUP_OF.get(rule_id.partition("-")[0], "other"), basis, *words)
