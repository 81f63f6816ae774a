"""How verdicts combine, what a crash becomes, and which facts are asked for."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from relay.mail.edits import Edit
from relay.mail.reply import REASONS, reply_line
from relay.policy.catalogue import Catalogue
from relay.policy.facts import NO_FACTS, Fact, Facts
from relay.policy.pipeline import Pipeline
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action, Stage
from tests.policies import casebook

HEAD = '''
"""A policy for a test."""
from dataclasses import dataclass
from relay.mail.edits import Edit
from relay.policy.facts import Fact
from relay.policy.verdict import *
from relay.policy.verdict import Stage, Verdict, DropRecipient, Note, Classify, Park

STAGE = Stage.{stage}
NEEDS = ()
AT_RCPT = {at_rcpt}

@dataclass(frozen=True)
class Settings:
    pass

def decide(mail, facts, settings):
    {body}
'''
Build = Callable[..., Pipeline]
_numbers = itertools.count()


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """A pipeline of policies that are given by what they return, in order, as `name="return ..."`."""
    name = f"made{next(_numbers)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def make(
        tables: Mapping[str, object] | None = None, stages: Mapping[str, str] | None = None, **bodies: str
    ) -> Pipeline:
        for policy, body in bodies.items():
            stage = (stages or {}).get(policy, "JUDGE")
            text = HEAD.format(stage=stage, at_rcpt="True", body=body)
            (tmp_path / name / f"{policy}.py").write_text(text)
        tables = {"pipeline": {"order": list(bodies)}, **(tables or {})}
        return Pipeline(Catalogue.load(tables, package=name))

    yield make
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def judge(pipeline: Pipeline, row: Mapping[str, object] | None = None) -> Ruling:
    mail = casebook.submission({"stream": "personal", **(row or {})})
    return pipeline.judge(pipeline.shape(mail), NO_FACTS)


def said(ruling: Ruling) -> list[tuple[str, str]]:
    return [(entry.policy, entry.action.word) for entry in ruling.trace]


HOLD = 'return Verdict.hold("recipients.ask", addresses="3")'
DEFER = 'return Verdict.defer("consent.unavailable")'
REJECT = 'return Verdict.reject("consent.missing")'
ACCEPT = "return Verdict.accept()"


def test_a_refusal_stops_what_follows(build: Build) -> None:
    ruling = judge(build(first=REJECT, second=HOLD))
    assert (ruling.action, ruling.reason, said(ruling)) == (Action.REJECT, "consent.missing", [("first", "reject")])


def test_a_delay_is_remembered_and_a_later_refusal_is_the_better_answer(build: Build) -> None:
    ruling = judge(build(first=DEFER, second=HOLD, third=REJECT))
    assert ruling.reason == "consent.missing"
    assert said(ruling) == [("first", "defer"), ("second", "hold"), ("third", "reject")]


def test_the_strongest_wins_and_the_earliest_on_a_tie(build: Build) -> None:
    other = 'return Verdict.hold("suppression.restricted_hold")'
    assert judge(build(one=HOLD, two=other)).reason == "recipients.ask"
    assert judge(build(three=HOLD, four=DEFER, five=other)).reason == "consent.unavailable"


def test_a_crash_is_a_delay_and_tells_the_peer_nothing(build: Build) -> None:
    ruling = judge(build(first='raise RuntimeError("ann@example.net")', second=ACCEPT))
    assert (ruling.action, ruling.reason) == (Action.DEFER, "first.crashed")
    line = ruling.reply("en", "https://relay.example")
    assert line.startswith("451 4.3.0 [PIPE-3] ") and "ann@" not in line
    (entry, _) = ruling.trace
    assert entry.error.startswith("RuntimeError at first.py:") and "ann@" not in entry.error


def test_a_crash_of_a_policy_that_only_observes_changes_nothing(build: Build) -> None:
    ruling = judge(build({"first": {"mode": "observe"}}, first="return 1 / 0"))
    assert ruling.action is Action.ACCEPT
    assert [(entry.mode, entry.reason) for entry in ruling.trace] == [("observe", "first.crashed")]


def test_a_policy_that_answers_with_no_verdict_has_crashed(build: Build) -> None:
    assert judge(build(first="return True")).reason == "first.crashed"


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("JUDGE", "Classify('commercial', True, False, None)"),
        ("JUDGE", "Park(1.0)"),
        ("SHAPE", "Park(1.0)"),
        ("ADMIT", "Edit('remove', 'Bcc', '', 'CC-15')"),
        ("ADMIT", "DropRecipient('ann@example.net', 'consent.missing')"),
    ],
)
def test_a_change_from_the_wrong_stage_is_a_crash(build: Build, stage: str, change: str) -> None:
    pipeline = build(stages={"first": stage}, first=f"return Verdict.accept({change})")
    ruling = pipeline.admit(judge(pipeline), NO_FACTS)
    assert ruling.reason == "first.crashed"


def test_edits_come_in_the_order_of_the_policies(build: Build) -> None:
    edit = "return Verdict.accept(Edit('remove', '{}', '', 'CC-15'))"
    ruling = judge(build(one=edit.format("A"), two=edit.format("B")))
    assert [change.name for change in ruling.edits] == ["A", "B"]
    assert ruling.edits[0] == Edit("remove", "A", "", "CC-15")


def test_a_dropped_recipient_is_not_judged_again(build: Build) -> None:
    drop = "return Verdict.accept(DropRecipient('a@x.test', 'suppression.objected'))"
    count = "return Verdict.accept(Note('warn', 'recipients.warn', len(mail.recipients)))"
    pipeline = build({"pipeline": {"order": ["one", "two"], "partial": "partial"}}, one=drop, two=count)
    ruling = judge(pipeline, {"rcpt": ["a@x.test", "b@x.test"]})
    assert [note.number for note in ruling.notes] == [1]
    assert [recipient.address for recipient in ruling.recipients] == ["b@x.test"]
    assert [outcome.action for outcome in ruling.outcomes()] == ["reject", "accept"]


def test_who_stood_in_the_way_is_told_apart_from_the_others(build: Build) -> None:
    drop = "return Verdict.accept(DropRecipient('b@x.test', 'suppression.objected'))"
    ruling = judge(build(one=drop), {"rcpt": ["a@x.test", "b@x.test"]})
    assert ruling.outcomes() == [
        ("b@x.test", "reject", "CONSENT-11", "suppression.objected"),
        ("a@x.test", "reject", "PIPE-1", "pipeline.atomic"),
    ]
    assert "b@x.test" not in ruling.reply("nl", "https://relay.example")


def test_each_policy_is_metered_where_a_timer_is_given(build: Build) -> None:
    times: list[tuple[str, float]] = []
    ticks = itertools.count()
    made = build(one=ACCEPT, two=ACCEPT)
    metered = Pipeline(made._catalogue, timer=lambda: float(next(ticks)), record=lambda *pair: times.append(pair))
    judge(metered)
    assert times == [("one", 1.0), ("two", 1.0)]


def test_facts_are_asked_for_only_where_the_mail_needs_them() -> None:
    pipeline = Pipeline(Catalogue.load({}))
    newsletter = casebook.submission({})
    letter = casebook.submission({"stream": "personal"})
    reply = casebook.submission({"stream": "personal", "head": ["In-Reply-To: <x@y>", "To: a@x.test, b@y.test"]})
    confirmation = replace(newsletter, confirm=True)
    assert pipeline.needs(newsletter, Stage.SHAPE) == set()
    assert pipeline.needs(letter, Stage.SHAPE) == {Fact.FINGERPRINT}
    assert pipeline.needs(newsletter) == {Fact.CONSENTS, Fact.SUPPRESSIONS}
    assert pipeline.needs(letter) == {Fact.SUPPRESSIONS, Fact.LEAKS}
    assert pipeline.needs(reply) == {Fact.SUPPRESSIONS, Fact.THREAD, Fact.LEAKS}
    assert pipeline.needs(casebook.submission({"stream": "personal", "rcpt": ["hr@shop.example"]})) == {
        Fact.SUPPRESSIONS
    }
    assert pipeline.needs(confirmation) == {Fact.REQUESTS, Fact.SUPPRESSIONS}
    assert pipeline.needs(letter, Stage.ADMIT) == {Fact.STANDING, Fact.ALLOWANCE}
    assert pipeline.needs(newsletter, Stage.JUDGE, frozenset(["ann@example.net"])) == set()
    assert pipeline.needs(newsletter, Stage.JUDGE, frozenset(["bob@example.net"])) == {Fact.CONSENTS, Fact.SUPPRESSIONS}


def test_at_rcpt_a_letter_needs_no_consent_and_a_newsletter_does() -> None:
    pipeline = Pipeline(Catalogue.load({}))
    assert pipeline.needs(casebook.submission({"at": "rcpt"})) == {Fact.CONSENTS, Fact.SUPPRESSIONS}
    assert pipeline.needs(casebook.submission({"at": "rcpt", "stream": "personal"})) == {Fact.SUPPRESSIONS}


def test_every_fact_that_a_policy_reads_is_among_those_that_it_asks_for() -> None:
    """Each row of the tables again, with nothing gathered but what `needs` names: no policy may stumble."""
    pipeline = Pipeline(Catalogue.load({}))
    for name, row in casebook.every_row():
        mail = casebook.submission(row)
        if mail.message is None or name == "pipeline":
            continue
        everything = casebook.facts({**row, "unavailable": []}, mail)
        only = {fact: everything.values[fact] for fact in pipeline.needs(mail, Stage.SHAPE)}
        shaped = pipeline.shape(mail, Facts(only))
        everything = casebook.facts({**row, "unavailable": []}, shaped.mail)
        only = {fact: everything.values[fact] for fact in pipeline.needs(shaped.mail)}
        judged = pipeline.judge(shaped, Facts(only))
        assert not any(entry.error for entry in judged.trace), (name, row["why"], judged.trace)


def test_the_same_mail_gets_the_same_verdict_twice() -> None:
    for row in (row for name, row in casebook.every_row() if name == "content"):
        results = []
        for _ in range(2):
            pipeline = Pipeline(Catalogue.load({}))
            mail = casebook.submission(row)
            shaped = pipeline.shape(mail, casebook.facts(row, mail))
            ruling = pipeline.judge(shaped, casebook.facts(row, shaped.mail))
            results.append(ruling.as_json("nl", "https://relay.example"))
        assert results[0] == results[1]


def test_at_mail_the_sender_is_answered_without_a_message() -> None:
    pipeline = Pipeline(Catalogue.load({}))
    assert pipeline.sender(casebook.submission({"at": "mail"})).passes
    refused = pipeline.sender(casebook.submission({"at": "mail", "mail_from": "x@other.test"}))
    assert refused.reply("en", "https://relay.example").startswith("553 5.7.1 [ID-1] ")
    observed = Pipeline(Catalogue.load({"identity": {"mode": "observe"}}))
    assert observed.sender(casebook.submission({"at": "mail", "mail_from": "x@other.test"})).passes


def test_settings_in_force_can_be_asked_for() -> None:
    pipeline = Pipeline(Catalogue.load({"throttle": {"personal_messages_per_minute": 7}, "consent": {"mode": "off"}}))
    mail = casebook.submission({"stream": "personal"})
    assert pipeline.settings_of("throttle", mail).personal_messages_per_minute == 7  # type: ignore[union-attr]
    assert pipeline.settings_of("consent", mail) is None


def test_explain_shows_what_the_contract_promises() -> None:
    pipeline = Pipeline(Catalogue.load({"consent": {"mode": "observe"}}))
    row = {"head": ["X-Zegel-Tag: herfst", "List-Unsubscribe: <https://x.example/u>",
                    "List-Unsubscribe-Post: List-Unsubscribe=One-Click"]}  # fmt: skip
    mail = casebook.submission(row)
    shaped = pipeline.shape(mail, casebook.facts(row, mail))
    told = pipeline.judge(shaped, casebook.facts(row, shaped.mail)).as_json("en", "https://relay.example")
    assert set(told) == {"action", "reply", "recipients", "policies", "headers_after"}
    assert told["recipients"] == [{"address": "ann@example.net", "action": "accept", "rule": "", "reason": ""}]
    consent = next(entry for entry in told["policies"] if entry["policy"] == "consent")  # type: ignore[attr-defined]
    assert consent == {
        "policy": "consent", "mode": "observe", "action": "reject", "rule": "CONSENT-1", "reason": "consent.missing",
        "edits": [],
    }  # fmt: skip
    assert not any(name.lower().startswith("x-zegel") for name, _ in told["headers_after"])  # type: ignore[attr-defined]


def test_a_mail_that_was_held_by_shape_stays_held() -> None:
    pipeline = Pipeline(Catalogue.load({}))
    row = {"stream": "transactional", "rcpt": 40}
    mail = casebook.submission(row)
    shaped = pipeline.shape(mail, casebook.facts(row, mail))
    judged = pipeline.judge(shaped, casebook.facts(row, shaped.mail))
    assert (judged.action, judged.reason) == (Action.HOLD, "classification.many_recipients")
    assert reply_line(judged.reason, judged.detail, "en", "https://r.example").startswith("250 2.0.0 [CLASS-10]")
    assert REASONS[judged.reason].basic == "250"
