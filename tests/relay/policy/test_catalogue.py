"""The catalogue takes policies of the right form and settings of the right kind, and names everything else."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.mail.envelope import Stream
from relay.policy.catalogue import ORDER, Catalogue, CatalogueError
from relay.policy.options import declared
from tests.policies import casebook

GOOD = '''
"""A policy that lets everything pass."""
from dataclasses import dataclass
from relay.policy.options import option
from relay.policy.verdict import Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = ()

@dataclass(frozen=True)
class Settings:
    limit: int = option(5, "A number.")

def decide(mail, facts, settings):
    return Verdict.accept()
'''
Write = Callable[..., str]
_numbers = itertools.count()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules of a package of its own and gives the package's name."""
    name = f"house{next(_numbers)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(**modules: str) -> str:
        for module, text in modules.items():
            (tmp_path / name / f"{module}.py").write_text(text)
        return name

    yield write  # type: ignore[misc]  # a fixture that cleans up
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def problems(tables: dict[str, object], package: str = "policies") -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        Catalogue.load(tables, package=package)
    return [str(problem) for problem in caught.value.problems]


def test_the_policies_of_the_house_load_in_their_order() -> None:
    assert tuple(policy.name for policy in Catalogue.load({}).policies) == ORDER


def test_every_policy_has_a_docstring_that_names_a_rule() -> None:
    for policy in Catalogue.load({}).policies:
        assert "-" in policy.doc and len(policy.doc) > 200, policy.name


def test_every_setting_is_explained_in_one_line() -> None:
    for policy in Catalogue.load({}).policies:
        for option in declared(policy.settings_type):
            assert option.doc.endswith(".") and "\n" not in option.doc, (policy.name, option.name)


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('"""A policy that lets everything pass."""', "", "no docstring"),
        ("NEEDS = ()", "NEEDS = ['consents']", "NEEDS is not a tuple of Fact"),
        ("STAGE = Stage.JUDGE", "STAGE = 'judge'", "STAGE is not a Stage"),
        ("frozen=True", "frozen=False", "Settings is not frozen"),
        ('limit: int = option(5, "A number.")', "limit: int = 5", "limit: declare it with option"),
        ("def decide(mail, facts, settings)", "def decide(mail, facts)", "decide does not take 3 arguments"),
        ("def decide", "async def decide", "decide is not a plain function"),
        ("def decide", "def settle", "it has no function decide"),
        ("NEEDS = ()", "NEEDS = ()\nAT_RCPT = 'yes'", "AT_RCPT is not a boolean"),
        ("NEEDS = ()", "NEEDS = ()\nMODE = 'loud'", "MODE is no mode"),
        (
            "NEEDS = ()",
            "NEEDS = ()\nfrom relay.policy.options import PerStream\nMODE = PerStream.all('loud')",
            "MODE is no mode",
        ),
        ("NEEDS = ()", "NEEDS = ()\nON_UNAVAILABLE = 'guess'", "ON_UNAVAILABLE is no choice"),
        ("NEEDS = ()", "NEEDS = ()\nSTAND_IN = {'thread': 1}", "STAND_IN names a fact"),
        ("def decide", "def helper():\n    return 1\n\ndef decide", "helper is public and no part of a policy"),
        ("def decide", "def asks(mail):\n    return ()\n\ndef decide", "asks does not take 2 arguments"),
    ],
)
def test_a_module_of_the_wrong_form_stops_the_start(house: Write, old: str, new: str, wrong: str) -> None:
    assert old in GOOD
    package = house(probe=GOOD.replace(old, new, 1))
    (said,) = problems({"pipeline": {"order": ["probe"]}}, package)
    assert wrong in said


def test_a_policy_of_the_right_form_is_taken(house: Write) -> None:
    catalogue = Catalogue.load({"pipeline": {"order": ["probe"]}, "probe": {"limit": 7}}, package=house(probe=GOOD))
    plan = catalogue.plan(casebook.tenant({}), Stream.PERSONAL)
    assert [step.settings.limit for step in plan.judge] == [7]  # type: ignore[attr-defined]  # the probe's settings


def test_a_policy_that_is_not_there_is_named(house: Write) -> None:
    (said,) = problems({"pipeline": {"order": ["nowhere"]}}, house())
    assert "nowhere" in said and "take the name out of the order" in said


def test_stages_out_of_order_stop_the_start() -> None:
    said = problems({"pipeline": {"order": ["identity", "classification"]}})
    assert any("stages are out of order" in line for line in said)


def test_a_policy_named_twice_stops_the_start() -> None:
    assert any("named twice" in line for line in problems({"pipeline": {"order": ["identity", "identity"]}}))


@pytest.mark.parametrize("order", ["identity", ["../etc"], [1], ["Identity"]])
def test_an_order_that_is_no_list_of_names_stops_the_start(order: object) -> None:
    assert any("not a list of names" in line for line in problems({"pipeline": {"order": order}}))


@pytest.mark.parametrize(
    ("tables", "key", "remedy"),
    [
        ({"consent": {"third_party": "accept"}}, "policies.consent.third_party", "Known keys: double_optin"),
        ({"unsubscribe": {"missing": "maybe"}}, "policies.unsubscribe.missing", "refuse, inject"),
        ({"unsubscribe": {"missing": 1}}, "policies.unsubscribe.missing", "between quotes"),
        ({"consent": {"confirm_mails": "2"}}, "policies.consent.confirm_mails", "without quotes"),
        ({"consent": {"confirm_mails": True}}, "policies.consent.confirm_mails", "without quotes"),
        ({"consent": {"confirm_mails": -1}}, "policies.consent.confirm_mails", "0 or more"),
        ({"consent": {"double_optin": "DE"}}, "policies.consent.double_optin", '["one", "two"]'),
        ({"consent": {"mode": "loud"}}, "policies.consent.mode", "off, observe, enforce"),
        ({"consent": {"mode": {"market": "off"}}}, "policies.consent.mode", "marketing, transactional, personal"),
        ({"consent": {"on_unavailable": "guess"}}, "policies.consent.on_unavailable", "defer, hold, accept"),
        ({"consent": {"partial": "some"}}, "policies.consent.partial", "atomic, partial"),
        ({"consent": 5}, "policies.consent", "Write [policies.consent]"),
        ({"recipients": {"exposed": {"personal": "shout"}}}, "policies.recipients.exposed", "split, hide, ask, reject"),
        ({"recipients": {"act_from": 1}}, "policies.recipients.act_from", "2 or more"),
        ({"recipients": {"warn_from": 20, "act_from": 10}}, "policies.recipients.warn_from", "Write 10 or less"),
        ({"recipients": {"warn_from": 20}}, "policies.recipients.warn_from", "Write 10 or less"),
        ({"recipients": {"party_groups": ["not a domain!!"]}}, "policies.recipients.party_groups", "names as in DNS"),
        ({"recipients": {"party_groups": ["klant"]}}, "policies.recipients.party_groups", "names as in DNS"),
        ({"recipients": {"freemail": [""]}}, "policies.recipients.freemail", "names as in DNS"),
        ({"consent": {"double_optin": ["DE", "nonsense"]}}, "policies.consent.double_optin", "AT"),
        ({"consent": {"confirm_mails": 10**26}}, "policies.consent.confirm_mails", "or less"),
        ({"identity": {"require_key": "yes"}}, "policies.identity.require_key", "true or false"),
        ({"spam": {}}, "policies.spam", "Policies: classification"),
        ({"pipeline": {"retries": 3}}, "policies.pipeline.retries", "order, partial"),
        ({"pipeline": []}, "policies.pipeline", "Write [policies.pipeline]"),
    ],
)
def test_a_wrong_setting_names_key_and_remedy(tables: dict[str, object], key: str, remedy: str) -> None:
    (said,) = problems(tables)
    assert said.startswith(f"{key}: ") and remedy in said


@pytest.mark.parametrize(
    "table",
    [
        {"act_from": 3},  # the default of warn_from is only overtaken then, and nobody wrote it down
        {"warn_from": 10, "act_from": 10},
        {"party_groups": ["klant.nl klant.com", "bücher.example xn--bcher-kva.example"]},
        {"freemail": ["mail.example", "Post.Example"]},
    ],
)
def test_settings_that_can_work_are_taken(table: dict[str, object]) -> None:
    Catalogue.load({"recipients": table, "consent": {"double_optin": ["DE", "ALL"]}})


def test_every_problem_is_told_at_once() -> None:
    said = problems({"consent": {"mode": "loud", "confirm_mails": "maybe"}, "spam": {}, "identity": {"nothing": 1}})
    assert len(said) == 4


def test_a_tenant_s_settings_can_be_checked_before_they_are_kept() -> None:
    catalogue = Catalogue.load({})
    assert catalogue.check("unsubscribe", {"missing": "inject", "on_unavailable": "defer"}) == []
    (problem,) = catalogue.check("unsubscribe", {"missing": "guess"})
    assert problem.key == "unsubscribe.missing"
    (problem,) = catalogue.check("spam", {})
    assert problem.wrong == "no such policy"


def test_a_plan_is_made_once_for_a_tenant_and_anew_for_its_next_state() -> None:
    catalogue = Catalogue.load({})
    before = casebook.tenant({"tenant": {"modes": {"consent": "off"}}})
    after = casebook.tenant({"tenant": {"modes": {"consent": "observe"}}})
    assert catalogue.plan(before, Stream.MARKETING) is catalogue.plan(before, Stream.MARKETING)
    names = [step.policy.name for step in catalogue.plan(before, Stream.MARKETING).judge]
    assert "consent" not in names
    assert [s.mode for s in catalogue.plan(after, Stream.MARKETING).judge if s.policy.name == "consent"] == ["observe"]


def test_tenants_without_wishes_share_one_plan() -> None:
    catalogue = Catalogue.load({})
    one, other = casebook.tenant({}), casebook.tenant({})
    assert catalogue.plan(one, Stream.PERSONAL) is catalogue.plan(other, Stream.PERSONAL)
    assert catalogue.plan(one, Stream.PERSONAL) is not catalogue.plan(one, Stream.MARKETING)


def test_a_stream_s_setting_lies_over_the_tenant_s() -> None:
    wishes = {"throttle": {"max_parked_recipients": 7}, "throttle/marketing": {"max_parked_recipients": 9}}
    tenant, catalogue = casebook.tenant({"tenant": {"settings": wishes}}), Catalogue.load({})
    for stream, expected in ((Stream.MARKETING, 9), (Stream.PERSONAL, 7)):
        step = catalogue.plan(tenant, stream).admit[-1]
        assert step.settings.max_parked_recipients == expected  # type: ignore[attr-defined]  # of throttle
