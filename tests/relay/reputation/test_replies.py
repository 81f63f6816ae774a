"""What replies of real hosts are taken for: replies.toml, through the reading of a reply as delivery does it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from relay.counters.ring import BOUNCED, REFUSED, UNKNOWN
from relay.delivery.outcome import Failed, Stage, judge
from relay.delivery.replies import Reply
from relay.reputation.bounce import RULES, Rule, kind_of
from tests.harness.timing import rounds

TABLE = tomllib.loads((Path(__file__).parent / "replies.toml").read_text("utf-8"))
KINDS = {"unknown": UNKNOWN, "bounced": BOUNCED, "refused": REFUSED}
ROWS = [(text, KINDS[kind]) for kind, texts in TABLE.items() for text in texts]


def test_every_row_is_there_once() -> None:
    assert set(TABLE) == set(KINDS) and len(ROWS) >= 90 and len({text for text, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("text", "kind"), ROWS, ids=[text[:60] for text, _ in ROWS])
def test_a_reply_is_taken_for(text: str, kind: int) -> None:
    code, _, said = text.partition(" ")
    outcome = judge(Reply(int(code), said.encode()), "mx.example.net", Stage.DOT)
    assert isinstance(outcome, Failed)
    assert kind_of(outcome.status, outcome.reply, outcome.code) == kind


@pytest.mark.parametrize("rule", RULES, ids=[rule.who for rule in RULES])
def test_each_rule_has_a_reply_that_shows_it(rule: Rule) -> None:
    assert any(rule.says.search(text.lower()) for text, kind in ROWS if kind == rule.kind)
    assert not re.search(r"(?<!\\)[A-Z]", rule.says.pattern), "rules are read against lower case"


@pytest.mark.parametrize(
    "tail", [" " * 480, "mailbox " * 60, "a." * 240, "rejected: " * 48, "<" * 480, "x account " * 48]
)
def test_a_hostile_reply_costs_no_time(tail: str) -> None:
    for timed in rounds(0.1):
        with timed:
            assert kind_of("5.0.0", f"550 {tail}x", 550) in (REFUSED, UNKNOWN)
