"""The decision tables of tests/cases: every row is one sentence of the rulebook that a policy must keep."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from relay.mail.edits import Edit
from relay.mail.reply import REASONS, rule_of
from relay.policy.catalogue import ORDER, Catalogue
from relay.policy.pipeline import Pipeline
from relay.policy.verdict import Action, Classify, DropRecipient, Note, Park, Verdict
from tests.policies import casebook
from tests.policies.casebook import Row

ROOT = Path(__file__).parent.parent.parent
RULE = re.compile(r"\b(?:PIPE|CLASS|CONSENT|UNSUB|CC|ID|DKIM|BULK|THROTTLE|REP|FB|SMTP|OUT|MSG|DLP|GDPR|OPS)-\d+\b")
SINGLE = [(name, row) for name, row in casebook.every_row() if name in ORDER]
WHOLE = [(name, row) for name, row in casebook.every_row() if name == "pipeline"]


def ids(pairs: list[tuple[str, Row]]) -> list[str]:
    return [f"{name}: {casebook.label(row)}" for name, row in pairs]


@pytest.mark.parametrize(("name", "row"), SINGLE, ids=ids(SINGLE))
def test_policy_keeps_the_row(name: str, row: Row) -> None:
    module, mail, settings = casebook.policy(name), casebook.submission(row), casebook.settings(name, row)
    if row.get("at") == "mail":
        verdict = module.decide_sender(mail, settings)
    else:
        verdict = module.decide(mail, casebook.facts(row, mail), settings)
    expected = row["expect"]
    assert verdict.action.word == expected.get("action", "accept"), verdict
    assert verdict.reason == expected.get("reason", ""), verdict
    assert drops_of(verdict) == expected.get("drops", {}), verdict
    assert edits_of(verdict) == sorted(expected.get("edits", [])), verdict
    assert notes_of(verdict) == sorted(expected.get("notes", [])), verdict
    check_shape(verdict, expected)
    check_detail(verdict, expected)
    check_rules(row, verdict)


def drops_of(verdict: Verdict) -> dict[str, str]:
    return {change.address: change.reason for change in verdict.changes if isinstance(change, DropRecipient)}


def edits_of(verdict: Verdict) -> list[str]:
    return sorted(f"{edit.kind} {edit.name}".strip() for edit in verdict.changes if isinstance(edit, Edit))


def notes_of(verdict: Verdict) -> list[str]:
    return sorted(f"{note.kind} {note.reason}" for note in verdict.changes if isinstance(note, Note))


def check_shape(verdict: Verdict, expected: Row) -> None:
    shape = next((change for change in verdict.changes if isinstance(change, Classify)), None)
    for name in ("class", "bulk", "confirm", "purpose"):
        if name in expected:
            assert shape is not None, verdict
            found = shape.mail_class.value if name == "class" else getattr(shape, name)
            assert found == expected[name], verdict
    park = next((change for change in verdict.changes if isinstance(change, Park)), None)
    assert (park is not None) == ("due_in_seconds" in expected), verdict
    if park is not None:
        assert park.due - casebook.NOW == expected["due_in_seconds"]


def check_detail(verdict: Verdict, expected: Row) -> None:
    for name, value in expected.get("detail", {}).items():
        assert dict(verdict.detail)[name] == value
    slots = set(re.findall(r"\{([a-z_]+)\}", REASONS[verdict.reason].en)) if verdict.reason else set()
    assert slots <= set(dict(verdict.detail)), f"{verdict.reason} leaves slots open"
    for reason in drops_of(verdict).values():  # nothing fills these
        assert "{" not in REASONS[reason].en + REASONS[reason].nl, reason


def check_rules(row: Row, verdict: Verdict) -> None:
    """A row about a rule shows it: in the reason, in a drop, or in an edit; a plain accept shows that it lets pass."""
    shown = {rule_of(verdict.reason)} | {rule_of(reason) for reason in drops_of(verdict).values()}
    shown |= {edit.rule for edit in verdict.changes if isinstance(edit, Edit)}
    shown |= {rule_of(note.reason) for note in verdict.changes if isinstance(note, Note)}
    shown.discard("")
    assert not shown or shown & set(row["rules"]), f"{row['rules']} but {shown}"


@pytest.mark.parametrize(("name", "row"), WHOLE, ids=ids(WHOLE))
def test_pipeline_keeps_the_row(name: str, row: Row) -> None:
    pipeline = Pipeline(Catalogue.load(row.get("policies", {})))
    mail = casebook.submission(row)
    if row.get("at") == "recheck":
        ruling = pipeline.recheck(mail, casebook.facts(row, mail))
    elif row.get("at") == "rcpt":
        ruling = pipeline.recipient(mail, casebook.facts(row, mail))
        assert ruling.settled is row["expect"].get("settled", False)
    else:
        shaped = pipeline.shape(mail, casebook.facts(row, mail))
        judged = pipeline.judge(shaped, casebook.facts(row, shaped.mail), frozenset(row.get("settled", ())))
        ruling = pipeline.admit(judged, casebook.facts(row, judged.mail))
    expected = row["expect"]
    assert ruling.action.word == expected.get("action", "accept"), ruling
    assert ruling.reason == expected.get("reason", ""), ruling
    assert [recipient.address for recipient in ruling.recipients] == expected.get(
        "kept", [recipient.address for recipient in mail.recipients]
    )
    assert {gone.address: reason for gone, reason in ruling.dropped} == expected.get("dropped", {})
    assert sorted(f"{edit.kind} {edit.name}".strip() for edit in ruling.edits) == sorted(expected.get("edits", []))
    assert sorted(f"{note.kind} {note.reason}" for note in ruling.notes) == sorted(expected.get("notes", []))
    assert list(ruling.bypassed) == expected.get("bypassed", [])
    said = {entry.policy: f"{entry.mode} {entry.action.word} {entry.reason}".strip() for entry in ruling.trace}
    for policy, words in expected.get("trace", {}).items():
        assert said[policy] == words
    if not ruling.passes:
        assert rule_of(ruling.reason) in row["rules"]


def test_every_reason_has_the_code_of_its_action() -> None:
    """A refusal is a 5xx, a delay a 4xx, and what lets the mail go on a 250: whatever a row expects, the reply agrees."""
    first = {"accept": "2", "hold": "2", "defer": "4", "reject": "5"}
    for name, row in SINGLE:
        expected = row["expect"]
        reason = expected.get("reason", "")
        if reason:
            assert REASONS[reason].basic[0] == first[expected.get("action", "accept")], (name, row["why"])
        for dropped in expected.get("drops", {}).values():
            assert REASONS[dropped].basic[0] == "5"


def rules_in_code() -> set[str]:
    """Rules that policies and pipeline name, and those behind the reasons that policies give."""
    files = [*(ROOT / "policies").glob("*.py"), *(ROOT / "relay" / "policy").glob("*.py")]
    named = {rule for path in files for rule in RULE.findall(path.read_text("utf-8"))}
    own = (*ORDER, "pipeline")
    return named | {reason.rule for code, reason in REASONS.items() if code.partition(".")[0] in own}


def test_every_rule_named_in_a_policy_has_a_row() -> None:
    covered = {rule for _, row in casebook.every_row() for rule in row["rules"]}
    assert rules_in_code() - covered == set()


def test_every_reason_of_a_policy_has_a_row() -> None:
    given = set()
    for _, row in casebook.every_row():
        expected = row["expect"]
        given.add(expected.get("reason", ""))
        given |= set(expected.get("drops", {}).values()) | set(expected.get("dropped", {}).values())
        given |= {note.partition(" ")[2] for note in expected.get("notes", [])}
        given |= {words.split(" ")[2] for words in expected.get("trace", {}).values() if words.count(" ") == 2}
    own = {
        code for code in REASONS if code.partition(".")[0] in ORDER and not code.endswith((".crashed", ".unavailable"))
    }
    assert own - given == set()


def test_every_rule_named_in_code_is_explained() -> None:
    """docs/rules.md has a row for each rule id that stands in the program, in Dutch and in English."""
    explained = {}
    for line in (ROOT / "docs" / "rules.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if RULE.fullmatch(cells[0]):
            explained[cells[0]] = cells
    paths = [
        path
        for folder in ("relay", "policies")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".toml")
    ]
    named = {rule for path in paths for rule in RULE.findall(path.read_text("utf-8"))}
    assert named - set(explained) == set()
    assert all(len(cells) == 4 and all(cells) for cells in explained.values())


def test_no_two_rows_say_the_same() -> None:
    counted = Counter((name, casebook.label(row)) for name, row in casebook.every_row())
    assert [key for key, count in counted.items() if count > 1] == []


def test_actions_have_four_words() -> None:
    assert [action.word for action in Action] == ["accept", "hold", "defer", "reject"]
