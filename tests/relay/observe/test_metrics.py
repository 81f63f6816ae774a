"""Metrics: bounded labels, and counters that never fall whatever dies."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.observe import metrics
from relay.observe.exposition import Base, merge
from relay.observe.registry import MAX_SERIES, Counter, Gauge, Histogram, Label


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a page, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counter() -> Counter:
    return Counter("zegel_messages_total", "Messages.", "How many?", [Label("verdict", ("accept", "reject"))])


def test_merged_counters_never_fall_when_a_worker_dies() -> None:
    alive, dying = counter(), counter()
    base = Base()
    key = ("zegel_messages_total", (("verdict", "accept"),))
    alive.inc(("accept",), 3)
    seen = []
    for _ in range(5):
        dying.inc(("accept",), 2)
        snapshots = [{"zegel_messages_total": each.dump()} for each in (alive, dying)]
        seen.append(read(merge([alive], snapshots, base))[key])
        base.add(snapshots[1])
        dying = counter()
        seen.append(read(merge([alive], [snapshots[0], {"zegel_messages_total": dying.dump()}], base))[key])
    assert seen == [5, 5, 7, 7, 9, 9, 11, 11, 13, 13]
    assert len(base.snapshots) == 1, "a process that dies a thousand times costs no memory"


def test_gauges_of_the_dead_are_gone_and_those_of_the_living_add_up() -> None:
    sessions = Gauge("zegel_smtp_sessions", "Open.", "How many?")
    oldest = Gauge("zegel_queue_oldest_seconds", "Age.", "How old?", merge="max")
    base = Base()
    base.add({"zegel_smtp_sessions": [[[], 100]], "zegel_queue_oldest_seconds": [[[], 1e6]]})
    living = [{"zegel_smtp_sessions": [[[], n]], "zegel_queue_oldest_seconds": [[[], n]]} for n in (3, 4)]
    samples = read(merge([sessions, oldest], living, base))
    assert samples == {("zegel_smtp_sessions", ()): 7, ("zegel_queue_oldest_seconds", ()): 4}


def test_the_first_of_several_ends_counts_and_who_knows_none_has_no_say() -> None:
    expires = Gauge(
        "zegel_certificate_expires_timestamp_seconds",
        "End.",
        "When?",
        [Label("listener", re.compile("submission"))],
        merge="min",
    )
    name = "zegel_certificate_expires_timestamp_seconds"
    living = [{name: [[["submission"], 2e9]]}, {name: [[["submission"], 1e9]]}, {name: expires.dump()}]
    assert read(merge([expires], living, Base())) == {(name, (("listener", "submission"),)): 1e9}


def test_no_lowest_is_of_a_series_that_every_process_has_from_its_start() -> None:
    lowest = [metric for metric in metrics.CATALOGUE if isinstance(metric, Gauge) and metric.merge == "min"]
    assert lowest and all(not Gauge(m.name, m.help, m.question, m.labels).values for m in lowest)


def test_histograms_add_up_and_their_buckets_are_cumulative() -> None:
    histogram = Histogram("zegel_accept_seconds", "Time.", "Slow?", bounds=(0.1, 1))
    for value in (0.05, 0.1, 0.5, 3):
        histogram.observe(value)
    base = Base()
    base.add({"zegel_accept_seconds": histogram.dump()})
    samples = read(merge([histogram], [{"zegel_accept_seconds": histogram.dump()}], base))
    buckets = {dict(labels).get("le"): value for (name, labels), value in samples.items() if name.endswith("_bucket")}
    assert buckets == {"0.1": 4, "1.0": 6, "+Inf": 8}
    assert samples[("zegel_accept_seconds_count", ())] == 8
    assert samples[("zegel_accept_seconds_sum", ())] == pytest.approx(7.3)


def test_a_snapshot_of_older_code_with_other_buckets_spoils_nothing() -> None:
    histogram = Histogram("zegel_accept_seconds", "Time.", "Slow?", bounds=(0.1, 1))
    histogram.observe(0.5)
    old = {"zegel_accept_seconds": [[[], [1, 2, 3, 4, 5]]], "zegel_gone_total": [[[], 4]]}
    samples = read(merge([histogram], [{"zegel_accept_seconds": histogram.dump()}, old], Base()))
    assert samples[("zegel_accept_seconds_count", ())] == 1


def test_text_from_outside_never_becomes_a_label() -> None:
    metric = counter()
    for value in ("ann@example.net", "Subject: hello", "accept"):
        metric.inc((value,))
    assert metric.values == {("accept",): 1, ("reject",): 0, ("other",): 2}
    pattern = Counter("zegel_refusals_total", "Refusals.", "Which?", [Label("rule", re.compile("[A-Z]+-[0-9]+"))])
    for number in range(3 * MAX_SERIES):
        pattern.inc((f"RULE-{number}",))
    assert len(pattern.values) <= MAX_SERIES + 1
    assert sum(pattern.values.values()) == 3 * MAX_SERIES


def test_a_forgotten_label_is_a_bug_and_is_said() -> None:
    with pytest.raises(ValueError, match="verdict"):
        counter().inc()
    with pytest.raises(ValueError, match="prefix"):
        Counter("messages_total", "Messages.", "How many?")


def test_the_page_of_the_catalogue_names_everything_and_holds_no_address() -> None:
    """OPS-1, OPS-3: every metric is on the page before anything has happened, as JSON from another process too."""
    text = metrics.merge([json.loads(json.dumps(metrics.snapshot()))], Base())
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {metric.name.removesuffix("_total") for metric in metrics.CATALOGUE} == names
    assert "@" not in text


@pytest.mark.parametrize("metric", metrics.CATALOGUE, ids=lambda metric: metric.name)
def test_every_metric_of_the_catalogue_is_well_formed(metric: metrics.AnyMetric) -> None:
    assert metric.help.endswith(".") and metric.question.endswith("?")
    assert metric.name.endswith("_total") == isinstance(metric, Counter)
    assert not re.search(r"_(ms|millis|minutes|kb|mb|percent)(_|$)", metric.name), "base units only"
    if isinstance(metric, Histogram):
        assert list(metric.bounds) == sorted(set(metric.bounds))
    for label in metric.labels:
        assert not label.admits("ann@example.net") and not label.admits("two words") and not label.admits("")


def test_the_names_that_dashboards_rely_on_are_there() -> None:
    promised = {
        "zegel_messages_total": ["stream", "verdict"],
        "zegel_refusals_total": ["rule"],
        "zegel_recipients_total": ["outcome"],
        "zegel_deliveries_total": ["provider", "outcome"],
        "zegel_queue_messages": ["state"],
        "zegel_queue_oldest_seconds": ["provider"],
        "zegel_accept_seconds": [],
        "zegel_delivery_seconds": [],
        "zegel_policy_seconds": ["policy"],
        "zegel_throttled_total": ["scope"],
        "zegel_complaint_ratio": ["tenant"],
        "zegel_bounce_ratio": ["tenant"],
        "zegel_dnsbl_listed": ["zone"],
        "zegel_held_messages": [],
        "zegel_unsubscribes_total": ["channel"],
        "zegel_loop_lag_seconds": [],
    }
    declared = {metric.name: [label.name for label in metric.labels] for metric in metrics.CATALOGUE}
    assert {name: declared.get(name) for name in promised} == promised
