"""Tenants' tools hear of who left: in order, signed, whatever the receiver does, and none holds up another."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.keyring import Keyring
from relay.observe import webhook_metrics
from relay.owner import Owner, OwnerError
from relay.owner.hook_events import GIVE_UP_SECONDS
from relay.owner.hook_events import PAUSES as TRIES
from relay.serve import hooks, safe_http
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.hooks import PAUSES, Hooks
from relay.settings.model import Settings
from relay.store import restored
from tests.fakes.clock import START, FakeClock
from tests.harness.gateway import _Places
from tests.relay.serve.hook import Came, Hook

pytestmark = pytest.mark.anyio
ANN, BOB = "ann@example.net", "bob@example.net"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Node:
    """An owner and the sender over it, with the tenants shop and kerk."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        data, keys = folder / "data", folder / "keys"
        allowed = {"webhooks": {"allowed_networks": ["127.0.0.0/8"]}}
        self.settings = Settings.model_validate({"server": {"data_dir": str(data), "keys_dir": str(keys)}, **allowed})
        self.keyring = Keyring.open(keys, create=True)
        self.owner = Owner.open(_Places(self.settings), self.keyring, now=self.clock.now)
        for tenant in ("shop", "kerk"):
            self.owner.call("tenant.add", {"name": tenant})
        self.broken: set[str] = set()
        self.sender = self.begin()

    def begin(self) -> Hooks:
        """A sender that knows of nothing yet, as after a start."""
        return Hooks(self.settings, self.op, lambda: self.keyring, clock=self.clock)

    async def op(self, name: str, args: dict[str, Any]) -> Any:
        if name in self.broken:
            raise OpUnavailable("store")
        try:
            return self.owner.call(name, args)
        except OwnerError as error:
            raise OpRefused(error.code, error.text) from None

    def add(self, hook: Hook, tenant: str = "shop", name: str = "crm", **options: Any) -> str:
        made = self.owner.call("webhook.add", {"tenant": tenant, "name": name, "url": f"{hook.url}/in", **options})
        assert isinstance(made, dict)
        return str(made["secret"])

    def say(self, op: str, address: str = ANN, tenant: str = "shop", **more: Any) -> None:
        self.owner.call(op, {"tenant": tenant, "address": address, **more})

    def shown(self, tenant: str = "shop") -> dict[str, Any]:
        rows = self.owner.call("webhook.list", {"tenant": tenant})
        assert isinstance(rows, list)
        return rows[0]

    async def send(self) -> None:
        """All that can be sent now."""
        await self.sender.look()
        await self.sender.settled()

    async def pass_time(self, seconds: float, step: float) -> None:
        """Look again each `step`, until `seconds` are over."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.advance(step)
            await self.send()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.owner.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def said(came: Came) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(came.body)
    return told


def is_signed(came: Came, secret: str) -> bool:
    """As docs/webhooks.md tells the receiver to judge."""
    parts = [part.split("=", 1) for part in came.headers["X-Zegel-Signature"].split(",")]
    at = next(value for name, value in parts if name == "t")
    wanted = hmac.new(secret.encode(), f"{at}.".encode() + came.body, hashlib.sha256).hexdigest()
    return abs(int(at) - START) < 300 and any(
        name == "v1" and hmac.compare_digest(wanted, value) for name, value in parts
    )


async def test_a_tool_hears_who_left_signed_and_once(node: Node, hook: Hook) -> None:
    secret = node.add(hook)
    node.say("consent.withdraw")
    await node.send()
    await node.send()
    (came,) = hook.came
    told = said(came)
    assert came.path == "/in" and (told["event"], told["scope"]) == ("unsubscribed", "all")
    assert came.headers["Idempotency-Key"] == told["id"] and came.headers["Content-Type"] == "application/json"
    assert is_signed(came, secret) and not is_signed(came, secret + "x") and ANN.encode() not in came.body
    assert not is_signed(came._replace(body=came.body + b" "), secret)
    shown = node.shown()
    assert (shown["waiting"], shown["failure"]) == (0, "") and shown["answered_at"]


async def test_while_a_secret_is_rotated_both_are_valid(node: Node, hook: Hook) -> None:
    first = node.add(hook)
    made = node.owner.call("webhook.rotate", {"tenant": "shop", "name": "crm", "hours": 24})
    assert isinstance(made, dict)
    node.say("consent.withdraw")
    await node.send()
    assert is_signed(hook.came[0], first) and is_signed(hook.came[0], made["secret"])
    node.clock.advance(24 * 3_600)
    node.say("consent.withdraw", BOB)
    await node.send()
    parts = hook.came[1].headers["X-Zegel-Signature"].split(",")
    assert len(parts) == 2, "the old one signs no more"


@pytest.mark.parametrize("answers", [[500], [503, 503, 503], [302], [404, 404], [429, 500, 301, 401]], ids=str)
async def test_what_is_not_taken_comes_again_in_order_with_the_same_id(
    node: Node, hook: Hook, answers: list[int]
) -> None:
    node.add(hook)
    hook.answers = list(answers)
    node.say("suppression.add", reason="restriction")
    node.say("consent.withdraw")
    await node.send()
    assert len(hook.came) == 1 and node.shown()["failure"] == f"HTTP {answers[0]}"
    await node.pass_time(3 * 3_600, 60)
    events = [said(came)["event"] for came in hook.came]
    assert events == ["suppressed"] * (len(answers) + 1) + ["unsubscribed"]
    assert len({came.headers["Idempotency-Key"] for came in hook.came}) == 2
    assert {came.path for came in hook.came} == {"/in"} and node.shown()["failure"] == ""


async def test_a_tool_that_is_down_for_an_hour_gets_everything_once_and_in_order(node: Node, hook: Hook) -> None:
    """GDPR-25."""
    node.add(hook)
    url, answers = hook.url, [503] * 1_000
    hook.answers = answers
    for number in range(30):
        node.say("suppression.add", f"p{number}@example.net", reason="restriction")
        node.say("consent.withdraw", f"p{number}@example.net")
    await node.send()
    await node.pass_time(3_600, 30)
    assert len(hook.came) < 40, "it is asked now and then, not once for each event"
    hook.answers, down = [], len(hook.came)
    await node.pass_time(1_000, 60)
    await node.pass_time(4 * 3_600, 600)
    taken: dict[str, list[str]] = {}
    for came in hook.came[down:]:
        taken.setdefault(said(came)["subject"], []).append(said(came)["event"])
    assert len(taken) == 30 and all(events == ["suppressed", "unsubscribed"] for events in taken.values())
    assert hook.url == url and node.shown()["waiting"] == 0


async def test_nobody_listens(node: Node, hook: Hook) -> None:
    node.add(hook)
    hook.close()
    node.say("consent.withdraw")
    await node.send()
    shown = node.shown()
    assert (shown["waiting"], shown["failure"]) == (1, "ConnectionRefusedError")


async def test_an_address_inside_is_not_reached_and_the_operator_sees_why(node: Node, hook: Hook) -> None:
    node.add(hook)
    node.sender.settings = Settings.model_validate({"server": {"data_dir": str(node.settings.server.data_dir)}})
    node.say("consent.withdraw")
    await node.send()
    assert hook.came == [] and "webhooks may reach" in node.shown()["failure"]


async def test_one_that_is_slow_holds_up_nobody_else(
    node: Node, hook: Hook, other: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hooks, safe_http):
        monkeypatch.setattr(module, "TOTAL_SECONDS", 60.0)  # a slow machine is no answer
    node.add(hook)
    node.add(other, "kerk")
    hook.gate.clear()
    for number in range(10):
        node.say("consent.withdraw", f"p{number}@example.net")
    await node.sender.look()
    assert await asyncio.to_thread(hook.wait, hooks.WIDTH, 20), "it has what it gets at once"
    for number in range(20):
        node.say("consent.withdraw", f"p{number}@example.net", "kerk")
    await node.sender.look()
    assert len(await asyncio.to_thread(other.wait, 20, 20)) == 20
    assert len(hook.came) == hooks.WIDTH
    hook.gate.set()
    await node.sender.settled()
    assert len(hook.came) == 10


async def test_a_poisoned_event_holds_up_its_own_person_only(node: Node, hook: Hook) -> None:
    node.add(hook)
    hook.answers = [422]
    node.say("suppression.add", ANN, reason="restriction")
    node.say("consent.withdraw", ANN)
    await node.send()
    for number in range(5):
        node.say("consent.withdraw", f"p{number}@example.net")
    await node.send()
    assert [said(came)["event"] for came in hook.came] == ["suppressed"] + ["unsubscribed"] * 5
    assert len({said(came)["subject"] for came in hook.came}) == 6


async def test_after_three_days_it_is_dead_seen_counted_and_sent_again_on_request(
    node: Node, hook: Hook, capfd: pytest.CaptureFixture[str]
) -> None:
    node.add(hook)
    hook.answers = [500] * 10_000
    node.say("consent.withdraw")
    before = webhook_metrics.TRIES.values[("dead",)]
    await node.send()
    await node.pass_time(GIVE_UP_SECONDS + TRIES[-1] + PAUSES[-1], 1_800)
    assert webhook_metrics.TRIES.values[("dead",)] == before + 1
    assert (node.shown()["waiting"], node.shown()["dead"]) == (0, 1)
    told = capfd.readouterr().err
    assert "webhook.failed" in told and "webhook.abandoned" in told
    assert ANN not in told and hook.url not in told and "whsec_" not in told
    hook.answers = []
    tried = len(hook.came)
    await node.send()
    assert len(hook.came) == tried
    node.owner.call("webhook.retry", {"tenant": "shop", "name": "crm"})
    await node.send()
    assert len(hook.came) == tried + 1 and said(hook.came[-1])["id"] == said(hook.came[0])["id"]
    assert node.shown()["dead"] == 0


async def test_who_asks_for_a_try_does_not_wait_for_the_pause(node: Node, hook: Hook) -> None:
    node.add(hook)
    hook.answers = [500] * 20
    node.say("consent.withdraw")
    await node.send()
    await node.pass_time(7_200, 60)
    tried = len(hook.came)
    hook.answers = []
    await node.send()
    assert len(hook.came) == tried, "it rests"
    node.clock.advance(1)
    node.owner.call("webhook.test", {"tenant": "shop", "name": "crm"})
    await node.send()
    await node.send()
    assert {said(came)["event"] for came in hook.came[tried:]} == {"test", "unsubscribed"}


async def test_a_gateway_that_dies_before_it_noted_sends_again_with_the_same_id(node: Node, hook: Hook) -> None:
    """At least once is what is promised, and the id tells."""
    node.add(hook)
    node.broken = {"webhook.settle"}
    node.say("consent.withdraw")
    await node.sender.look()
    await asyncio.to_thread(hook.wait, 1, 20)
    watching = asyncio.get_running_loop().create_task(node.sender.watch(asyncio.Event()))
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    node.broken, node.sender = set(), node.begin()
    await node.send()
    assert len(hook.came) == 2 and len({came.body for came in hook.came}) == 1
    assert node.shown()["waiting"] == 0


async def test_a_database_that_cannot_note_it_sends_nothing_twice(
    node: Node, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "NOTE_AGAIN_SECONDS", 0.01)
    node.add(hook)
    node.broken = {"webhook.settle"}
    node.say("consent.withdraw")
    for _ in range(5):
        await node.sender.look()
        await asyncio.to_thread(hook.wait, 1, 20)
    node.broken = set()
    await node.sender.settled()
    await node.send()
    assert len(hook.came) == 1


async def test_after_a_restore_nothing_is_told_until_the_operator_has_released_it(node: Node, hook: Hook) -> None:
    """What waits in a backup may be undone by what came after it."""
    node.add(hook)
    node.say("consent.withdraw")
    restored.write(node.settings.server.data_dir, restored.Restored(START, START + 60, 0))
    await node.send()
    assert hook.came == []
    restored.remove(node.settings.server.data_dir)
    await node.send()
    assert len(hook.came) == 1


async def test_a_webhook_that_is_removed_while_it_is_told_ends_in_peace(node: Node, hook: Hook) -> None:
    node.add(hook)
    hook.gate.clear()
    node.say("consent.withdraw")
    await node.sender.look()
    await asyncio.to_thread(hook.wait, 1, 20)
    node.owner.call("webhook.remove", {"tenant": "shop", "name": "crm"})
    hook.gate.set()
    await node.sender.settled()
    await node.send()
    assert len(hook.came) == 1


async def test_how_far_behind_a_tool_is_can_be_seen(node: Node, hook: Hook) -> None:
    node.add(hook)
    hook.answers = [500] * 100
    node.say("consent.withdraw")
    node.say("consent.withdraw", BOB)
    await node.send()
    node.clock.advance(hooks.MEASURE_SECONDS + 600)
    await node.send()
    assert webhook_metrics.WAITING.values[("shop",)] == 2
    assert webhook_metrics.OLDEST.values[("shop",)] == hooks.MEASURE_SECONDS + 600
    node.owner.call("webhook.remove", {"tenant": "shop", "name": "crm"})
    node.clock.advance(hooks.MEASURE_SECONDS)
    await node.send()
    assert webhook_metrics.WAITING.values[("shop",)] == webhook_metrics.OLDEST.values[("shop",)] == 0
