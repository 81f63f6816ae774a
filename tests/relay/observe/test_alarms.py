"""Alarms of the gateway itself: the same as Prometheus' alerts, once each, with patience, repeated, and over when they are."""

from __future__ import annotations

from typing import Any

import pytest

from relay.observe import metrics
from relay.observe.alarms import CONDITIONS, Alarms, Condition, standing
from relay.observe.registry import Snapshot
from tests.monitoring.files import alerts

START = 1_767_348_000.0
MINUTE = 60.0
STEP = 15.0


def as_promql(condition: Condition) -> str:
    """What the condition says, in Prometheus' words."""
    (metric,) = [metric for metric in metrics.CATALOGUE if metric.name == condition.metric]
    where = [f'{label.name}="{value}"' for label, value in zip(metric.labels, condition.where, strict=True) if value]
    series = condition.metric + (f"{{{','.join(where)}}}" if where else "")
    window, bound = f"[{_minutes(condition.window)}]", f"{condition.bound:g}"
    return {
        "above": f"{series} > {bound}",
        "at_least": f"{series} >= {bound}",
        "is": f"{series} == {bound}",
        "rises": f"increase({series}{window}) > {bound}",
        "peaks": f"max_over_time({series}{window}) > {bound}",
        "ends_within": f"{series} - time() < {bound} * 86400",
        "below_twice": f"{series} < {bound} * {condition.than}",
    }[condition.form]


def _minutes(minutes: float) -> str:
    return f"{minutes / 60:g}h" if minutes >= 60 else f"{minutes:g}m"


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_an_alarm_is_the_alert_of_its_name(condition: Condition) -> None:
    alert = alerts()[condition.name]
    assert as_promql(condition) == alert["expr"].replace("2 * 3600", "7200")
    assert alert.get("for", "0m") == _minutes(condition.patience)
    assert alert["labels"]["severity"] == condition.severity


def test_each_has_a_name_of_its_own_and_critical_alerts_are_there_but_those_of_prometheus_alone() -> None:
    names = [condition.name for condition in CONDITIONS]
    assert len(set(names)) == len(names)
    critical = {name for name, alert in alerts().items() if alert["labels"]["severity"] == "critical"}
    assert critical - set(names) == {
        "ZegelDown",  # who is down cannot say so
        "ZegelStartsAgain",  # nor remember
        "ZegelQueueStuck",  # told by ZegelNextHopFailing, ZegelStoreUnusable and ZegelUrgentMailOld
        "ZegelBlockedByProvider",  # told by ZegelTenantBounces
    }


def run(alarms: Alarms, numbers: Snapshot, minutes: float, at: float) -> tuple[list[tuple[str, str, str]], float]:
    """What is told in these minutes, and when they are over."""
    told, end = [], at + minutes * MINUTE
    while at < end:
        at += STEP
        told += [(change.condition.name, change.labels, change.state) for change in alarms.look(at, numbers)]
    return told, at


def numbers(**series: Any) -> Snapshot:
    """A gateway that is well but for these."""
    well = {
        "store_usable": [[[], 1]],
        "disk_free_bytes": [[[], 50e9]],
        "disk_reserve_bytes": [[[], 1e9]],
        "certificate_expires_timestamp_seconds": [[["submission"], START + 80 * 86_400]],
        "crashes_total": [[["session"], 2], [["web"], 0]],
    }
    return {f"zegel_{name}": value for name, value in (well | series).items()}


def test_nothing_is_told_of_a_gateway_that_is_well_nor_of_what_was_before() -> None:
    assert run(Alarms(3600), numbers(), 300, START)[0] == []
    assert standing(START, numbers()) == []


def test_it_waits_for_its_patience_is_told_once_repeated_and_over() -> None:
    alarms, stopped = Alarms(60 * MINUTE), numbers(queue_stopped=[[[], 1]])
    told, at = run(alarms, stopped, 0.75, START)
    assert told == [], "a short while is no alarm"
    told, at = run(alarms, stopped, 5, at)
    assert told == [("ZegelQueueStopped", "", "begun")]
    told, at = run(alarms, stopped, 58, at)
    assert told == [("ZegelQueueStopped", "", "ongoing")]
    told, at = run(alarms, numbers(), 4, at)
    assert told == [], "not yet: it may come back"
    told, at = run(alarms, numbers(), 2, at)
    assert told == [("ZegelQueueStopped", "", "over")]
    assert run(alarms, numbers(), 60, at)[0] == []


def test_what_comes_and_goes_within_the_patience_is_never_told() -> None:
    alarms, at = Alarms(3600), START
    for _ in range(20):
        told, at = run(alarms, numbers(next_hops_failing=[[[], 1]]), 4, at)
        assert told == []
        told, at = run(alarms, numbers(), 1, at)
        assert told == []


def test_a_counter_that_rises_is_told_and_is_over_when_it_has_rested() -> None:
    alarms, at = Alarms(24 * 3600), START
    _, at = run(alarms, numbers(), 1, at)
    told, at = run(alarms, numbers(crashes_total=[[["session"], 2], [["web"], 1]]), 14, at)
    assert told == [("ZegelCrashed", "web", "begun")]
    told, at = run(alarms, numbers(crashes_total=[[["session"], 2], [["web"], 1]]), 8, at)
    assert told == [("ZegelCrashed", "web", "over")]


@pytest.mark.parametrize(("on", "off", "letters"), [(1.25, 1.25, 2), (3, 4, 2), (10, 10, 12), (40, 40, 10)])
def test_what_flaps_for_six_hours_is_no_storm(on: float, off: float, letters: int) -> None:
    """Once 1,151 letters a day. What is away for a moment has not ended, and nothing begins and ends more than once an hour."""
    alarms, at, told = Alarms(4 * 3600), START, []
    while at < START + 6 * 3600:
        for degraded, minutes in ((1, on), (0, off)):
            more, at = run(alarms, numbers(limits_degraded=[[[], degraded]]), minutes, at)
            told += more
    assert 0 < len(told) <= letters
    assert told[0] == ("ZegelLimitsDegraded", "", "begun")


def test_what_came_back_too_soon_to_be_told_is_told_after_the_hour() -> None:
    alarms, at, changes = Alarms(4 * 3600), START, []
    for minute in range(180):
        degraded = minute < 4 or 20 <= minute < 24 or 40 <= minute < 44
        changes += alarms.look(at + minute * MINUTE, numbers(limits_degraded=[[[], int(degraded)]]))
    said = [(change.state, round((change.since - START) / MINUTE), change.times) for change in changes]
    assert said == [("begun", 0, 0), ("over", 0, 0), ("over", 20, 2)]


def test_what_comes_back_and_stays_is_told_when_its_hour_is_over() -> None:
    alarms, changes = Alarms(4 * 3600), []
    for minute in range(120):
        degraded = minute < 4 or 20 <= minute < 24 or minute >= 40
        for change in alarms.look(START + minute * MINUTE, numbers(limits_degraded=[[[], int(degraded)]])):
            changes.append((minute, change.state, change.times))
    assert changes == [(1, "begun", 0), (9, "over", 0), (61, "begun", 1)]


def test_a_process_that_comes_up_for_a_moment_is_missing_all_the_same() -> None:
    alarms, at, told = Alarms(24 * 3600), START, []
    for _ in range(4):
        for missing in (1, 0):
            more, at = run(alarms, numbers(processes=[[["worker", "missing"], missing]]), 0.5, at)
            told += more
    assert told == [("ZegelProcessMissing", "worker", "begun")]


def test_each_tenant_is_told_apart() -> None:
    alarms = Alarms(24 * 3600)
    two = [[["shop"], 0.06], [["club"], 0.051], [["good"], 0.01]]
    told, at = run(alarms, numbers(bounce_ratio=two), 16, START)
    assert sorted(told) == [("ZegelTenantBounces", "club", "begun"), ("ZegelTenantBounces", "shop", "begun")]
    told, _ = run(alarms, numbers(bounce_ratio=[[["shop"], 0.06], [["club"], 0.0]]), 6, at)
    assert told == [("ZegelTenantBounces", "club", "over")]


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("ZegelProcessMissing", {"processes": [[["worker", "missing"], 1], [["worker", "running"], 1]]}),
        ("ZegelProcessSilent", {"processes": [[["web", "silent"], 1]]}),
        ("ZegelStoreUnusable", {"store_usable": [[[], 0]]}),
        ("ZegelLimitsDegraded", {"limits_degraded": [[[], 1]]}),
        ("ZegelDirectoryStale", {"directory_stale": [[[], 1]]}),
        ("ZegelReloadRefused", {"reload_refused": [[[], 1]]}),
        ("ZegelQueueDamaged", {"queue_corrupt_rows": [[[], 1]]}),
        ("ZegelUrgentMailOld", {"queue_age_seconds": [[["urgent"], 3601.0], [["bulk"], 0.0]]}),
        ("ZegelHeldMailOld", {"held_oldest_seconds": [[[], 7201.0]]}),
        ("ZegelKeyDiffers", {"dkim_mismatched_keys": [[[], 1]]}),
        ("ZegelDiskLow", {"disk_free_bytes": [[[], 1.9e9]]}),
        (
            "ZegelCertificateEndsSoon",
            {"certificate_expires_timestamp_seconds": [[["submission"], START + 13 * 86_400]]},
        ),
        ("ZegelTenantComplaints", {"complaint_ratio": [[["shop"], 0.001]]}),
    ],
)
def test_what_stands_now(name: str, series: dict[str, Any]) -> None:
    assert standing(START, numbers(**series)) == [name]


def test_looking_for_hours_costs_no_memory() -> None:
    alarms = Alarms(3600)
    run(alarms, numbers(), 6 * 60, START)
    assert len(alarms._past) <= 180 * MINUTE / STEP + 2
