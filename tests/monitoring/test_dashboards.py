"""The dashboards: in step with their source, of known metrics, each panel a question with its runbook; and what Grafana takes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relay.observe import metrics
from relay.observe.dashboards import dashboards
from tests.clients.installed import need as need_program
from tests.clients.installed import npm_modules
from tests.monitoring.files import MONITORING, OPERATING, Table, alerts, anchors, rules

GRAFANA = Path(__file__).parent / "grafana"
FOLDER = MONITORING / "grafana/dashboards"
DASHBOARDS: dict[str, Table] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]]
IDS = [f"{name}-{panel['id']}" for name, panel in PANELS]
METRIC = re.compile(r"\b(instance:)?zegel_\w+(?::\w+)?")


def metrics_of(expression: str) -> set[str]:
    """Names of ours in an expression, without the endings of a histogram's series."""
    outside = re.sub(r"\{[^}]*\}", "", expression)
    return {match[0] for match in METRIC.finditer(outside)}


def known() -> set[str]:
    found = {rule["record"] for rule in rules("recording.yml")}
    for metric in metrics.CATALOGUE:
        found |= (
            {f"{metric.name}{end}" for end in ("_bucket", "_sum", "_count")}
            if isinstance(metric, metrics.Histogram)
            else {metric.name}
        )
    return found


def test_the_files_are_what_their_source_says() -> None:
    """`make generate` writes them."""
    made = dashboards(MONITORING)
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in made}
    assert {name: (FOLDER / f"{name}.json").read_text("utf-8") for name in made} == made


def test_there_is_one_for_each_question_of_an_operator() -> None:
    assert set(DASHBOARDS) == {"overview", "tenants", "policies", "delivery", "limits", "process"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_a_panel_asks_a_question_and_says_where_the_answer_leads(name: str, panel: Table) -> None:
    assert panel["title"].endswith("?") and panel["title"][0].isupper()
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    (link,) = panel["links"]
    page, _, anchor = link["url"].partition("#")
    assert page == "${runbook}" and anchor in set(anchors(OPERATING.read_text("utf-8")))


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_a_panel_shows_metrics_that_exist_of_the_chosen_gateways(name: str, panel: Table) -> None:
    for target in panel["targets"]:
        named = metrics_of(target["expr"]) or ({"ALERTS"} & set(re.findall(r"\w+", target["expr"])))
        assert named and named - known() - {"ALERTS"} == set(), target["expr"]
        assert target["expr"].count('instance=~"$instance"') == len(
            re.findall(r"(?:zegel_[\w:]+|ALERTS)\{", target["expr"])
        )
        assert "$in}" not in target["expr"] and not re.search(r"zegel_\w+(?![\w:{])", target["expr"])


def test_no_panels_lie_over_each_other() -> None:
    for dashboard in DASHBOARDS.values():
        taken = [
            (x, y)
            for panel in dashboard["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(taken) == len(set(taken)) and max(x for x, _ in taken) < 24
        assert len({panel["title"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_alerts_and_recording_rules_use_metrics_that_exist() -> None:
    used = {name for rule in (*rules("alerts.yml"), *rules("recording.yml")) for name in metrics_of(rule["expr"])}
    assert used - known() == set()


def test_every_recorded_number_is_used() -> None:
    expressions = " ".join(
        [rule["expr"] for rule in rules("alerts.yml")]
        + [target["expr"] for _, panel in PANELS for target in panel["targets"]]
    )
    recorded = {rule["record"] for rule in rules("recording.yml")}
    assert {name for name in recorded if name not in expressions} == set()


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    """What nobody looks at need not be measured; the exceptions say who does."""
    shown = {name for _, panel in PANELS for target in panel["targets"] for name in metrics_of(target["expr"])}
    shown |= {name for rule in (*rules("alerts.yml"), *rules("recording.yml")) for name in metrics_of(rule["expr"])}
    elsewhere = {
        "zegel_stage_cpu_seconds_total": "for `zegel bench`",
        "zegel_dnsbl_listed": "nothing sets it; docs/operating.md says so",
    }
    missing = {metric.name for metric in metrics.CATALOGUE if not any(name.startswith(metric.name) for name in shown)}
    assert missing == set(elsewhere)


def test_alerts_are_linked_from_panels() -> None:
    """At least one panel leads to each group of alerts, so that an alarm is found from the picture too."""
    linked = {panel["links"][0]["url"].partition("#")[2] for _, panel in PANELS}
    assert len(linked & {name.lower() for name in alerts()}) > len(alerts()) // 2


def type_check(folder: Path, sources: dict[str, str]) -> str:
    """What tsc says about these files beside dashboards.ts, or ""."""
    shutil.copy(GRAFANA / "dashboards.ts", folder)
    for name, text in sources.items():
        (folder / f"{name}.ts").write_text(text, encoding="utf-8")
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext"]
    tsc = [need_program("node", "nodejs"), str(folder / "node_modules/typescript/bin/tsc")]
    files = [f"{name}.ts" for name in sources]
    done = subprocess.run(
        [*tsc, *options, "--skipLibCheck", *files], cwd=folder, capture_output=True, text=True, check=False, timeout=180
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def as_source(text: str) -> str:
    head = "import type { IsDashboard, Zegel } from './dashboards.js';\nexport type Check = IsDashboard<Zegel>;\n"
    return f"{head}const dashboard: Zegel = {text.rstrip()};\nexport default dashboard;\n"


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder in which `@grafana/schema` and TypeScript are installed."""
    assert request.config.cache is not None
    lock = hashlib.sha256((GRAFANA / "package-lock.json").read_bytes()).hexdigest()[:16]
    modules = npm_modules(request.config.cache.mkdir(f"npm-{lock}"), GRAFANA)
    (tmp_path / "node_modules").symlink_to(modules, target_is_directory=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def test_grafanas_own_types_take_every_dashboard(folder: Path) -> None:
    wrong = type_check(folder, {name: as_source(text) for name, text in dashboards(MONITORING).items()})
    assert not wrong, wrong


MISTAKES = (
    ('"graphTooltip": 1', '"graphTooltip": "crosshair"'),
    ('"drawStyle": "line"', '"drawStyle": "lines"'),
    ('"placement": "bottom"', '"place": "bottom"'),
    ('"mode": "absolute"', '"mode": "relative"'),
    ('"colorMode": "value"', '"colorMode": "foreground"'),
    ('"schemaVersion": 39', '"schemaVersion": "39"'),
    ('run that should?"', 'run that should"'),
    ('"unit": "cps"', '"units": "cps"'),
)


def test_a_dashboard_that_grafana_would_not_understand_is_found(folder: Path) -> None:
    text = dashboards(MONITORING)["overview"]
    assert all(right in text for right, _ in MISTAKES)
    wrong = {f"wrong{number}": as_source(text.replace(*mistake, 1)) for number, mistake in enumerate(MISTAKES)}
    said = type_check(folder, wrong)
    assert {name for name in wrong if f"{name}.ts(" not in said} == set()
