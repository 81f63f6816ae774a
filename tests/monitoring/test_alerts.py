"""Every alert fires when it should, says what the case says, and clears: judged by promtool, from alerts.toml."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from relay.observe import metrics
from relay.observe.registry import AnyMetric, Histogram
from tests.monitoring.files import MONITORING, RULES, Table, alerts, cases, need

INSTANCE = 'job="zegel",instance="gw:8025"'
SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$", re.M)
LABEL = re.compile(r'(\w+)="([^"]*)"')
IDS = [f"{case['alert']}-{number}" for number, case in enumerate(cases())]


def with_instance(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f"{name}{{{','.join(filter(None, (INSTANCE, labels)))}}}"


def at(minute: int, case: Table, *, fires: bool) -> Table:
    """What promtool is to find at this minute."""
    alert = alerts()[case["alert"]]
    firing = {
        "exp_labels": {
            "job": "zegel",
            "instance": "gw:8025",
            **case.get("labels", {}),
            **alert["labels"],
        },
        "exp_annotations": {**alert["annotations"], "summary": case.get("summary", "")},
    }
    return {"eval_time": f"{minute}m", "alertname": case["alert"], "exp_alerts": [firing] if fires else []}


def rules_about(case: Table, folder: Path) -> list[str]:
    """Files of rules: the recorded ones, and the alert's own, since promtool evaluates every rule in every minute."""
    own = [rule for rule in every_rule() if rule["alert"] == case["alert"]]
    (folder / "alerts.yml").write_text(json.dumps({"groups": [{"name": "own", "rules": own}]}))
    return [str(RULES / "recording.yml"), str(folder / "alerts.yml")]


@cache
def every_rule() -> list[Table]:
    """The alerts as Prometheus reads them."""
    groups = yaml.safe_load((RULES / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool_test(case: Table, rules: list[str]) -> str:
    """The case as promtool reads it; JSON is YAML."""
    tests = [at(minute, case, fires=False) for minute in case["quiet"]]
    tests += [at(case["fires"], case, fires=True)] if "fires" in case else []
    series = [{"series": with_instance(name), "values": values} for name, values in case["series"].items()]
    return json.dumps(
        {
            "rule_files": rules,
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": tests}],
        }
    )


def judge(case: Table, folder: Path) -> str:
    """What promtool finds wrong, or ""."""
    path = folder / "test.yml"
    path.write_text(promtool_test(case, rules_about(case, folder)))
    command = [need("promtool"), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("case", cases(), ids=IDS)
def test_an_alert_fires_and_clears(case: Table, tmp_path: Path) -> None:
    wrong = judge(case, tmp_path)
    assert not wrong, wrong


def test_an_alert_that_does_not_do_so_is_found(tmp_path: Path) -> None:
    case = next(case for case in cases() if case["alert"] == "ZegelDown")
    for change in ({"fires": 6}, {"quiet": [9]}, {"summary": "All is well"}, {"labels": {"kind": "web"}}):
        assert judge({**case, **change}, tmp_path), change


def test_the_configuration_is_what_prometheus_takes() -> None:
    command = [need("promtool"), "check", "config", "--lint=all", "--lint-fatal", str(MONITORING / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", [case for case in cases() if "fires" in case], ids=lambda case: case["alert"])
def test_a_case_begins_with_the_counters_that_a_fresh_gateway_shows(case: Table) -> None:
    """Prometheus sees no increase in a series that is born at 500, so what an alert counts is there at 0, and in the case too."""
    page = metrics.merge([{metric.name: _fresh(metric).dump() for metric in metrics.CATALOGUE}], metrics.Base())
    shown = {(name, frozenset(LABEL.findall(labels))) for name, labels in SERIES.findall(page)}
    for series in case["series"]:
        name, _, labels = series.partition("{")
        if name.endswith("_total"):
            assert any(name == each and set(LABEL.findall(labels)) <= own for each, own in shown), series


def _fresh(metric: AnyMetric) -> AnyMetric:
    """As at the start of a process, whatever other tests have counted."""
    if isinstance(metric, Histogram):
        return Histogram(metric.name, metric.help, metric.question, metric.labels, bounds=metric.bounds)
    return type(metric)(metric.name, metric.help, metric.question, metric.labels)


def test_the_page_of_metrics_is_what_prometheus_takes() -> None:
    """promtool's lint of names, units and help."""
    page = metrics.merge([metrics.snapshot()], metrics.Base())
    command = [need("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
