"""What is written about the code is what the code says."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest

from relay.mail.apikey import Scope
from relay.observe import events, metrics
from relay.observe.describe import PAGES
from relay.policy.reference import config_text
from relay.settings.model import Settings
from relay.settings.section import Section
from tests.house.tree import PACKAGES, ROOT, name, nodes, sources

RULE = re.compile(
    r"\b(?:PIPE|CLASS|CONSENT|UNSUB|CC|ID|DKIM|BULK|THROTTLE|REP|FB|SMTP|OUT|MSG|DLP|LAW|GDPR|OPS)-\d{1,2}\b"
)
EVENT = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")

# Settings that nothing reads by their own name, and where they are read: no dead option stays without anybody noticing.
READ_AS = {
    "limits.bare_line_end_networks": "read as settings.line_ends_mended",
    "limits.connections_exempt_networks": "read as settings.connections_exempt",
    "processing.endpoints": "read as settings.processing.places",
}


def test_the_config_holds_every_key_with_its_default_and_explanation() -> None:
    """`make generate` writes it."""
    assert (ROOT / "config/zegel.toml").read_text() == config_text()


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_of_monitoring_say_what_the_catalogues_say(page: str) -> None:
    """`make generate` writes them."""
    assert (ROOT / f"monitoring/{page}.md").read_text() == PAGES[page]()


def test_every_rule_that_the_code_names_is_explained() -> None:
    rules = set(RULE.findall((ROOT / "docs/rules.md").read_text()))
    named = {
        (rule, name(path))
        for path in (*sources(*PACKAGES), *ROOT.glob("relay/**/*.toml"))
        for rule in RULE.findall(path.read_text())
    }
    assert {(rule, path) for rule, path in named if rule not in rules} == set()


NOT_BUILT: set[str] = set()


def test_what_is_not_built_is_said_so() -> None:
    """Code that only names a rule keeps none: docs/rules.md promised a report of leaks within a day, and nothing made one."""
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs/rules.md").read_text().splitlines()]
    said = {cells[0]: cells[2:] for cells in rows if len(cells) == 4 and cells[1] == "not built"}
    assert said.keys() == NOT_BUILT
    assert all(dutch.startswith("Nog niet gebouwd: ") for dutch, _ in said.values())
    assert all(english.startswith("Not built yet: ") for _, english in said.values())


def test_the_page_of_the_api_names_every_scope() -> None:
    listed = set(re.findall(r"^\| `([a-z]+:[a-z]+)` \|", (ROOT / "docs/api.md").read_text(), re.MULTILINE))
    assert listed == {scope.value for scope in Scope}


def used(module: str) -> dict[str, str]:
    """Constants of a catalogue that the code names, and where: `events.QUEUE_FAILED`."""
    return {
        node.attr: f"{name(path)}:{node.lineno}"
        for path in sources("relay")
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
        if node.attr.isupper()
    }


def test_every_event_and_metric_that_the_code_names_is_declared() -> None:
    assert {event: place for event, place in used("events").items() if not hasattr(events, event)} == {}
    assert {metric: place for metric, place in used("metrics").items() if not hasattr(metrics, metric)} == {}


def test_events_have_one_name_each_in_one_form() -> None:
    declared = [value for key, value in vars(events).items() if key.isupper() and key != "CATALOGUE"]
    assert sorted(declared) == sorted(events.CATALOGUE), "each constant is one event"
    assert all(EVENT.fullmatch(event) and event.endswith("ed") for event in declared)
    assert all(meaning.endswith(".") for meaning in events.CATALOGUE.values())


def test_no_event_is_logged_by_a_name_of_its_own() -> None:
    """The first argument of log.info and the like is a constant, never a text."""
    texts = {
        f"{name(path)}:{node.lineno}"
        for path in sources("relay")
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
        if node.args and not isinstance(node.args[0], ast.Attribute | ast.Name)
    }
    assert texts == set()


def test_no_setting_is_dead() -> None:
    """Each key is read somewhere outside of relay/settings; what is not is listed above, with the reason."""
    read = {
        node.attr
        for path in sources("relay")
        if not name(path).startswith("relay/settings/")
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
    }
    dead = {f"{section}.{key}" for section, model in tables().items() for key in model.model_fields if key not in read}
    assert dead - set(READ_AS) == set()
    assert set(READ_AS) - dead == set(), "read by now: take it off the list"


def tables() -> dict[str, type[Section]]:
    found: dict[str, type[Section]] = {}
    for section, field in Settings.model_fields.items():
        first = field.default[0] if isinstance(field.default, tuple) else field.default
        if isinstance(first, Section):
            found[section] = type(first)
    return found


def test_every_dependency_is_explained_and_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=;\[ ]", text, maxsplit=1)[0].lower().replace("_", "-") for text in wanted}
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.M))
    assert names - locked == set(), "make lock"
    rows = set(re.findall(r"^\| ([a-z0-9.-]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.M))
    assert names - rows == set() and rows - locked - {"package"} == set()


def test_the_lock_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--trusted-host|--find-links| @ ", lock)
