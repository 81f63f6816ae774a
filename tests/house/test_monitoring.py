"""Every alert has a case in which it fires and clears, says what to do, and has its entry in docs/operating.md."""

from __future__ import annotations

import re

import pytest

from relay.observe import events
from relay.settings.model import Settings
from tests.house.test_docs_in_step import tables
from tests.monitoring.files import OPERATING, RULES, alerts, anchors, cases

ENTRY = re.compile(r"^### (Zegel\w+)$(.*?)(?=^##|\Z)", re.M | re.S)


def entries() -> dict[str, str]:
    return dict(ENTRY.findall(OPERATING.read_text("utf-8")))


def test_every_alert_has_its_entry_and_no_entry_is_of_an_alert_that_is_gone() -> None:
    assert list(entries()) == list(alerts()), "in the order of the rules"


@pytest.mark.parametrize("name", alerts())
def test_an_entry_says_what_it_means_what_to_look_at_and_how_to_mend_it(name: str) -> None:
    parts = re.findall(r"^\*\*(Means|Look|Mend)\*\* \S", entries()[name], re.M)
    assert parts == ["Means", "Look", "Mend"]
    assert re.search(r"^    zegel \w", entries()[name], re.M), "a command, which tests/house/test_commands.py knows"


def test_events_and_alerts_that_it_names_exist() -> None:
    text = OPERATING.read_text("utf-8")
    said = set(re.findall(r"`([a-z]+\.[a-z]+(?:_[a-z]+)*ed)`", text))
    assert said - set(events.CATALOGUE) == set() and len(said) > 10
    assert set(re.findall(r"\bZegel[A-Z]\w+", text)) <= set(alerts())
    described = set(re.findall(r"\b([a-z]+\.[a-z_]+ed)\b", (RULES / "alerts.yml").read_text("utf-8")))
    assert described <= set(events.CATALOGUE)


def test_settings_that_it_names_exist() -> None:
    known = {f"{section}.{key}" for section, model in tables().items() for key in model.model_fields}
    named = set(re.findall(rf"`((?:{'|'.join(Settings.model_fields)})\.[a-z_]+)`", OPERATING.read_text("utf-8")))
    assert named - known - set(events.CATALOGUE) == set() and len(named) > 10


def test_every_alert_links_to_its_entry() -> None:
    known = set(anchors(OPERATING.read_text("utf-8")))
    assert {rule["annotations"]["runbook_url"].partition("#")[2] for rule in alerts().values()} <= known


@pytest.mark.parametrize("name", alerts())
def test_every_alert_has_a_case_in_which_it_fires_and_then_clears(name: str) -> None:
    own = [case for case in cases() if case["alert"] == name]
    firing = [case for case in own if "fires" in case]
    assert firing, f"{name} has no case in tests/monitoring/alerts.toml"
    for case in firing:
        assert min(case["quiet"]) < case["fires"] < max(case["quiet"]), "quiet before and after"


@pytest.mark.parametrize("name", alerts())
def test_every_alert_tells_who_should_look_and_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/operating.md#{name.lower()}"
    assert "{{" not in notes["description"], "what to do does not depend on the numbers"
    assert notes["description"].endswith(".") and not notes["summary"].endswith(".")
    assert re.search(r"`zegel |[Tt]he log|SIGHUP|[Ll]ook at|Renew|Find|Make room|Mend", notes["description"])


def test_no_case_is_for_an_alert_that_is_gone() -> None:
    assert {case["alert"] for case in cases()} <= set(alerts())
