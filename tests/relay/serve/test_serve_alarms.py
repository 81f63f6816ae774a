"""Alarms reach people: a signed POST that is tried again, a mail through our own queue, and a real gateway that tells its own."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import hashlib
import hmac
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.observe import metrics
from relay.observe.alarms import CONDITIONS, Change
from relay.observe.registry import Snapshot
from relay.serve import webhook
from relay.serve.bell import MOST_LETTERS, Bell, Letter
from relay.serve.channel import OpUnavailable
from relay.serve.webhook import signature
from relay.settings.model import Settings
from tests.fakes.clock import FakeClock
from tests.harness.gateway import Gateway
from tests.relay.serve.hook import Came, Hook

KEY = "a key of thirty-two characters.."
TRIES = (0.0,) * 5
OPS, BOSS = "ops@dest.example", "boss@dest.example"
TOLD_SECONDS = 60.0  # looks are a quarter of a minute apart


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


class Post:
    """worker.submit: refuses as often as it is told, then takes."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.taken: list[dict[str, Any]] = []

    async def __call__(self, args: dict[str, Any]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OpUnavailable("worker")
        self.taken.append(args)


def bell(folder: Path, url: str = "", post: Post | None = None, numbers: Snapshot | None = None, **alarms: Any) -> Bell:
    (folder / "secret").write_text(f"{KEY}\n")
    table = alarms | ({"webhook_url": url, "webhook_secret_file": str(folder / "secret")} if url else {})
    settings = Settings.model_validate({"server": {"hostname": "gw.test"}, "alarms": table})
    return Bell(settings, lambda: numbers or {}, post or Post(), clock=FakeClock())


def change(name: str, state: Any = "begun", labels: str = "") -> Change:
    condition = next(each for each in CONDITIONS if each.name == name)
    return Change(condition, labels, state, 3.0, 1_767_348_000.0)


LETTER = Letter("id1", 1_767_348_060.0, "gw.test", (change("ZegelCertificateEndsSoon"), change("ZegelQueueStopped")))


def count(way: str, outcome: str) -> float:
    return float(metrics.ALARMS.values[way, outcome])


def is_ours(came: Came) -> bool:
    """As docs/operating.md tells the receiver to judge."""
    parts = dict(part.split("=") for part in came.headers["X-Zegel-Signature"].split(","))
    wanted = hmac.new(KEY.encode(), parts["t"].encode() + b"." + came.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, parts["v1"])


async def test_a_webhook_is_signed_and_says_what_it_is_about(tmp_path: Path, hook: Hook) -> None:
    one = bell(tmp_path, hook.url + "/zegel?team=mail")
    before = count("webhook", "told")
    await one.tell(one._lines[0], LETTER, TRIES)
    (came,) = hook.came
    assert came.path == "/zegel?team=mail" and is_ours(came) and came.headers["Content-Type"] == "application/json"
    said = json.loads(came.body)
    assert (said["id"], said["gateway"]) == ("id1", "gw.test") and came.headers["Idempotency-Key"] == "id1"
    assert [(alarm["alarm"], alarm["severity"], alarm["state"]) for alarm in said["alarms"]] == [
        ("ZegelCertificateEndsSoon", "warning", "begun"),
        ("ZegelQueueStopped", "critical", "begun"),
    ]
    assert said["alarms"][1]["runbook"] == "docs/operating.md#zegelqueuestopped"
    assert count("webhook", "told") == before + 1


def test_a_signature_is_of_the_time_the_body_and_the_key() -> None:
    at = 1_767_348_000
    good = signature(KEY, at, b"{}")
    assert good.startswith(f"t={at},v1=") and len(good) == len(f"t={at},v1=") + 64
    others = {signature(KEY, at + 1, b"{}"), signature(KEY, at, b"{ }"), signature("k", at, b"{}")}
    assert len(others) == 3 and good not in others


async def test_what_is_away_is_tried_again_with_the_same_id(tmp_path: Path, hook: Hook) -> None:
    hook.answers = [500, 503, 429]
    one = bell(tmp_path, hook.url)
    await one.tell(one._lines[0], LETTER, TRIES)
    assert len(hook.came) == 4 and len({came.headers["Idempotency-Key"] for came in hook.came}) == 1
    assert all(map(is_ours, hook.came))


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 401, 404, 410])
async def test_what_is_refused_or_sent_elsewhere_ends_there(tmp_path: Path, hook: Hook, code: int) -> None:
    hook.answers = [code]
    one, before = bell(tmp_path, hook.url), count("webhook", "lost")
    await one.tell(one._lines[0], LETTER, TRIES)
    assert [came.path for came in hook.came] == ["/"] and count("webhook", "lost") == before + 1


async def test_what_nobody_takes_is_counted_and_the_log_names_no_address(
    tmp_path: Path, hook: Hook, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.close()
    one, before = bell(tmp_path, hook.url.replace("127.0.0.1", "localhost")), count("webhook", "lost")
    await one.tell(one._lines[0], LETTER, TRIES)
    assert count("webhook", "lost") == before + 1
    said = capfd.readouterr().err
    assert "alarm.dropped" in said and "ZegelQueueStopped" in said
    assert "localhost" not in said and KEY not in said


async def test_each_reader_gets_a_mail_of_his_own_and_none_gets_it_twice(tmp_path: Path) -> None:
    post = Post(refusals=3)
    one = bell(tmp_path, post=post, mail_to=[OPS, BOSS])
    for line in one._lines:
        await one.tell(line, LETTER, TRIES)
    assert [args["recipient"] for args in post.taken] == [OPS, BOSS]
    for args in post.taken:
        assert args["tenant"] == {"id": 0, "name": ""}
        mail = email.message_from_string(args["raw"], policy=email.policy.default)
        assert mail["To"].addresses[0].addr_spec == args["recipient"]
        assert mail["Subject"] == "[gw.test] critical: No new mail is taken: the queue cannot be written and 1 more"
        assert mail["Auto-Submitted"] == "auto-generated" and mail["From"].addresses[0].domain == "gw.test"
        assert "docs/operating.md#zegelqueuestopped" in mail.get_content()


def test_what_is_over_is_said_so() -> None:
    over = Letter("id2", 0.0, "gw.test", (change("ZegelQueueStopped", "over"),))
    assert over.subject == "[gw.test] over: No new mail is taken: the queue cannot be written"


async def test_what_changes_at_one_look_is_one_letter_and_the_line_is_bounded(tmp_path: Path, hook: Hook) -> None:
    broken: Snapshot = {"zegel_crashes_total": [[["web"], 1]], "zegel_records_lost_total": [[["outbox"], 4]]}
    numbers: Snapshot = {}
    one = bell(tmp_path, hook.url, numbers=numbers)
    numbers["zegel_store_usable"] = [[[], 1]]
    one.look()
    assert one._lines[0].letters.empty()
    numbers.update(broken)
    one.look()
    letter = one._lines[0].letters.get_nowait()
    assert [change.condition.name for change in letter.changes] == ["ZegelCrashed", "ZegelRecordsLost"]
    before = count("webhook", "lost")
    for number in range(MOST_LETTERS + 5):
        numbers["zegel_crashes_total"] = [[[f"place{number}"], 1]]
        one.look()
    assert one._lines[0].letters.full() and count("webhook", "lost") == before + 5


@contextlib.contextmanager
def dripping() -> Iterator[tuple[str, threading.Event]]:
    """A webhook that answers an octet at a time and never ends, and whether it was asked."""
    asked, over = threading.Event(), threading.Event()
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def drip() -> None:
            came, _ = door.accept()
            with came, contextlib.suppress(OSError):
                came.recv(65_536)
                came.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                asked.set()
                while not over.wait(0.1):
                    came.sendall(b"a")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}", asked
        over.set()
        thread.join(10.0)


def test_a_webhook_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.5)
    with dripping() as (url, asked), pytest.raises(webhook.Away, match="TimeoutError"):
        webhook.post(url, KEY, b"{}", at=1, key="id1")
    assert asked.is_set()


def test_who_stops_does_not_wait_for_a_webhook_and_counts_its_letters(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The end of the event loop included, which waits for its own threads."""
    numbers: Snapshot = {"zegel_store_usable": [[[], 1]]}
    before = count("webhook", "lost")

    async def work(url: str, asked: threading.Event) -> float:
        one, stopping = bell(tmp_path, url, numbers=numbers), asyncio.Event()
        one.look()
        for place in ("web", "session"):
            numbers.setdefault("zegel_crashes_total", []).append([[place], 1])
            one.look()
        watching = asyncio.create_task(one.watch(stopping))
        await asyncio.to_thread(asked.wait, 10.0)
        stopping.set()
        began = time.monotonic()
        await watching
        return began

    with dripping() as (url, asked):
        began = asyncio.run(work(url, asked))
        assert asked.is_set() and time.monotonic() - began < webhook.TIMEOUT_SECONDS / 2
    assert count("webhook", "lost") == before + 2
    assert capfd.readouterr().err.count("the gateway stops") == 2


def test_a_gateway_tells_of_itself_by_mail_and_webhook(tmp_path: Path) -> None:
    """A worker is killed: the log, the webhook and the reader of mail hear of it, with no address anywhere in between."""
    hook = Hook(503)
    (tmp_path / "secret").write_text(KEY)
    alarms = {"mail_to": [OPS], "webhook_url": hook.url, "webhook_secret_file": str(tmp_path / "secret")}
    gateway = Gateway(tmp_path, workers=1, alarms=alarms).start()
    try:
        pid = next(each["pid"] for each in gateway.op("metrics.live")["processes"] if each["kind"] == "worker")
        os.kill(pid, signal.SIGKILL)
        first, second = hook.wait(2, TOLD_SECONDS)
        assert is_ours(first) and is_ours(second) and first.body == second.body, "the first was answered with 503"
        (alarm,) = json.loads(second.body)["alarms"]
        assert (alarm["alarm"], alarm["labels"], alarm["state"]) == ("ZegelProcessDied", "worker", "begun")
        (mail,) = gateway.sink.wait(1, TOLD_SECONDS)
        assert mail.mail.startswith("MAIL FROM:<>") and OPS in mail.rcpt[0]
        assert "A process died and was started again" in mail.head
        told = 'zegel_alarms_total{outcome="told",way="%s"}'
        gateway.until(
            lambda: gateway.metric(told % "mail") == gateway.metric(told % "webhook") == 1, 20.0, "not counted"
        )
    finally:
        gateway.stop()
        hook.close()
    log = (tmp_path / "gateway.log").read_text()
    assert "alarm.raised" in log and "@" not in log
