"""What the supervisor and its workers measure of themselves, on a gateway to which each of it happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.keyring import Keyring
from relay.owner import Owner
from relay.serve.boot import HISTORY
from tests.harness.certificates import write_pair
from tests.harness.client import Client
from tests.harness.gateway import MESSAGE, SENDER, Gateway, _Places
from tests.relay.cli.test_running import send

DAY = 86_400.0
ENDS = 'zegel_certificate_expires_timestamp_seconds{listener="submissions"}'
SEEN_SECONDS = 10.0  # one look at a worker a second; a silent one costs two more
MOST_RESERVE = 1 << 40
AGE_SECONDS = 40.0  # ages are looked at every quarter of a minute


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(tmp_path_factory.mktemp("gateway"), workers=2)
    with Owner.open(_Places(made.settings), Keyring.open(made.settings.server.keys_dir, create=False)) as owner:
        (record,) = owner.call("dkim.dns", {"domain": "sender.example"})
        seen = {record["name"]: ["v=DKIM1; p=c29tZWJvZHkgZWxzZQ=="]}
        assert owner.call("dkim.check", {"domain": "sender.example", "seen": seen})[0]["match"] != "matches"
    (made.settings.server.data_dir / HISTORY / "2000-01-01-0.history").mkdir(parents=True)  # retention cannot remove it
    yield made.start()
    made.stop()


def becomes(gateway: Gateway, name: str, value: float, seconds: float = SEEN_SECONDS) -> None:
    gateway.until(lambda: gateway.metric(name) == value, seconds, f"{name} did not become {value}")


def test_a_process_without_an_answer_is_silent_and_then_runs_again(gateway: Gateway) -> None:
    running, silent = (f'zegel_processes{{kind="worker",state="{state}"}}' for state in ("running", "silent"))
    becomes(gateway, running, 2)
    pid = next(each["pid"] for each in gateway.op("metrics.live")["processes"] if each["kind"] == "worker")
    os.kill(pid, signal.SIGSTOP)
    try:
        becomes(gateway, silent, 1)
        assert gateway.metric(running) == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    becomes(gateway, running, 2)


def test_the_certificate_in_force_is_measured_not_the_file(gateway: Gateway) -> None:
    becomes(gateway, "zegel_reload_refused", 0)
    gateway.until(lambda: gateway.metric(ENDS) > 0, SEEN_SECONDS, "not measured")
    before = gateway.metric(ENDS)
    assert 0 < before - time.time() < 2 * DAY
    write_pair(gateway.certificate, gateway.folder / "other.key", days=60)
    gateway.signal(signal.SIGHUP)
    becomes(gateway, "zegel_reload_refused", 1)
    assert gateway.metric(ENDS) == before, "the key does not belong to it"
    write_pair(gateway.certificate, gateway.key, days=60)
    gateway.signal(signal.SIGHUP)
    becomes(gateway, "zegel_reload_refused", 0)
    gateway.until(lambda: gateway.metric(ENDS) - time.time() > 59 * DAY, SEEN_SECONDS, "the new one is not in force")


def shown(gateway: Gateway) -> set[bytes]:
    """The certificates that twenty connections see, which come to all workers."""
    seen = set()
    for _ in range(20):
        with gateway.connect("implicit") as client:
            seen.add(client.certificate)
    return seen


def test_a_worker_that_hangs_is_told_of_and_a_reload_replaces_it(gateway: Gateway) -> None:
    """None goes on with the old certificate, and nothing waits for it for long."""
    becomes(gateway, 'zegel_processes{kind="worker",state="running"}', 2)
    before = shown(gateway)
    pid = next(each["pid"] for each in gateway.op("metrics.live")["processes"] if each["kind"] == "worker")
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    answer = gateway._ask("queue.list", {})
    assert f"(process {pid}) does not answer" in answer["error"] and time.monotonic() - began < 10.0
    write_pair(gateway.certificate, gateway.key)
    gateway.signal(signal.SIGHUP)
    becomes(gateway, "zegel_reload_refused", 1, 20.0)
    becomes(gateway, "zegel_reload_refused", 0, 30.0)
    becomes(gateway, 'zegel_processes{kind="worker",state="running"}', 2)
    after = shown(gateway)
    assert len(after) == 1 and not after & before
    assert "did not answer and is replaced" in (gateway.folder / "gateway.log").read_text()


def test_a_key_that_dns_shows_otherwise_is_counted(gateway: Gateway) -> None:
    becomes(gateway, "zegel_dkim_mismatched_keys", 1)


def test_retention_that_fails_is_counted(gateway: Gateway) -> None:
    becomes(gateway, "zegel_upkeep_failures_total", 1)


def test_workers_that_cannot_read_what_has_changed_are_told(gateway: Gateway) -> None:
    becomes(gateway, "zegel_directory_stale", 0)
    keys = gateway.settings.server.keys_dir
    away = keys.rename(keys.with_name("away"))
    try:
        gateway.op("tenant.set", name="shop", category="toys")
        becomes(gateway, "zegel_directory_stale", 1)
    finally:
        away.rename(keys)
    becomes(gateway, "zegel_directory_stale", 0)


def test_what_waits_and_what_is_held_have_ages_of_their_own(gateway: Gateway) -> None:
    gateway.sink.close()
    ids = [
        send(gateway, gateway.logins[login], MESSAGE, ["ann@dest.example"]).rpartition(" ")[2]
        for login in ("transactional", "personal")
    ]
    becomes(gateway, "zegel_next_hops_failing", 1)
    gateway.until(lambda: gateway.attempt("queue.hold", id=ids[0]) is not None, SEEN_SECONDS, "it could not be held")
    for name in ("zegel_held_oldest_seconds", 'zegel_queue_age_seconds{rank="urgent"}'):
        gateway.until(lambda name=name: gateway.metric(name) > 0, AGE_SECONDS, f"{name} was not measured")
    assert gateway.metric('zegel_queue_age_seconds{rank="bulk"}') == 0
    assert gateway.metric('zegel_tenant_messages_total{tenant="shop",verdict="accept"}') == 2


def test_mail_that_is_refused_before_its_data_is_refused_mail(gateway: Gateway) -> None:
    """A bought list is refused at RCPT, a made-up sender at MAIL: what ZegelRefusesMost and the dashboards must see."""
    before = {verdict: count(gateway, verdict) for verdict in ("accept", "reject")}
    with gateway.connect() as client:
        client.login(*gateway.logins["marketing"])
        for made_up in ("x@dest.example", "y@dest.example"):
            says(client, f"MAIL FROM:<{SENDER}>", 250)
            for _ in range(2):  # of one mail, however many of its recipients are refused
                says(client, f"RCPT TO:<{made_up}>", 550)
            says(client, "RSET", 250)
        says(client, "MAIL FROM:<info@other.example>", 553)
        says(client, f"MAIL FROM:<{SENDER}>", 250)
        says(client, "RCPT TO:<z@dest.example>", 550)
        says(client, "RCPT TO:<ann@dest.example>", 250)  # it goes on with her, so it is not refused
        says(client, "RSET", 250)
        says(client, f"MAIL FROM:<{SENDER}>", 250)
        says(client, "RCPT TO:<last@dest.example>", 550)
        says(client, "QUIT", 221)
    gateway.until(lambda: count(gateway, "reject") == before["reject"] + 4, SEEN_SECONDS, "they were not counted")
    assert count(gateway, "accept") == before["accept"]


def count(gateway: Gateway, verdict: str) -> float:
    values = {
        gateway.metric(f'zegel_messages_total{{stream="marketing",verdict="{verdict}"}}'),
        gateway.metric(f'zegel_tenant_messages_total{{tenant="shop",verdict="{verdict}"}}'),
    }
    return values.pop() if len(values) == 1 else -1.0


def says(client: Client, command: str, code: int) -> None:
    assert client.ask(command).startswith(str(code)), command


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    if disk.f_bavail * disk.f_frsize >= MOST_RESERVE:
        pytest.skip("there is more room here than limits.min_free_disk_bytes can ask for")
    gateway = Gateway(tmp_path, workers=1, limits={"min_free_disk_bytes": MOST_RESERVE}).start()
    try:
        becomes(gateway, "zegel_queue_stopped", 1)
        becomes(gateway, "zegel_disk_reserve_bytes", MOST_RESERVE)
        assert 0 < gateway.metric("zegel_disk_free_bytes") < MOST_RESERVE
    finally:
        gateway.stop()
