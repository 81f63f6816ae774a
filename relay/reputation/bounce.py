"""What the end of one delivery says about the list it was sent to (FB-3). Pure.

Only a refusal for good of the address or its mailbox is a bounce. Providers use 5.7.x for blocks, some write a code of the
address class into a block, and the largest have words of their own for an address that does not exist: so the words go
first, by the rules of bounce.toml, then the status; what nobody knows is no bounce.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import NamedTuple

from relay.counters.ring import BOUNCED, REFUSED, UNKNOWN

_ADDRESS = re.compile(r"[^\s<>@]{0,64}@[\w.-]{0,255}")  # nobody is blocked for being called Blockmans
_HOST = re.compile(
    r"(?<![/\w.-])(?=[a-z0-9-]*[a-z])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,24}\b(?![\w.-]*/)"
)  # nor by mx1.antispam.example
_UNKNOWN_STATUS = frozenset(("5.1.1", "5.1.6"))
_BAD_STATUS = frozenset(("5.1.2", "5.1.3", "5.1.10", "5.2.1", "5.4.4"))
_NO_MAILBOX = frozenset((511, 550, 551, 552, 553, 554))  # codes with which a host refuses a recipient
_KINDS = {"unknown": UNKNOWN, "bounced": BOUNCED, "refused": REFUSED}


class Rule(NamedTuple):
    """One rule of the table. `status`: only with one of these; empty: with any."""

    who: str
    says: re.Pattern[str]
    kind: int
    status: frozenset[str] = frozenset()
    whole: bool = False  # host names count too


def _read() -> tuple[Rule, ...]:
    table = tomllib.loads(resources.files(__package__).joinpath("bounce.toml").read_text("utf-8"))
    return tuple(
        Rule(
            row["who"],
            re.compile(row["says"]),
            _KINDS[row["kind"]],
            frozenset(row.get("status", ())),
            row.get("whole", False),
        )
        for row in table["rule"]
    )


RULES = _read()


def kind_of(status: str, text: str, code: int = 550) -> int:
    """What a refusal for good was: a code of relay.counters.ring. `text` is what the host said, `code` its basic code."""
    if text:
        nameless = _ADDRESS.sub("", text)
        words, nameless = _HOST.sub("", nameless).lower(), nameless.lower()
        for rule in RULES:
            if rule.status and status not in rule.status:
                continue
            if rule.kind != REFUSED and code not in _NO_MAILBOX:
                continue
            if rule.says.search(nameless if rule.whole else words):
                return rule.kind
    if status in _UNKNOWN_STATUS:
        return UNKNOWN
    return BOUNCED if status in _BAD_STATUS else REFUSED
