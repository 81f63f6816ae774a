"""SIGHUP to `zegel serve`: what changed in the config holds, and the service goes on."""

from __future__ import annotations

import base64
import json
import signal
import smtplib
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relay.cli.client import Link
from relay.policy.catalogue import ORDER
from relay.serve.channel import OpRefused
from relay.settings.load import load
from tests.harness.moody import OFFERS, Moody
from tests.harness.ports import free_ports
from tests.harness.served import Served
from tests.harness.sink import Arrived
from tests.relay.cli.conftest import Zegel

PATIENCE_SECONDS = 60.0
CONFIG = """
[server]
hostname = "{hostname}"
data_dir = "data"
keys_dir = "keys"
workers = {workers}
language = "en"
log_level = "info"
drain_timeout_seconds = {drain}
[[listener]]
address = "127.0.0.1:{smtp}"
tls = "off"
[web]
address = "127.0.0.1:{web}"
public_url = "http://127.0.0.1:{web}"
[limits]
max_message_bytes = {size}
[policies.pipeline]
order = [{order}]
{more}
"""
ALL = ", ".join(f'"{name}"' for name in ORDER)
GIVEN = {"hostname": "one.example", "workers": 2, "size": 20_000_000, "order": ALL, "drain": 5, "more": ""}


class Running:
    """A gateway of a config that changes."""

    login: dict[str, str]

    def __init__(self, zegel: Zegel, *, is_sending: bool = False, **given: object) -> None:
        """`is_sending`: with a login, for `send`."""
        self.config = zegel.config
        self.ports = dict(zip(("smtp", "web"), free_ports(2), strict=True))
        self.given = {**GIVEN, **given}
        self.write()
        assert zegel("tenant", "add", "shop").code == 0
        if is_sending:
            zegel.ask("domain", "add", "shop", "shop.example", "--vouched")
            zegel.ask("dkim", "add", "shop.example", "--vouched")
            self.login = zegel.ask("credential", "add", "shop", "--stream", "personal", "--from", "ann@shop.example")
        self.log = zegel.config.parent / "gateway.log"
        self.served = Served(zegel.config, log=self.log)
        assert "Ready" in self.served.ready(), self.log.read_text()

    def write(self, **changed: object) -> None:
        self.config.write_text(CONFIG.format(**{**self.given, **self.ports, **changed}))

    def reload(self, **changed: object) -> dict[str, Any]:
        """Write the config, say SIGHUP, wait for its end; the line of the log that says so."""
        self.write(**changed)
        return self.hang_up("settings.reloaded")

    def hang_up(self, event: str) -> dict[str, Any]:
        """SIGHUP; the next line of the log with that event."""
        before = len(self.said(event))
        self.served.process.send_signal(signal.SIGHUP)
        self.until(lambda: len(self.said(event)) > before, f"{event} is not said")
        return self.said(event)[before]

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [row for row in rows if row["event"] == event]

    def until(self, condition: Callable[[], object], otherwise: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, f"{otherwise}: {self.log.read_text()}"
            time.sleep(0.05)

    def connect(self, timeout: float = 30) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.ports["smtp"], local_hostname="client.example", timeout=timeout)

    def knock(self) -> object:
        """What a connection is told at EHLO or, if a process that ends sends it away, 421; an error if nobody answers."""
        try:
            with self.connect(timeout=15) as smtp:
                return smtp.ehlo()[0]
        except smtplib.SMTPServerDisconnected:
            return 421
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        except OSError as error:
            return error

    def send(self) -> None:
        """A mail of `login`."""
        head = "From: ann@shop.example\r\nTo: bob@example.net\r\nSubject: Lunch\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        with self.connect() as smtp:
            smtp.login(self.login["username"], self.login["password"])
            smtp.sendmail("ann@shop.example", ["bob@example.net"], f"{head}\r\nShall we?\r\n")

    def sizes(self) -> set[str]:
        """What twenty connections, which come to all workers, are offered as SIZE."""
        found = set()
        for _ in range(20):
            with self.connect() as smtp:
                smtp.ehlo()
                found.add(smtp.esmtp_features["size"])
        return found

    def web(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['web']}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        return sum(float(line.split()[-1]) for line in self.web("/metrics").splitlines() if line.startswith(name))


@pytest.fixture
def running(zegel: Zegel) -> Iterator[Running]:
    made = Running(zegel)
    yield made
    code, _ = made.served.end()
    assert code == 0


def test_what_changed_holds_in_every_process_and_nobody_is_turned_away(running: Running) -> None:
    """A worker that drains may send a session away (421), and who comes then waits for the next; nobody finds the port closed."""
    greeted: list[object] = []
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            greeted.append(running.knock())

    idle = running.connect()
    knocking = threading.Thread(target=knock)
    knocking.start()
    told = running.reload(hostname="two.example", size=1_000_000)
    over.set()
    knocking.join(PATIENCE_SECONDS)
    reply = idle.noop()[0]
    idle.close()
    assert told["changed"] == ["limits.max_message_bytes", "server.hostname"]
    assert set(greeted) <= {250, 421} and 250 in greeted, greeted
    assert running.sizes() == {"1000000"}
    assert reply == 421
    assert running.metric("zegel_child_restarts_total") == 0, "nothing has failed"
    assert running.metric("zegel_reload_refused") == 0
    assert not running.said("child.ended")


def test_a_config_with_a_mistake_changes_nothing(running: Running) -> None:
    with running.connect() as smtp:
        running.write(size='"large"', hostname="two.example")
        told = running.hang_up("settings.refused")
        assert "limits.max_message_bytes" in told["problem"] and "zegel.toml" in told["problem"]
        running.write()
        running.config.write_text(running.config.read_text() + "nonsense [[\n")
        assert "zegel.toml" in running.hang_up("settings.refused")["problem"]
        running.until(lambda: running.metric("zegel_reload_refused") == 1, "it is no alarm")
        assert running.reload()["changed"] == []
        running.until(lambda: running.metric("zegel_reload_refused") == 0, "it stays an alarm")
        assert smtp.noop()[0] == 250, "no session had to end"
    assert running.sizes() == {"20000000"}


def test_what_only_a_start_can_take_in_is_named_and_the_rest_holds(running: Running) -> None:
    (other,) = free_ports(1)
    kept = running.ports["smtp"]
    running.ports["smtp"] = other
    running.write(workers=1, size=2_000_000)
    running.ports["smtp"] = kept
    running.hang_up("settings.reloaded")
    assert running.said("settings.postponed")[-1]["keys"] == ["listener", "server.workers"]
    assert running.sizes() == {"2000000"}
    assert "listener, server.workers hold from the next start" in running.web("/readyz")
    running.reload(size=2_000_000)
    assert "next start" not in running.web("/readyz")
    assert len(running.said("settings.postponed")) == 1


def test_the_owner_judges_by_the_new_policies_too(running: Running) -> None:
    """Who asks over the control socket, as the web process does."""
    mode = {"tenant": "shop", "policy": "leaks", "mode": "observe"}
    with Link(load(running.config, environment={})) as link:
        link.call("policy.mode", mode)
        running.reload(order='"classification", "identity", "consent", "unsubscribe", "throttle"')
        with pytest.raises(OpRefused, match="must be one of"):
            link.call("policy.mode", mode)
        link.call("policy.mode", {**mode, "policy": "consent"})


SMARTHOST = """
[delivery]
mode = "smarthost"
smarthosts = ["smtp://127.0.0.1:{port}"]
tls = "off"
username = "gateway"
password_file = "smarthost.secret"
"""


class Hop(Moody):
    """A smarthost that wants a login, whose word after the final dot comes when `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.dots = 0
        self.logins: list[bytes] = []
        super().__init__((*OFFERS, "AUTH PLAIN"), self._judge)

    def _judge(self, line: str, message: Arrived) -> bytes | None:
        if line == ".":
            self.dots += 1
            self.open.wait(PATIENCE_SECONDS)
        if line.startswith("AUTH PLAIN "):
            self.logins.append(base64.b64decode(line.split()[-1]).split(b"\0")[-1])
            return b"235 2.7.0 welcome"
        return None


@pytest.fixture
def hop() -> Iterator[Hop]:
    made = Hop()
    yield made
    made.open.set()
    made.close()


@pytest.fixture
def relaying(zegel: Zegel, hop: Hop) -> Iterator[Running]:
    """A gateway with a next hop."""
    (zegel.config.parent / "smarthost.secret").write_text("old\n")
    made = Running(zegel, is_sending=True, more=SMARTHOST.format(port=hop.port), drain=30)
    yield made
    hop.open.set()
    code, _ = made.served.end()
    assert code == 0


def test_a_slow_next_hop_keeps_nobody_waiting_at_the_door(relaying: Running, hop: Hop) -> None:
    """The doors were closed for as long as deliveries took: half a minute without a greeting for half of those who came."""
    relaying.send()
    assert hop.until(lambda: hop.dots == 1)
    relaying.write(hostname="two.example")
    relaying.served.process.send_signal(signal.SIGHUP)
    greeted = []
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        greeted.append(relaying.knock())
    assert set(greeted) <= {250, 421}, "a process that ends may send away whom it had just let in"
    assert greeted.count(250) > 10 * greeted.count(421)
    hop.open.set()
    relaying.until(lambda: relaying.said("settings.reloaded"), "it does not end")
    assert [each.rcpt for each in hop.wait(1)] == [["RCPT TO:<bob@example.net>"]]
    assert hop.dots == 1
    counted = 'zegel_deliveries_total{outcome="delivered"'
    relaying.until(lambda: relaying.metric(counted) == 1, "what a worker counted at last is lost")


def test_a_new_password_in_the_same_file_is_taken_in(relaying: Running, hop: Hop) -> None:
    """Only the settings were compared: it said that all was well, and the next login was refused."""
    hop.open.set()
    relaying.send()
    hop.wait(1)
    (relaying.config.parent / "smarthost.secret").write_text("new\n")
    assert relaying.hang_up("settings.reloaded")["changed"] == ["delivery.password_file"]
    relaying.send()
    hop.wait(2)
    assert hop.logins[0] == b"old" and hop.logins[-1] == b"new"
    assert relaying.hang_up("settings.reloaded")["changed"] == []
