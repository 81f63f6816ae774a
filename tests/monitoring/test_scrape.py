"""A real Prometheus scrapes a gateway under load, a worker is killed on the way, and every picture has something to show."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.certificates import write_pair
from tests.harness.gateway import MESSAGE, PACE, Gateway
from tests.harness.processes import children
from tests.monitoring.files import alerts, rules
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.test_dashboards import PANELS

# Expressions that may be empty on a gateway that is well, and why. What is shown is then "no data".
REPUTATION = "set from outcomes, bounces and complaints of a tenant with enough of them (REP-1, REP-2)"
WEBHOOKS = "set for tenants that have a webhook (GDPR-25)"
MAY_BE_EMPTY = {
    "zegel_webhook_oldest_seconds": WEBHOOKS,
    "zegel_webhook_waiting_events": WEBHOOKS,
    "zegel_webhook_dead_events": WEBHOOKS,
    "zegel_incidents_open{": "there is one series for each tenant with an incident",
    "zegel_requests_": "there is one series for each tenant with a request of somebody (GDPR-24)",
    "zegel_limits_seconds": "of gateways that share their limits in Redis",
    "zegel_leaks_total": "counted when a letter holds what should not leave (DLP)",
    "zegel_bounce_ratio": REPUTATION,
    "zegel_complaint_ratio": REPUTATION,
    "zegel_reputation_senders": REPUTATION,
}
EXPECTED_ALERTS = {"ZegelProcessDied"}  # a worker is killed
AFTER_KILL_SECONDS = 60.0
SCRAPES = 25
FORGED = MESSAGE.replace(b"info@sender.example", b"info@elsewhere.example")
GUESSES = 2  # more would block this client


class Load:
    """Sends and misbehaves in a thread, until stopped: something of everything that is counted."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rounds = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(30.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._round()
            except (smtplib.SMTPException, ConnectionError):
                pass  # its worker was killed; the next one takes it
            self.rounds += 1

    def _round(self) -> None:
        port = self._gateway.doors["plain"].port
        for login, to, raw in (
            ("transactional", "ann@dest.example", MESSAGE),
            ("transactional", "ann@dest.example", FORGED),
            ("transactional", "refused@dest.example", MESSAGE),
            ("personal", "ann@dest.example", MESSAGE),
            ("marketing", "nobody@dest.example", MESSAGE),
        ):
            with smtplib.SMTP("127.0.0.1", port, timeout=15) as smtp:
                smtp.login(*self._gateway.logins[login])
                smtp.mail("info@sender.example")
                if smtp.rcpt(to)[0] == 250:
                    smtp.data(raw)
                smtp.docmd("NONSENSE")
        self._knock(self._gateway.doors["proxy"].port, b"no header at all\r\n")
        if self.rounds < GUESSES:
            with smtplib.SMTP("127.0.0.1", port, timeout=15) as smtp:
                smtp.login(self._gateway.logins["personal"][0], "guessed")  # the last of the round: it is refused

    def _knock(self, port: int, octets: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=15) as sock:
            sock.sendall(octets)
            while sock.recv(1024):
                pass


def worker_of(gateway: Gateway) -> int:
    """A process that listens for mail."""
    assert gateway.process is not None
    web = gateway.settings.web.endpoint.port
    for pid in children(gateway.process.pid):
        if not listens(pid, web):
            return pid
    raise AssertionError("no worker is there")


def listens(pid: int, port: int) -> bool:
    inodes = {
        line.split()[9]
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    held = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    return any(f"socket:[{inode}]" in held for inode in inodes)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, after a gateway worked for a while, lost a worker and worked on."""
    folder = tmp_path_factory.mktemp("watched")
    pace = PACE | {"personal_messages_per_minute": 5}
    gateway = Gateway(folder, workers=2, policies={"throttle": pace})
    write_pair(gateway.certificate, gateway.key, days=60)  # the usual one of the tests ends tomorrow, which is an alarm
    prometheus = Prometheus(folder, f"127.0.0.1:{gateway.settings.web.endpoint.port}")
    try:
        gateway.start()
        prometheus.start()
        with Load(gateway) as load:
            gateway.until(lambda: prometheus.value("sum(zegel_messages_total)") > 20, 60.0, "no load was seen")
            os.kill(worker_of(gateway), signal.SIGKILL)
            restarts = 'zegel_child_restarts_total{kind="worker"}'
            gateway.until(lambda: prometheus.value(restarts) == 1, AFTER_KILL_SECONDS, "the restart was not seen")
            before, scraped = load.rounds, prometheus.value("count_over_time(up[10m])")
            gateway.until(lambda: load.rounds > before + 5, 60.0, "no load after the kill")
            enough = max(SCRAPES, scraped + 10)
            gateway.until(lambda: prometheus.value("count_over_time(up[10m])") >= enough, 60.0, "too few scrapes")
        yield prometheus
    finally:
        prometheus.stop()
        gateway.stop()


def filled(expression: str) -> str:
    """As Grafana would send it, of all gateways."""
    return expression.replace("$instance", ".+").replace("$__rate_interval", "10s")


def may_be_empty(expression: str) -> bool:
    return any(name in expression for name in MAY_BE_EMPTY)


def test_every_panel_has_something_to_show(watched: Prometheus) -> None:
    empty = {
        (name, panel["title"], target["expr"])
        for name, panel in PANELS
        for target in panel["targets"]
        if not watched.query(filled(target["expr"])) and not may_be_empty(target["expr"])
    }
    assert empty == set()


def test_no_picture_is_of_numbers_that_are_none(watched: Prometheus) -> None:
    """A histogram that saw nothing gives NaN; under load each saw something, but of policies that were not asked."""
    for name, panel in PANELS:
        for target in panel["targets"]:
            values = [row["value"][1] for row in watched.query(filled(target["expr"]))]
            assert not values or may_be_empty(target["expr"]) or set(values) != {"NaN"}, (name, panel["title"])


def selectors(expression: str) -> Iterator[str]:
    """What an expression reads: `name{labels}`."""
    for match in re.finditer(r"\b((?:instance:)?zegel_\w+(?::\w+)?|up)(\{[^}]*\})?", expression):
        yield match[0]


def test_every_alert_and_recorded_number_reads_series_that_are_there(watched: Prometheus) -> None:
    read = {
        selector for rule in (*rules("alerts.yml"), *rules("recording.yml")) for selector in selectors(rule["expr"])
    }
    assert len(read) > 30
    assert {each for each in read if not may_be_empty(each) and not watched.query(each)} - NOT_YET == set()


# Label values that only exist once it has happened.
NOT_YET = {'zegel_smtp_events_total{event="refused_connection"}'}


def test_every_rule_is_evaluated_without_fault_and_only_the_kill_is_told(watched: Prometheus) -> None:
    said = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in said if rule["type"] == "alerting"} == set(alerts())
    assert {rule["name"]: rule.get("lastError") for rule in said if rule["health"] != "ok"} == {}
    firing = {rule["name"] for rule in said if rule.get("state") == "firing"}
    assert firing == EXPECTED_ALERTS


def test_no_counter_falls_when_a_worker_dies(watched: Prometheus) -> None:
    series = watched.query('{job="zegel",__name__=~"zegel_.*(_total|_bucket|_sum|_count)"}[10m]')
    assert len(series) > 100 and max(len(each["values"]) for each in series) >= SCRAPES
    for each in series:
        values = [float(value) for _, value in each["values"]]
        assert values == sorted(values), each["metric"]
    assert watched.value("sum(zegel_messages_total)") > 20


def test_the_page_is_answered_while_a_worker_is_gone(watched: Prometheus) -> None:
    """A scrape may come too late on a busy machine; a page that waits for a dead worker would miss many in a row."""
    (up,) = watched.query("up[10m]")
    runs = "".join(value for _, value in up["values"]).split("1")
    assert max(map(len, runs)) < 5, runs


def test_no_label_holds_an_address(watched: Prometheus) -> None:
    """OPS-1. Labels of Prometheus' own (instance, job, le) are none of ours."""
    labels = {(name, value) for row in watched.query('{job="zegel"}') for name, value in row["metric"].items()}
    assert len(labels) > 50
    assert {(name, value) for name, value in labels if "@" in value or "dest.example" in value} == set()


def test_what_the_supervisor_measures_is_true(watched: Prometheus) -> None:
    assert watched.value('zegel_processes{kind="worker",state="running"}') == 2
    assert watched.value('zegel_processes{kind="web",state="running"}') == 1
    assert 0 < watched.value("zegel_disk_free_bytes") <= watched.value("zegel_disk_size_bytes")
    assert watched.value("zegel_disk_reserve_bytes") > 0
    assert 0 <= watched.value("time() - zegel_start_time_seconds") < 600
    for listener in ("submission", "submissions", "feedback"):
        name = f'zegel_certificate_expires_timestamp_seconds{{listener="{listener}"}}'
        assert watched.value(name) > time.time(), listener
    assert watched.value('sum(zegel_tenant_messages_total{tenant="shop"})') == watched.value(
        "sum(zegel_messages_total)"
    )
    assert watched.value('sum(zegel_delivery_refusals_total{outcome="failed",subject="address"})') > 0
    assert watched.value('zegel_throttled_total{scope="credential"}') > 0
