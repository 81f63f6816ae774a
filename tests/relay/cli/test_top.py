"""`zegel top`: what it tells of two looks at a gateway, how it looks at any width, and live over a real one."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from relay.cli.demo_setup import config_text
from relay.cli.pulse import Look, pulse
from relay.cli.top import picture, span
from relay.observe import metrics
from relay.observe.registry import Snapshot
from tests.harness.gateway import MESSAGE, Gateway
from tests.relay.cli.conftest import Zegel
from tests.relay.observe.test_metrics import read

NOW = 1_767_348_000.0
HEALTHY: Snapshot = {
    "zegel_start_time_seconds": [[[], NOW - 4000]],
    "zegel_store_usable": [[[], 1]],
    "zegel_processes": [[["worker", "running"], 2], [["worker", "missing"], 0], [["web", "running"], 1]],
    "zegel_messages_total": [
        [["personal", "accept"], 100],
        [["marketing", "accept"], 50],
        [["marketing", "reject"], 7],
    ],
    "zegel_deliveries_total": [[["smarthost", "delivered"], 140], [["smarthost", "failed"], 2]],
    "zegel_refusals_total": [[["CONSENT-1"], 5], [["ID-1"], 2], [["SMTP-4"], 0]],
    "zegel_tenant_messages_total": [[["shop", "accept"], 150], [["shop", "reject"], 7], [["club", "accept"], 1]],
    "zegel_queue_messages": [[["ready"], 3], [["waiting"], 40], [["in_flight"], 1]],
    "zegel_queue_age_seconds": [[["urgent"], 12.0], [["bulk"], 700.0]],
    "zegel_held_messages": [[[], 2]],
    "zegel_held_oldest_seconds": [[[], 60.0]],
    "zegel_certificate_expires_timestamp_seconds": [[["submission"], NOW + 80 * 86_400]],
    "zegel_disk_free_bytes": [[[], 50e9]],
    "zegel_disk_reserve_bytes": [[[], 1e9]],
    "zegel_throttled_total": [[["credential"], 10]],
}


def changed(**series: Any) -> Snapshot:
    """HEALTHY with other series of some metrics, by their names without the prefix."""
    return HEALTHY | {f"zegel_{name}": value for name, value in series.items()}


def process(pid: int, messages: int, **more: Any) -> dict[str, Any]:
    numbers = {"zegel_messages_total": [[["personal", "accept"], messages]], "zegel_smtp_sessions": [[[], 4]]}
    return {"place": 0, "kind": "worker", "pid": pid, "state": "running", "numbers": numbers, **more}


def later(**series: Any) -> dict[str, Any]:
    before = Look(NOW, HEALTHY, [process(10, 100)])
    return pulse(before, Look(NOW + 2, changed(**series), [process(10, 130)]))


def test_rates_are_per_second_over_the_time_between_the_looks() -> None:
    told = later(
        messages_total=[[["personal", "accept"], 120], [["marketing", "accept"], 50], [["marketing", "reject"], 8]],
        deliveries_total=[[["smarthost", "delivered"], 150], [["capture", "delivered"], 4]],
        throttled_total=[[["credential"], 10], [["tenant"], 1]],
    )
    assert told["in"] == {"accept": 10.0, "reject": 0.5}
    assert told["out"] == {"delivered": 7.0}
    assert told["throttled"] == {"credential": 0.0, "tenant": 0.5}
    assert told["queue"] == {"ready": 3, "waiting": 40, "in_flight": 1, "held": 2, "corrupt": 0}
    assert told["oldest_seconds"] == {"urgent": 12.0, "bulk": 700.0, "held": 60.0}
    assert told["uptime_seconds"] == 4002 and told["trouble"] == []


def test_what_is_refused_most_now_stands_first() -> None:
    told = later(refusals_total=[[["CONSENT-1"], 5], [["ID-1"], 6], [["SMTP-4"], 0]])
    assert told["refusals"] == [
        {"rule": "ID-1", "per_second": 2.0, "total": 6},
        {"rule": "CONSENT-1", "per_second": 0.0, "total": 5},
    ]


def test_tenants_by_pace_with_what_they_were_refused() -> None:
    told = later(tenant_messages_total=[[["shop", "accept"], 150], [["shop", "reject"], 9], [["club", "accept"], 21]])
    assert told["tenants"] == [
        {"tenant": "club", "per_second": 10.0, "total": 21, "refused": 0},
        {"tenant": "shop", "per_second": 1.0, "total": 159, "refused": 9},
    ]


def test_a_process_that_is_new_counts_from_nothing() -> None:
    before = Look(NOW, HEALTHY, [process(10, 100)])
    told = pulse(before, Look(NOW + 2, HEALTHY, [process(10, 104), process(11, 6, place=1)]))
    assert [(each["pid"], each["per_second"], each["sessions"]) for each in told["processes"]] == [
        (10, 2.0, 4),
        (11, 3.0, 4),
    ]


def test_a_restart_between_the_looks_gives_no_pace_below_nothing() -> None:
    fresh = changed(start_time_seconds=[[[], NOW + 1]], messages_total=[[["personal", "accept"], 3]])
    told = pulse(Look(NOW, HEALTHY, []), Look(NOW + 2, fresh, []))
    assert told["in"] == {"accept": 0.0} and told["uptime_seconds"] == 1


def test_times_are_those_of_what_was_seen_between_the_looks() -> None:
    name, bounds = metrics.ACCEPT_SECONDS.name, metrics.ACCEPT_SECONDS.bounds
    slow = [[[], [0.0] * (len(bounds) - 1) + [1000.0, 0.0, 30_000.0]]]  # long ago
    quick = [[[], [200.0] + [0.0] * (len(bounds) - 2) + [1000.0, 0.0, 30_000.1]]]
    before, now = Look(NOW, HEALTHY | {name: slow}, []), Look(NOW + 1, HEALTHY | {name: quick}, [])
    assert pulse(before, now)["reply_seconds"] == bounds[0]
    assert pulse(now, now)["reply_seconds"] is None


def test_trouble_is_what_stands_now_by_the_names_of_its_alerts() -> None:
    told = later(queue_stopped=[[[], 1]], next_hops_failing=[[[], 2]], processes=[[["worker", "missing"], 1]])
    assert told["trouble"] == ["ZegelProcessMissing", "ZegelQueueStopped", "ZegelNextHopFailing"]


def drawn(told: dict[str, Any], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(picture(told, width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [38, 60, 87, 88, 100, 200])
def test_everything_is_readable_at_any_width(width: int) -> None:
    lines = drawn(later(queue_stopped=[[[], 1]]), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for word in (
        "mail",
        "accept",
        "queue",
        "waiting",
        "oldest urgent",
        "CONSENT-1",
        "shop",
        "worker 0",
        "ZegelQueueStopped",
    ):
        assert word in text, word
    assert "@" not in text


def test_a_gateway_on_which_nothing_has_happened_yet_can_be_shown() -> None:
    empty = Look(NOW, {}, [])
    assert drawn(pulse(empty, empty), 80)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.004, "4 ms"), (12, "12 s"), (75, "1 min 15 s"), (3700, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_numbers_together_are_those_of_the_page() -> None:
    """`zegel top` and Prometheus are told the same, the dead included."""
    one = json.loads(json.dumps(metrics.snapshot()))
    base = metrics.Base()
    base.add(one)
    page = read(metrics.merge([one, one], base))
    whole = metrics.together([one, one], base)
    for metric in metrics.CATALOGUE:
        names = [label.name for label in metric.labels]
        for labels, value in whole.get(metric.name, []):
            key = tuple(sorted(zip(names, labels, strict=True)))
            if isinstance(metric, metrics.Histogram):
                assert page[f"{metric.name}_count", key] == sum(value[:-1])
            else:
                assert page[metric.name, key] == value


# -- over a real gateway -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(tmp_path_factory.mktemp("gateway")).start()
    (made.folder / "zegel.toml").write_text(config_text(made.settings))
    yield made
    made.stop()


def send(gateway: Gateway, login: str, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", gateway.doors["plain"].port, timeout=15) as smtp:
        smtp.login(*gateway.logins[login])
        smtp.mail("info@sender.example")
        if smtp.rcpt(to)[0] == 250:
            smtp.data(MESSAGE)


def test_once_tells_a_script_what_happens(gateway: Gateway) -> None:
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            send(gateway, "transactional", "ann@dest.example")
            send(gateway, "marketing", "nobody@dest.example")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        gateway.until(
            lambda: gateway.metric('zegel_messages_total{stream="transactional",verdict="accept"}') > 0, 20, "no mail"
        )
        told = Zegel(gateway.folder / "zegel.toml").ask("top", "--once")
    finally:
        ended.set()
        thread.join()
    assert told["seconds"] >= 1 and told["in"]["accept"] > 0 and told["out"]["delivered"] > 0
    assert [row["rule"] for row in told["refusals"]] == ["CONSENT-1"]
    assert [(row["tenant"], row["refused"] > 0) for row in told["tenants"]] == [("shop", True)], "though it is at RCPT"
    assert (
        sorted((each["kind"], each["state"]) for each in told["processes"])
        == [("web", "running")] + [("worker", "running")] * 2
    )
    assert told["trouble"] == ["ZegelCertificateEndsSoon", "ZegelCertificateEnds"], "that of the tests does"
    assert "@" not in json.dumps(told)


def test_it_is_live_in_a_terminal_until_somebody_ends_it(gateway: Gateway) -> None:
    leader, follower = pty.openpty()
    # A shell starts what it puts in the background, a test run for one, with Ctrl-C ignored.
    heeds_ctrl_c = ["env", "--default-signal=INT"]
    command = [*heeds_ctrl_c, sys.executable, "-m", "relay", "top", "-c", str(gateway.folder / "zegel.toml")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "50"}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    watchdog = threading.Timer(30.0, process.kill)
    watchdog.start()
    seen = b""
    try:
        while seen.count(b"trouble: ") < 2:  # drawn again after a second
            seen += os.read(leader, 65536)
        process.send_signal(signal.SIGINT)
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:
        pass  # the other end is closed
    assert process.wait(10) == 0, seen.decode()
    watchdog.cancel()
    os.close(leader)
    assert b"worker 0" in seen and b"\x1b[?1049l" in seen, "the screen is given back"


def test_without_a_gateway_it_says_so(zegel: Zegel) -> None:
    zegel.ask("tenant", "add", "shop")
    answer = zegel("top", "--once")
    assert answer.code == 3 and "zegel serve" in answer.err
